"""Bytes of tensor storage alive at once, counted operation by operation: exact, the same on every machine."""

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Within it, ``peak`` is the most bytes that storages made by torch operations held together.

    Storages of ``given`` tensors (the model, its inputs) are not counted. What a kernel allocates and frees within one
    operation is not seen.
    """

    def __init__(self, given: list[torch.Tensor]):
        super().__init__()
        self._given = [t.untyped_storage() for t in given]  # held, so that no new storage can take their address
        self._known = {storage._cdata for storage in self._given}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._bound = 0
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._known or storage._cdata in self._live:
            return
        # The weak reference keeps the address from being used again until it is swept.
        self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._bound += storage.nbytes()
        if self._bound > self.peak:  # an upper bound until the dead are swept out
            self._live = {address: entry for address, entry in self._live.items() if not entry[0].expired()}
            self._bound = sum(size for _, size in self._live.values())
            self.peak = max(self.peak, self._bound)
