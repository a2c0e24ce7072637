"""Losses on next-token logits: pure functions of ``logits`` [batch, length, vocabulary] and ``tokens`` [batch, length].

There is no padding: every position weighs the same. Sources: arXiv 2506.12484, section 3 and appendix.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean −log p(next token) over all positions but the last, in nats; computed in float32. Returns a scalar."""
    predictions = logits[:, :-1].float().flatten(0, 1)
    return F.cross_entropy(predictions, tokens[:, 1:].flatten())


def neg_cross_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    """−cross_entropy: its descent is gradient ascent on the forget set."""
    return -cross_entropy(logits, tokens)


def neg_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean Σ p log p over all positions, the last included, in the logits' own type. Returns a scalar."""
    log_p = F.log_softmax(logits, dim=-1)
    return (log_p.exp() * log_p).sum(-1).mean()


UNLEARNING_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "neg_cross_entropy": neg_cross_entropy,
    "neg_entropy": neg_entropy,
}


def representation_distance(hidden: tuple[Tensor, ...], original: tuple[Tensor, ...], squared: bool) -> Tensor:
    """Mean over layers and tokens of the L2 distance between hidden states [batch, length, width] and the original's.

    The last state is left out, as in the published code. Norms are taken in float32; where the states are equal the
    gradient is 0 (a hand-written square root would give NaN there).
    """
    distances = []
    for ours, theirs in zip(hidden[:-1], original[:-1], strict=True):
        norm = torch.linalg.vector_norm((ours - theirs).float(), dim=-1)
        distances.append(norm.square().mean() if squared else norm.mean())
    return torch.stack(distances).mean()
