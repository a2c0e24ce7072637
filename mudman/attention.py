"""Attention over short sequences with both products in a lower type; scores and their softmax stay in float32.

torch's own kernel for CPUs works through a long sequence piece by piece and never forms all scores; on short ones that
costs more than it saves, and in bfloat16 it is several times slower than in float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SHORT = 256
"""Tokens up to which scores [batch · heads, tokens, tokens] are formed whole."""


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
    scale: float | None,
    dtype: torch.dtype,
) -> Tensor:
    """softmax(scale · q kᵀ + mask) v of [batch, heads, tokens, width]; heads of ``query`` that follow each other may
    share one of the other two: they are then one matrix of more rows.

    A boolean ``mask`` says what may be attended to, another is added. The output has the type of ``query``. Second
    derivatives can be taken.
    """
    rows = query.shape[-2] * (query.shape[1] // key.shape[1])
    q = query.to(dtype).reshape(-1, rows, query.shape[-1])
    k, v = (part.to(dtype).flatten(0, 1) for part in (key, value))
    scores = torch.bmm(q, k.transpose(1, 2)).to(query.dtype).view(*query.shape[:-1], -1)
    scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores + _added(mask, scores)
    weights = F.dropout(scores.softmax(-1), dropout).to(dtype)
    return torch.bmm(weights.view(-1, rows, weights.shape[-1]), v).to(query.dtype).view(*query.shape[:-1], -1)


def _added(mask: Tensor, scores: Tensor) -> Tensor:
    """The lowest number and not −∞: where nothing may be attended to, as before the first token of a padded text, the
    result is to be a number."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=scores.dtype).masked_fill_(~mask, torch.finfo(scores.dtype).min)
