"""Losses on a model's output: pure functions, each a scalar.

``logits`` are [batch, length, vocabulary], formed or not (``head.Logits``), and ``tokens`` [batch, length], LongTensor.
There is no padding: every position weighs the same. Most losses look at the *next* token t of every position but the
last, in float32, as published; z are the logits there and p = softmax(z). Sources: arXiv 2506.12484, section 3 and
appendix E.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mudman.head import Logits, RowLoss
from mudman.specs.losses import Loss


def cross_entropy(logits: Tensor | Logits, tokens: Tensor) -> Tensor:
    """Mean −log p(next token) over all positions but the last, in nats; computed in float32. Returns a scalar."""
    if isinstance(logits, Logits):
        return logits.cross_entropy(tokens)
    return _mean_over_next(F.cross_entropy, logits, tokens)


def neg_cross_entropy(logits: Tensor | Logits, tokens: Tensor) -> Tensor:
    """−cross_entropy: its descent is gradient ascent on the forget set."""
    return -cross_entropy(logits, tokens)


def neg_entropy(logits: Tensor | Logits, tokens: Tensor) -> Tensor:
    """Mean Σ p log p over all positions, the last included, in the logits' own type. Returns a scalar."""

    def rows(z: Tensor, _targets: Tensor) -> Tensor:
        return _sum_p_log_p(z)

    if isinstance(logits, Logits):
        return logits.mean_over_all(rows, tokens)
    return rows(logits, tokens).mean()


def correct_logit(logits: Tensor | Logits, tokens: Tensor, clip: float) -> Tensor:
    """Selective logit loss: mean of max(z_t − mean z, clip), so that no token is pushed further once it is below.

    The paper prints a sum; the published code takes the mean, and so does this.
    """
    return _mean_over_next(lambda z, t: _above_mean(z, t).clamp(min=clip), logits, tokens)


def soft_logit(logits: Tensor | Logits, tokens: Tensor, scale: float) -> Tensor:
    """Mean s · atan(x / s) with x = z_t − mean z: a soft clip on both sides, bounded by ± s · π/2."""
    return _mean_over_next(lambda z, t: scale * torch.atan(_above_mean(z, t) / scale), logits, tokens)


def soft_cross_entropy(logits: Tensor | Logits, tokens: Tensor, scale: float) -> Tensor:
    """Mean −s · atan(−log p_t / s): gradient ascent whose pull on a token ends as that token is forgotten."""

    def rows(z: Tensor, t: Tensor) -> Tensor:
        return -scale * torch.atan(F.cross_entropy(z, t, reduction="none") / scale)

    return _mean_over_next(rows, logits, tokens)


def biased_entropy(logits: Tensor | Logits, tokens: Tensor, bias: float) -> Tensor:
    """Mean Σ p log p after ``bias`` was added to z_t: its optimum has the correct token below the others."""

    def rows(z: Tensor, t: Tensor) -> Tensor:
        return _sum_p_log_p(z.scatter_add(-1, t[:, None], torch.full_like(z[:, :1], bias)))

    return _mean_over_next(rows, logits, tokens)


def flipped_probability(logits: Tensor | Logits, tokens: Tensor, bias: float, only_correct: bool) -> Tensor:
    """Mean −log(1 − p_t), ``bias`` added to z_t first. ``only_correct``: the gradient reaches z_t alone.

    −log(1 − p_t) is softplus(z_t − log Σ exp z over the other tokens): finite also where p_t rounds to 1.
    """

    def rows(z: Tensor, t: Tensor) -> Tensor:
        others = z.scatter(-1, t[:, None], -torch.inf).logsumexp(-1)
        margin = _correct(z, t) + bias - (others.detach() if only_correct else others)
        return F.softplus(margin)

    return _mean_over_next(rows, logits, tokens)


def stream_activation(hidden: tuple[Tensor, ...]) -> Tensor:
    """Σ over ``hidden`` states [batch, length, width], but the last of (mean L2 norm of a token)², in their type."""
    return torch.stack([torch.linalg.vector_norm(state, dim=-1).mean().square() for state in hidden[:-1]]).sum()


def _mean_over_next(rows: RowLoss, logits: Tensor | Logits, tokens: Tensor) -> Tensor:
    """Mean of the rows' losses on float32 logits of all positions but the last, and the tokens that follow."""
    if isinstance(logits, Logits):
        return logits.mean_over_next(rows, tokens)
    return rows(logits[:, :-1].float().flatten(0, 1), tokens[:, 1:].flatten()).mean()


def _sum_p_log_p(z: Tensor) -> Tensor:
    log_p = F.log_softmax(z, dim=-1)
    return (log_p.exp() * log_p).sum(-1)


def _correct(z: Tensor, t: Tensor) -> Tensor:
    return z.gather(-1, t[:, None]).squeeze(-1)


def _above_mean(z: Tensor, t: Tensor) -> Tensor:
    """z_t − mean z of each row."""
    return _correct(z, t) - z.mean(-1)


ON_LOGITS: dict[str, Callable[..., Tensor]] = {
    "neg_cross_entropy": neg_cross_entropy,
    "neg_entropy": neg_entropy,
    "correct_logit": correct_logit,
    "biased_entropy": biased_entropy,
    "flipped_probability": flipped_probability,
    "soft_cross_entropy": soft_cross_entropy,
    "soft_logit": soft_logit,
}


def needs_hidden_states(spec: Loss) -> bool:
    """Whether the forward pass must give ``hidden_states`` for this loss."""
    return spec.type == "stream_activation"


def unlearning_loss(spec: Loss) -> Callable[[Any, Tensor], Tensor]:
    """The loss that ``spec`` names, of a transformers output and the tokens [batch, length]; to be minimised."""
    if needs_hidden_states(spec):
        return lambda output, tokens: stream_activation(output.hidden_states)
    loss, settings = ON_LOGITS[spec.type], spec.model_dump(exclude={"type"})
    return lambda output, tokens: loss(output.logits, tokens, **settings)


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
