"""Kullback-Leibler divergence of the model's predictions from the original's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mudman.evals.batched import standard_error
from mudman.head import Logits, groups_of, logits_of
from mudman.modes import in_mode
from mudman.results import Measurement

VERSION = "1"


class Kl:
    """KL(original ‖ model) in nats per token, at the positions that a loss has: all but the last of a sequence.

    Kept of the original are the hidden states in front of its head and a copy of the head (of models whose head is not
    plain: its logits), on the model's device in its own dtype. Probabilities are float32, some positions at a time.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Tensor]):
        """``model`` must be the original now; ``batches``: tokens [batch, length]."""
        self.model, self.batches = model, batches
        with in_mode(model, training=False), torch.no_grad():
            found = [logits_of(model, tokens) for tokens in batches]
        head = model.get_output_embeddings() if isinstance(found[0], Logits) else None
        own = head and [part if part is None else part.detach().clone() for part in (head.weight, head.bias)]
        self.original = [each if own is None else Logits(each.hidden, *own, each.dtype) for each in found]

    @torch.no_grad()
    def measure(self, when: str) -> tuple[Measurement, ...]:
        """``n`` counts tokens; the standard error is over sequences, whose tokens are not independent."""
        sequences = torch.cat(list(map(self._of_sequences, self.original, self.batches)))
        return (
            Measurement(
                name="kl",
                protocol="kl",
                version=VERSION,
                when=when,
                value=sequences.mean().item(),
                standard_error=standard_error(sequences),
                n=sum(tokens[:, 1:].numel() for tokens in self.batches),
                settings={"corpus": "retain"},
            ),
        )

    def _of_sequences(self, original: Logits | Tensor, tokens: Tensor) -> Tensor:
        """[batch]"""
        with in_mode(self.model, training=False):
            logits = logits_of(self.model, tokens)
        each = [divergence(*rows) for rows in zip(groups_of(original), groups_of(logits), strict=True)]
        return torch.cat(each).view_as(tokens[:, 1:]).mean(1)


def divergence(original: Tensor, logits: Tensor) -> Tensor:
    """Σ p₀ (log p₀ − log p) over the last dimension, in float32. Tokens ruled out by the original add nothing."""
    log_p0, log_p = original.float().log_softmax(-1), logits.float().log_softmax(-1)
    p0 = log_p0.exp()
    return torch.where(p0 > 0, p0 * (log_p0 - log_p), 0).sum(-1)
