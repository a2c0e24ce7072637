"""Multiple choice by the protocol that arXiv 2506.12484 used for WMDP-Bio and MMLU (section 5), as its code has it.

Zero-shot, without the description that lm-evaluation-harness puts in front: its numbers are not comparable with these.
"""

import torch
from torch import Tensor, nn

from mudman.data.questions import Question, read_questions
from mudman.evals.batched import (
    Padded,
    logits_at,
    padded_batches,
    padding_token,
    plain_settings,
    standard_error,
)
from mudman.faults import SpecError
from mudman.models import longest_input
from mudman.results import Measurement
from mudman.specs.evaluations import MultipleChoiceEvaluation

VERSION = "arXiv 2506.12484, code of 36241eb"
LETTERS = "ABCD"


def prompt(question: Question) -> str:
    """The question, one line per choice, and ``Answer:``, to be continued by a letter."""
    choices = (f"{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=True))
    return "\n".join([question.question.strip(), *choices, "Answer:"])


def letter_ids(tokenizer, path: str) -> list[int]:
    """Tokens of " A" to " D". Raises ``SpecError`` at ``path`` where a letter is not one token of its own."""
    encoded = [tokenizer(f" {letter}", add_special_tokens=False)["input_ids"] for letter in LETTERS]
    ids = [tokens[0] for tokens in encoded if len(tokens) == 1]
    if len(set(ids)) != len(LETTERS) or tokenizer.unk_token_id in ids:
        raise SpecError.at(
            path,
            "this model's tokenizer has no single token for each of the letters ' A' to ' D'",
            "take lm_eval, or the cloze, for this model",
        )
    return ids


def letter_probabilities(logits: Tensor, letters: list[int]) -> Tensor:
    """Probabilities [n, 4] from logits [n, vocabulary], in their dtype as published: softmax over the whole
    vocabulary, the four kept, renormalised. In exact arithmetic that is a softmax over the four; in bfloat16 it makes
    ties. Where all four vanish beside another token, which a disrupted model can do, it is computed as one."""
    kept = logits.softmax(-1)[:, letters]
    vanished = kept.sum(-1, keepdim=True) == 0
    return torch.where(vanished, logits[:, letters].softmax(-1), kept / kept.sum(-1, keepdim=True))


def scores(probabilities: Tensor, answers: Tensor, temperature: int) -> Tensor:
    """One float64 score per question [n]: whether the first of the likeliest letters is right (temperature 0), or the
    probability of the right letter (1)."""
    if temperature == 0:
        return (probabilities.argmax(-1) == answers).double()  # argmax takes the first of equals
    return probabilities.gather(-1, answers[:, None])[:, 0].double()


class MultipleChoice:
    """The questions of one evaluation, tokenised once."""

    def __init__(self, spec: MultipleChoiceEvaluation, path: str, model: nn.Module, tokenizer):
        """``path``: of the evaluation in the study. Raises ``SpecError`` there for questions, letters or lengths."""
        self.spec, self.model = spec, model
        questions = read_questions(spec.questions, f"{path}.questions", spec.form)
        records = questions.records[: spec.limit]
        self.revision = questions.revision
        self.letters = letter_ids(tokenizer, path)
        self.answers = torch.tensor([question.answer for question in records])
        texts = tokenizer([prompt(question) for question in records])["input_ids"]
        longest, limit = max(map(len, texts)), longest_input(model)
        if longest > limit:
            raise SpecError.at(
                f"{path}.questions",
                f"the longest question of {spec.questions} has {longest} tokens, and the model takes {limit}",
                "take shorter questions, or another model",
            )
        self.batches = list(padded_batches(texts, padding_token(tokenizer)))

    def measure(self, when: str) -> tuple[Measurement, ...]:
        """Accuracy (temperature 0) or mean probability of the right letter (1)."""
        found = scores(self.probabilities(), self.answers, self.spec.temperature)
        return (
            Measurement(
                name=self.spec.questions,
                protocol="published",
                version=VERSION,
                when=when,
                value=found.mean().item(),
                standard_error=standard_error(found),
                n=len(found),
                settings={**plain_settings(self.spec, "questions"), "revision": self.revision},
            ),
        )

    def probabilities(self) -> Tensor:
        """Of the letters [questions, 4], in the model's dtype, on the CPU."""
        found = torch.empty(len(self.answers), len(LETTERS), dtype=self.model.dtype)
        for batch in self.batches:
            found[batch.indices] = letter_probabilities(self._last_logits(batch), self.letters).cpu()
        return found

    def _last_logits(self, batch: Padded) -> Tensor:
        """[batch, vocabulary], at the last real token of each text."""
        return logits_at(self.model, batch, torch.arange(len(batch.tokens)), batch.mask.sum(-1) - 1)
