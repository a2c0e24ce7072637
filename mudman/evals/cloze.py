"""Cloze: which of four texts best continues a prompt. Models too small for lettered questions can do this.

The protocol, fixed under a version: ``<term>:`` is continued by each choice after a space; a choice scores the mean
log-probability of its tokens (float32), so that long ones are not at a disadvantage; the highest score is the answer,
the first one among equals. What exceeds the model's length is cut off at the end; a prompt that leaves no room for an
answer is refused.
"""

import torch
from torch import Tensor, nn

from mudman.data.questions import read_questions
from mudman.evals.batched import Padded, logits_at, padded_batches, padding_token, standard_error
from mudman.faults import SpecError
from mudman.models import longest_input
from mudman.results import Measurement
from mudman.specs.evaluations import ClozeEvaluation

VERSION = "1"
TOKENS = 2048  # of one batch: each continuation token needs the logits of the whole vocabulary


class Cloze:
    """The questions of one evaluation, tokenised once: four texts each."""

    def __init__(self, spec: ClozeEvaluation, path: str, model: nn.Module, tokenizer):
        """``path``: of the evaluation in the study. Raises ``SpecError`` there for questions or lengths."""
        self.spec, self.model = spec, model
        questions = read_questions(spec.questions, f"{path}.questions")
        records = questions.records[: spec.limit]
        self.revision = questions.revision
        self.answers = torch.tensor([question.answer for question in records])
        prompts = [f"{question.question.strip().removesuffix(':')}:" for question in records for _ in question.choices]
        choices = [choice.strip() for question in records for choice in question.choices]
        whole = [f"{prompt} {choice}" for prompt, choice in zip(prompts, choices, strict=True)]
        self.starts = torch.tensor([len(tokens) for tokens in tokenizer(prompts)["input_ids"]])
        """First token of each continuation."""
        longest, limit = int(self.starts.max()), longest_input(model)
        if longest >= limit:
            raise SpecError.at(
                f"{path}.questions",
                f"the longest prompt of {spec.questions} has {longest} tokens, and the model takes {limit} in all",
                "take shorter questions, or another model",
            )
        texts = [tokens[:limit] for tokens in tokenizer(whole)["input_ids"]]
        self.batches = list(padded_batches(texts, padding_token(tokenizer), TOKENS))

    def measure(self, when: str) -> tuple[Measurement, ...]:
        """Accuracy; a guess has 0.25."""
        hits = (self.likelihoods().argmax(-1) == self.answers).double()
        return (
            Measurement(
                name=self.spec.questions,
                protocol="cloze",
                version=VERSION,
                when=when,
                value=hits.mean().item(),
                standard_error=standard_error(hits),
                n=len(hits),
                settings={"limit": self.spec.limit, "revision": self.revision},
            ),
        )

    def likelihoods(self) -> Tensor:
        """Mean log-probability per token of each choice [questions, 4], float32, on the CPU."""
        found = torch.empty(4 * len(self.answers))
        for batch in self.batches:
            found[batch.indices] = self._of(batch)
        return found.view(-1, 4)

    def _of(self, batch: Padded) -> Tensor:
        columns = torch.arange(batch.tokens.shape[1])
        continuation = (columns >= self.starts[batch.indices, None]) & batch.mask.bool()
        rows, targets = continuation.nonzero(as_tuple=True)
        logits = logits_at(self.model, batch, rows, targets - 1).float().log_softmax(-1)
        tokens = batch.tokens[rows, targets].to(logits.device)
        likelihoods = logits.gather(-1, tokens[:, None])[:, 0].cpu()
        sums = torch.zeros(len(batch.tokens)).index_add_(0, rows, likelihoods)
        return sums / continuation.sum(-1).clamp(min=1)
