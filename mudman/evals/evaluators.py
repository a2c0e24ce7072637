"""From the evaluations that a spec names to what measures them."""

from typing import Protocol

from torch import Tensor, nn

from mudman.evals.cloze import Cloze
from mudman.evals.harness import Harness
from mudman.evals.kl import Kl
from mudman.evals.multiple_choice import MultipleChoice
from mudman.results import Measurement
from mudman.specs.evaluations import (
    ClozeEvaluation,
    Evaluation,
    HarnessEvaluation,
    KlEvaluation,
    MultipleChoiceEvaluation,
)

_BY_QUESTIONS = {MultipleChoiceEvaluation: MultipleChoice, HarnessEvaluation: Harness, ClozeEvaluation: Cloze}


class Evaluator(Protocol):
    """Measures one model, in its present state, as often as asked. What does not change is made once."""

    def measure(self, when: str) -> tuple[Measurement, ...]:
        """``when``: ``untouched``, ``unlearned`` or ``attacked``; it only labels the numbers."""


def evaluator(spec: Evaluation, path: str, model: nn.Module, tokenizer, retain: list[Tensor]) -> Evaluator:
    """``model`` must be the untouched one now; ``retain``: its evaluation batches [batch, length].

    Raises ``SpecError`` at ``path`` (``evaluations.0``) where questions, letters, lengths or a package are wanting.
    """
    if isinstance(spec, KlEvaluation):
        return Kl(model, retain)
    return _BY_QUESTIONS[type(spec)](spec, path, model, tokenizer)
