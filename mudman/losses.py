"""Losses on a model's output: pure functions, each a scalar.

``logits`` are [batch, length, vocabulary] and ``tokens`` [batch, length], LongTensor. There is no padding: every
position weighs the same. Most losses look at the *next* token t of every position but the last, in float32, as
published; z are the logits there and p = softmax(z). Sources: arXiv 2506.12484, section 3 and appendix E.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mudman.specs.losses import Loss


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


def correct_logit(logits: Tensor, tokens: Tensor, clip: float) -> Tensor:
    """Selective logit loss: mean of max(z_t − mean z, clip), so that no token is pushed further once it is below.

    The paper prints a sum; the published code takes the mean, and so does this.
    """
    return _above_mean(logits, tokens).clamp(min=clip).mean()


def soft_logit(logits: Tensor, tokens: Tensor, scale: float) -> Tensor:
    """Mean s · atan(x / s) with x = z_t − mean z: a soft clip on both sides, bounded by ± s · π/2."""
    return (scale * torch.atan(_above_mean(logits, tokens) / scale)).mean()


def soft_cross_entropy(logits: Tensor, tokens: Tensor, scale: float) -> Tensor:
    """Mean −s · atan(−log p_t / s): gradient ascent whose pull on a token ends as that token is forgotten."""
    each = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return -(scale * torch.atan(each / scale)).mean()


def biased_entropy(logits: Tensor, tokens: Tensor, bias: float) -> Tensor:
    """Mean Σ p log p after ``bias`` was added to z_t: its optimum has the correct token below the others."""
    predictions, correct = _next_tokens(logits, tokens)
    return neg_entropy(predictions.scatter_add(-1, correct, torch.full_like(predictions[..., :1], bias)), tokens)


def flipped_probability(logits: Tensor, tokens: Tensor, bias: float, only_correct: bool) -> Tensor:
    """Mean −log(1 − p_t), ``bias`` added to z_t first. ``only_correct``: the gradient reaches z_t alone.

    −log(1 − p_t) is softplus(z_t − log Σ exp z over the other tokens): finite also where p_t rounds to 1.
    """
    predictions, correct = _next_tokens(logits, tokens)
    others = predictions.scatter(-1, correct, -torch.inf).logsumexp(-1)
    margin = predictions.gather(-1, correct).squeeze(-1) + bias - (others.detach() if only_correct else others)
    return F.softplus(margin).mean()


def stream_activation(hidden: tuple[Tensor, ...]) -> Tensor:
    """Σ over ``hidden`` states [batch, length, width], but the last of (mean L2 norm of a token)², in their type."""
    return torch.stack([torch.linalg.vector_norm(state, dim=-1).mean().square() for state in hidden[:-1]]).sum()


def _next_tokens(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Float32 logits of all positions but the last, and the tokens that follow, [batch, length − 1, 1]."""
    return logits[:, :-1].float(), tokens[:, 1:, None]


def _above_mean(logits: Tensor, tokens: Tensor) -> Tensor:
    """z_t − mean z for all positions but the last, in float32."""
    predictions, correct = _next_tokens(logits, tokens)
    return predictions.gather(-1, correct).squeeze(-1) - predictions.mean(-1)


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
