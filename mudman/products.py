"""Matrix products on a CPU by oneDNN, which comes with torch: where torch's own are slow, and in bfloat16 on request.

torch hands products of float32 to MKL, which takes a slower path on processors of another make than its own. Inside
``fast_products`` oneDNN forms them: the same arithmetic in another order of sums. Which of the two serves is a property
of the machine, never of a measurement, so that a trial comes out the same there every time.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.library import _scoped_library

from mudman.attention import SHORT, attention
from mudman.linear import linear

SMALL = 32**3
"""Multiplications below which torch's own product is as good."""

_inside = False
_lower: torch.dtype | None = None


@cache
def mkl_is_slow() -> bool:
    """Whether this processor is one on which oneDNN's products of float32 are faster."""
    cpuinfo = Path("/proc/cpuinfo")
    amd = cpuinfo.exists() and "AuthenticAMD" in cpuinfo.read_text()
    return amd and torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.backends.mkldnn.is_available()


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def lower() -> torch.dtype | None:
    """Type in which float32 tensors are multiplied now, where it is not their own."""
    return _lower


@contextmanager
def fast_products(dtype: torch.dtype | None = None) -> Iterator[None]:
    """Of the whole process, while it is inside; may be entered again there, and is then as it was entered first.

    ``dtype``: bfloat16 to round the factors of float32 products to it. Sums, and everything but mm and addmm, stay in
    float32.
    """
    global _inside, _lower
    if _inside or not (mkl_is_slow() or dtype):
        yield
        return
    with _scoped_library("aten", "IMPL") as library:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warning only once for all operators")
            library.impl("mm", _mm, "CPU", allow_override=True)
            library.impl("addmm", _addmm, "CPU", allow_override=True)
            if dtype:
                library.impl("linear", _linear, "AutogradCPU", allow_override=True)
                library.impl("scaled_dot_product_attention", _attention, "AutogradCPU", allow_override=True)
        _inside, _lower = True, dtype
        try:
            yield
        finally:
            _inside, _lower = False, None


def _mm(a: Tensor, b: Tensor) -> Tensor:
    if not _suits(a, b):
        return _theirs(a, b)
    if (dtype := _lower or a.dtype) is torch.bfloat16:  # for which torch itself goes to oneDNN, however factors lie
        return _theirs(a.to(dtype), b.to(dtype)).to(a.dtype)
    return _product(a, b.t())


def _addmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if not _suits(a, b) or beta != 1 or alpha != 1:
        return torch.addmm(c, a, b, beta=beta, alpha=alpha, out=a.new_empty(0))
    if c.dim() == 1 and _lower is None:
        return _product(a, b.t(), c)
    return _mm(a, b).add_(c)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if x.dim() > 1 and x.dtype == weight.dtype == torch.float32 and x.numel() * len(weight) > SMALL:
        return linear(x, weight, bias, _lower)
    # As torch itself puts it together.
    return x @ weight.t() if bias is None else x @ weight.t() + bias


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if q.dim() == 4 and q.dtype == torch.float32 and max(q.shape[-2], k.shape[-2]) <= SHORT:
        return attention(q, k, v, attn_mask, dropout_p, is_causal, scale, _lower)
    # As torch itself chooses: its kernel that never forms all scores, unless a caller that differentiates twice has
    # forbidden it (``torch.nn.attention.sdpa_kernel``).
    own = torch.ops.aten.scaled_dot_product_attention.default.decompose
    return own(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)


def _theirs(a: Tensor, b: Tensor) -> Tensor:
    """a b as torch forms it: the kernel that is overridden here has a twin that writes into a given tensor."""
    return torch.mm(a, b, out=a.new_empty(len(a), b.shape[1]))


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a bᵀ (+ bias)."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


def _suits(a: Tensor, b: Tensor) -> bool:
    known = a.dtype == torch.float32 or (a.dtype == torch.bfloat16 and has_bfloat16())
    return known and a.dtype == b.dtype and a.shape[0] * a.shape[1] * b.shape[-1] > SMALL
