"""Loss on held-out batches."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mudman.head import has_plain_head, unformed
from mudman.losses import cross_entropy
from mudman.modes import in_mode


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Sequence[Tensor]) -> float:
    """Mean cross-entropy over token batches [batch, length], in nats per token, in evaluation mode."""
    with in_mode(model, training=False), unformed(model) if has_plain_head(model) else nullcontext():
        losses = [cross_entropy(model(input_ids=tokens, use_cache=False).logits, tokens) for tokens in batches]
    return torch.stack(losses).mean().item()


@torch.no_grad()
def token_losses(model: nn.Module, batches: Sequence[Tensor]) -> list[list[float]]:
    """Cross-entropy of each token but the first, [sequence][token], in nats, float32, in evaluation mode."""
    losses = []
    with in_mode(model, training=False):
        for tokens in batches:
            logits = model(input_ids=tokens, use_cache=False).logits[:, :-1].float()
            losses += F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").tolist()
    return losses
