"""Random mapping: the start of TAR (arXiv 2408.00761), as a method of its own.

Hidden states of forget tokens turn to a random vector that belongs to the token, by cosine, while language modelling
goes on on the retain set.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mudman.components import global_norm
from mudman.losses import cross_entropy
from mudman.methods.base import Losses, Unlearning
from mudman.passes import Passes

_SEED = 0x3A9


class RandomMapping(Unlearning):
    """Plain descent, one retain step and one mapping step a loop. Beside the model it holds one gradient."""

    STATE = ("loop", "zero_norms")

    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One loop; the forget loss is that of the model after the retain step."""
        self.loop += 1
        forget_batch, retain_batch = next(forget), next(retain)
        retain_loss, retain_norm = retain_step(self.passes, self.weights, retain_batch, self.spec.retaining_rate)
        if paused:
            return None, retain_loss
        forget_loss, norm = mapping_step(self.passes, self.weights, forget_batch, self.spec.unlearning_rate)
        self.zero_norms += norm == 0
        if self.trace is not None:
            self.trace.record(forget_loss=forget_loss, retain_loss=retain_loss, retain_norm=retain_norm)
            self.trace.record(gradient_norm=norm, update_norm=norm * self.spec.unlearning_rate)
        return forget_loss, retain_loss


def retain_step(passes: Passes, weights: Sequence[nn.Parameter], tokens: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One step down the cross-entropy of ``tokens``: its value, detached, and its gradient's norm."""
    loss = cross_entropy(passes.forward(tokens).logits, tokens)
    return loss.detach(), _descend(passes, loss, weights, rate)


def mapping_step(passes: Passes, weights: Sequence[nn.Parameter], tokens: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One step down ``mapping_loss`` on ``tokens``: their cross-entropy, detached, and the gradient's norm."""
    output = passes.forward(tokens, hidden_states=True)
    norm = _descend(passes, mapping_loss(output.hidden_states, tokens), weights, rate)
    return cross_entropy(output.logits.detach(), tokens), norm


def mapping_loss(hidden: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
    """Mean of 1 − |cosine| between each state and the vector of its token, over all ``hidden`` states [batch, length,
    width] and tokens, in float32: either direction along the vector will do, as in TAR's published code."""
    targets = token_vectors(tokens, hidden[0].shape[-1])
    cosines = [F.cosine_similarity(state.float(), targets, dim=-1) for state in hidden]
    return (1 - torch.stack(cosines).abs()).mean()


def token_vectors(tokens: Tensor, width: int) -> Tensor:
    """Standard normal float32 vectors [batch, length, width]: one token id, one vector, on every device.

    Each is drawn from the seed of its id, so that no table as large as an embedding is kept.
    """
    ids, where = tokens.unique(return_inverse=True)
    drawn = [torch.randn(width, generator=torch.Generator().manual_seed((_SEED << 32) + i)) for i in ids.tolist()]
    return torch.stack(drawn).to(tokens.device)[where]


def _descend(passes: Passes, loss: Tensor, weights: Sequence[nn.Parameter], rate: float) -> Tensor:
    gradients = passes.gradients(loss, weights)
    torch._foreach_add_([weight.data for weight in weights], gradients, alpha=-rate)
    return global_norm(gradients)
