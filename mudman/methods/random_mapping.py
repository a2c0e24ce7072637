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
from mudman.trace import Trace, agreeing, harmful

_SEED = 0x3A9


class RandomMapping(Unlearning):
    """Plain descent, one retain step and one mapping step a loop. Beside the model it holds one gradient."""

    STATE = ("loop", "zero_norms")

    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One loop; the forget loss is that of the model after the retain step."""
        self.loop += 1
        tokens, rates = next(forget), (self.spec.unlearning_rate, self.spec.retaining_rate)
        losses, norm = mapping_loop(
            self.passes, self.weights, None if paused else tokens, next(retain), rates, self.trace
        )
        if norm is not None:
            self.zero_norms += norm == 0
        return losses


def mapping_loop(
    passes: Passes,
    weights: Sequence[nn.Parameter],
    forget: Tensor | None,
    retain: Tensor,
    rates: tuple[float, float],
    trace: Trace | None,
) -> tuple[Losses, Tensor | None]:
    """A step down the cross-entropy of the tokens ``retain``, then one down ``mapping_loss`` on those of ``forget``,
    where there are any. ``rates`` are those of ``forget`` and of ``retain``.

    The cross-entropies, detached, and the norm of the mapping's gradient.
    """
    retain_loss = cross_entropy(passes.forward(retain).logits, retain)
    gradients = passes.gradients(retain_loss, weights)
    _descend(weights, gradients, rates[1])
    retain_loss, retaining = retain_loss.detach(), None
    if trace is not None:
        retaining = gradients
        trace.record(retain_loss=retain_loss, retain_norm=global_norm(retaining))
    del gradients  # one list at a time, unless a trace is kept
    if forget is None:
        return (None, retain_loss), None

    output = passes.forward(forget, hidden_states=True)
    gradients = passes.gradients(mapping_loss(output.hidden_states, forget), weights)
    _descend(weights, gradients, rates[0])
    forget_loss, norm = cross_entropy(output.logits.detach(), forget), global_norm(gradients)
    if trace is not None:
        trace.record(forget_loss=forget_loss, gradient_norm=norm, update_norm=norm * rates[0])
        trace.record(agreeing=agreeing(gradients, retaining), kept=torch.ones_like(norm))
        trace.record(harmful=harmful(gradients, retaining))
    return (forget_loss, retain_loss), norm


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


def _descend(weights: Sequence[nn.Parameter], gradients: list[Tensor], rate: float) -> None:
    torch._foreach_add_([weight.data for weight in weights], gradients, alpha=-rate)
