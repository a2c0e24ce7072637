"""Loss on held-out batches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mudman.losses import cross_entropy


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Sequence[Tensor]) -> float:
    """Mean cross-entropy over token batches [batch, length], in nats per token, in evaluation mode."""
    was_training = model.training
    model.eval()
    losses = [cross_entropy(model(input_ids=tokens, use_cache=False).logits, tokens) for tokens in batches]
    model.train(was_training)
    return torch.stack(losses).mean().item()
