"""Float32 matrix products on AMD processors with AVX-512.

torch hands them to MKL, which takes a slower path on processors of another make; oneDNN comes with torch as well and
does not. Inside ``fast_products`` it forms them: the same arithmetic in another order of sums. Which of the two serves
is a property of the machine, never of a measurement, so that a trial comes out the same there every time.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.library import _scoped_library

SMALL = 32**3
"""Multiplications below which torch's own product is as good."""
_inside = False


@cache
def mkl_is_slow() -> bool:
    """Whether this processor is one on which oneDNN's products are faster."""
    cpuinfo = Path("/proc/cpuinfo")
    amd = cpuinfo.exists() and "AuthenticAMD" in cpuinfo.read_text()
    return amd and torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.backends.mkldnn.is_available()


@contextmanager
def fast_products() -> Iterator[None]:
    """Of the whole process, while it is inside; may be entered again there."""
    global _inside
    if _inside or not mkl_is_slow():
        yield
        return
    with _scoped_library("aten", "IMPL") as library, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators")
        library.impl("mm", _mm, "CPU", allow_override=True)
        library.impl("addmm", _addmm, "CPU", allow_override=True)
        _inside = True
        try:
            yield
        finally:
            _inside = False


def _mm(a: Tensor, b: Tensor) -> Tensor:
    if _suits(a, b):
        return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    # The kernel that is overridden here has a twin that writes into a given tensor.
    return torch.mm(a, b, out=a.new_empty(0))


def _addmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if _suits(a, b) and c.dim() == 1 and c.dtype == torch.float32 and beta == alpha == 1 and len(c) == b.shape[1]:
        return torch.ops.mkldnn._linear_pointwise(a, b.t(), c, "none", [], "")
    return torch.addmm(c, a, b, beta=beta, alpha=alpha, out=a.new_empty(0))


def _suits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype == torch.float32 and a.shape[0] * a.shape[1] * b.shape[-1] > SMALL
