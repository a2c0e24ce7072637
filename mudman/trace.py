"""What an unlearning run says of each of its loops, when asked: how gradients and updates relate.

The paper's dynamics rest on these (arXiv 2506.12484): norms shrink late, about half of the signs agree.
"""

import torch
from torch import Tensor

from mudman import results

FIELDS = tuple(field for field in results.Trace.model_fields if field != "loop")


class Trace:
    """Collects 0-d tensors per loop without waiting for the device; ``result`` reads them at the end."""

    def __init__(self):
        self.loops: list[dict[str, Tensor]] = []

    def begin(self) -> None:
        """A loop begins; what is recorded until the next call is of it."""
        self.loops.append({})

    def record(self, **values: Tensor) -> None:
        """Values of this loop by the names of ``results.Trace``."""
        self.loops[-1].update({name: value.detach() for name, value in values.items()})

    def result(self) -> results.Trace:
        """One tuple per quantity, with None where a loop had no such value, or none that is finite."""
        columns = {name: tuple(_number(loop.get(name)) for loop in self.loops) for name in FIELDS}
        return results.Trace(loop=tuple(range(len(self.loops))), **columns)


def _number(value: Tensor | None) -> float | None:
    return None if value is None else float(value)


def agreeing(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Share of entries whose signs are equal and not zero, as a 0-d float32 tensor."""
    equal = [((torch.sign(a) == torch.sign(b)) & (a != 0)).sum() for a, b in zip(ours, theirs, strict=True)]
    return torch.stack(equal).sum() / sum(tensor.numel() for tensor in ours)


def harmful(update: list[Tensor], retain: list[Tensor]) -> Tensor:
    """Share of the update's first-order effect on the retain loss that raises it: Σ max(0, −u·g) / Σ |u·g|.

    ``update`` is subtracted from the weights: an entry harms where its sign differs from the retain gradient's.
    """
    products = [(u.float() * g.float()) for u, g in zip(update, retain, strict=True)]
    raising = torch.stack([product.clamp(max=0).sum().neg() for product in products]).sum()
    total = torch.stack([product.abs().sum() for product in products]).sum()
    return torch.where(total > 0, raising / total, torch.zeros_like(total))
