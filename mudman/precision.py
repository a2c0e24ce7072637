"""In which precision a trial's products are computed, while weights, gradients and updates keep the model's type."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mudman.faults import SpecError
from mudman.heap import large_tensors_kept
from mudman.products import fast_products, has_bfloat16
from mudman.specs import ModelSpec


@contextmanager
def computing(model: ModelSpec, device: torch.device) -> Iterator[None]:
    """Inside, products are formed as ``model.compute`` says. Raises ``SpecError`` where the device cannot."""
    _check(model, device)
    if device.type == "cpu":
        with large_tensors_kept(), fast_products(torch.bfloat16 if model.compute else None):
            yield
        return
    with _deterministic():
        if model.compute == "bfloat16":
            # Weights change between forwards: a copy of them that was kept would be stale.
            with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
                yield
        elif model.compute == "tf32":
            before = torch.backends.cuda.matmul.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = True
            try:
                yield
            finally:
                torch.backends.cuda.matmul.allow_tf32 = before
        else:
            yield


@contextmanager
def _deterministic() -> Iterator[None]:
    """On a card the same seeds give the same values only where that is asked for: many kernels add in the order in
    which their threads come. Of one that has no other form (``kthvalue``) torch warns. What products need for it must
    be in the environment before the process starts (``CUBLAS_WORKSPACE_CONFIG=:4096:8``), as our nodes have it. Memory
    that nobody reads before it is written needs no filling, which torch would do as well."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled


def _check(model: ModelSpec, device: torch.device) -> None:
    if model.compute == "tf32" and device.type == "cpu":
        remedy = "leave model.compute out, or give the trials a GPU (resources.gpus)"
        raise SpecError.at("model.compute", "tf32 is a type of GPUs, and the trials run on a CPU", remedy)
    if model.compute and not _has(model.compute, device):
        remedy = "leave model.compute out: it would be no faster than float32"
        raise SpecError.at("model.compute", f"this machine's processor has no products in {model.compute}", remedy)


def _has(compute: str, device: torch.device) -> bool:
    if device.type == "cpu":
        return has_bfloat16()
    if compute == "bfloat16":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cuda.get_device_capability() >= (8, 0)
