"""Loss on held-out batches."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mudman.head import groups_of, logits_of
from mudman.losses import cross_entropy
from mudman.modes import in_mode


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Sequence[Tensor]) -> float:
    """Mean cross-entropy over token batches [batch, length], in nats per token, in evaluation mode."""
    with in_mode(model, training=False):
        losses = [cross_entropy(logits_of(model, tokens), tokens) for tokens in batches]
    return torch.stack(losses).mean().item()


@torch.no_grad()
def token_losses(model: nn.Module, batches: Sequence[Tensor]) -> list[list[float]]:
    """Cross-entropy of each token but the first, [sequence][token], in nats, float32, in evaluation mode."""
    losses = []
    with in_mode(model, training=False):
        for tokens in batches:
            left, each = tokens[:, 1:].flatten(), []
            for logits in groups_of(logits_of(model, tokens)):
                each.append(F.cross_entropy(logits, left[: len(logits)], reduction="none"))
                left = left[len(logits) :]
            losses += torch.cat(each).view_as(tokens[:, 1:]).tolist()
    return losses
