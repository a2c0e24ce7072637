"""Kullback-Leibler divergence of the model's predictions from the original's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mudman.evals.batched import standard_error
from mudman.modes import in_mode
from mudman.results import Measurement

VERSION = "1"


class Kl:
    """KL(original ‖ model) in nats per token, at the positions that a loss has: all but the last of a sequence.

    The original's logits are kept on the model's device in its own dtype, which loses nothing: tokens × vocabulary
    (Llama-3.2-1B in bfloat16, 16 sequences of 100 tokens: 0.4 GB). Probabilities are float32, one sequence at a time.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Tensor]):
        """``model`` must be the original now; ``batches``: tokens [batch, length]."""
        self.model, self.batches = model, batches
        self.original = [self._logits(tokens) for tokens in batches]

    def measure(self, when: str) -> tuple[Measurement, ...]:
        """``n`` counts tokens; the standard error is over sequences, whose tokens are not independent."""
        pairs = zip(self.original, map(self._logits, self.batches), strict=True)
        sequences = torch.stack([divergence(*rows).mean() for batch in pairs for rows in zip(*batch, strict=True)])
        tokens = sum(logits.shape[0] * logits.shape[1] for logits in self.original)
        return (
            Measurement(
                name="kl",
                protocol="kl",
                version=VERSION,
                when=when,
                value=sequences.mean().item(),
                standard_error=standard_error(sequences),
                n=tokens,
                settings={"corpus": "retain"},
            ),
        )

    @torch.no_grad()
    def _logits(self, tokens: Tensor) -> Tensor:
        with in_mode(self.model, training=False):
            return self.model(input_ids=tokens, use_cache=False).logits[:, :-1].clone()


def divergence(original: Tensor, logits: Tensor) -> Tensor:
    """Σ p₀ (log p₀ − log p) over the last dimension, in float32. Tokens ruled out by the original add nothing."""
    log_p0, log_p = original.float().log_softmax(-1), logits.float().log_softmax(-1)
    p0 = log_p0.exp()
    return torch.where(p0 > 0, p0 * (log_p0 - log_p), 0).sum(-1)
