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
    elif model.compute == "bfloat16":
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


def _check(model: ModelSpec, device: torch.device) -> None:
    if model.compute == "tf32" and device.type == "cpu":
        remedy = "leave model.compute out, or give the trials a GPU (resources.gpus)"
        raise SpecError.at("model.compute", "tf32 is a type of GPUs, and the trials run on a CPU", remedy)
    if model.compute == "bfloat16" and not (has_bfloat16() if device.type == "cpu" else torch.cuda.is_bf16_supported()):
        remedy = "leave model.compute out: it would be slower than float32"
        raise SpecError.at("model.compute", "this machine's processor has no products in bfloat16", remedy)
