"""Loss on held-out batches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mudman.losses import cross_entropy
from mudman.modes import in_mode


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Sequence[Tensor]) -> float:
    """Mean cross-entropy over token batches [batch, length], in nats per token, in evaluation mode."""
    with in_mode(model, training=False):
        losses = [cross_entropy(model(input_ids=tokens, use_cache=False).logits, tokens) for tokens in batches]
    return torch.stack(losses).mean().item()
