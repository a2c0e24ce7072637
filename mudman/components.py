"""The parts that MUDMAN is made of: pure functions on lists of tensors, one tensor per intervened weight.

Functions ending in ``_`` change their first argument in place: gradients are as large as the weights, and a method may
hold few such lists (plain MUDMAN: adversary, gradient, accumulator). The masks that need more than signs are in
``masks``. Source: arXiv 2506.12484, section 4 and appendix E; docs/method.md.
"""

import torch
from torch import Tensor


def accumulate_(average: list[Tensor], gradients: list[Tensor], momentum: float) -> None:
    """average ← m · average + (1 − m) · gradient, never bias-corrected (step 4, step 10)."""
    torch._foreach_mul_(average, momentum)
    torch._foreach_add_(average, gradients, alpha=1 - momentum)


def mask_disruption_(gradients: list[Tensor], retain: list[Tensor]) -> None:
    """Disruption Masking (step 11): keep a gradient's entry only where its sign is that of the retain accumulator."""
    for gradient, accumulated in zip(gradients, retain, strict=True):
        gradient.mul_(torch.sign(accumulated) == torch.sign(gradient))


def damp_growth_(gradients: list[Tensor], weights: list[Tensor], factor: float) -> None:
    """Scale entries whose descent step would grow the absolute weight (step 12): there signs differ."""
    for gradient, weight in zip(gradients, weights, strict=True):
        gradient.mul_(torch.where(torch.sign(weight) != torch.sign(gradient), factor, 1.0).to(gradient.dtype))


def signed_power_(tensors: list[Tensor], power: float) -> None:
    """x ← sign(x) · |x|^power: weight consensus averages roots, in which many small gradients outvote a large one."""
    for tensor in tensors:
        sign = torch.sign(tensor)
        tensor.abs_().pow_(power).mul_(sign)


def pull_back_(
    gradients: list[Tensor],
    importance: list[Tensor],
    weights: list[Tensor],
    original: list[Tensor],
    strength: float,
    decay: float,
) -> None:
    """Online-EWC (arXiv 1805.06370): F ← γ · F + (1 − γ) · g², then g ← g + λ · F · (w − original w).

    λ is ``strength``, γ is ``decay``, F the ``importance``, changed in place like the gradients.
    """
    for gradient, important, weight, start in zip(gradients, importance, weights, original, strict=True):
        important.mul_(decay).addcmul_(gradient, gradient, value=1 - decay)
        gradient.addcmul_(important, weight - start, value=strength)


def revert_small_changes_(weights: list[Tensor], original: list[Tensor], threshold: float) -> None:
    """Selective revert: weights whose change since ``original`` is smaller than ``threshold`` are set back."""
    for weight, start in zip(weights, original, strict=True):
        weight.copy_(torch.where((weight - start).abs() < threshold, start, weight))


def global_norm(tensors: list[Tensor]) -> Tensor:
    """L2 norm over all entries of all tensors, as a float32 scalar on their device."""
    norms = [torch.linalg.vector_norm(tensor, dtype=torch.float32) for tensor in tensors]
    return torch.linalg.vector_norm(torch.stack(norms))


def scale_to(size: float, norm: Tensor) -> Tensor:
    """size / norm; 0 where the norm is 0, so that a vanished gradient updates nothing instead of giving NaN."""
    return torch.where(norm > 0, size / norm, torch.where(norm == 0, torch.zeros_like(norm), norm))


def normalize_(gradients: list[Tensor], variant: str, unit: str, raw_norm: Tensor) -> None:
    """The four normalisations of Table 1 (step 13), on masked gradients.

    ``raw_norm`` is the global norm before masking and momentum; the other variants take the norm of what steps 11 and
    12 have left. In ``rms`` units what was measured gets root mean square 1, that is norm sqrt(number of entries); in
    ``l2`` units norm 1 (Algorithm 1). So it is the result that has this size under ``per_parameter`` (each tensor) and
    ``global_post_mask``, and under ``global_pre_mask`` the raw gradient: the mask leaves less of it.
    """
    if variant == "none":
        return
    if variant == "per_parameter":
        for gradient in gradients:
            size = gradient.numel() ** 0.5 if unit == "rms" else 1.0
            gradient.mul_(scale_to(size, global_norm([gradient])))
        return
    size = sum(gradient.numel() for gradient in gradients) ** 0.5 if unit == "rms" else 1.0
    norm = raw_norm if variant == "global_pre_mask" else global_norm(gradients)
    torch._foreach_mul_(gradients, scale_to(size, norm).to(gradients[0].dtype))
