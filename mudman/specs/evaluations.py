"""What is measured beside the forget and retain losses. Every number carries its protocol and version."""

from typing import Annotated, Literal

from pydantic import Field

from mudman.specs.base import SHORTHAND, Count, Model, Name


class KlEvaluation(Model):
    """Kullback-Leibler divergence of the model's predictions from the original's on the retain evaluation batches."""

    type: Literal["kl"]


class MultipleChoiceEvaluation(Model):
    """Multiple choice by the published protocol: letters at the last token, zero-shot, no description. Its numbers are
    not comparable with lm-evaluation-harness's (``lm_eval``), and never share a name with them."""

    type: Literal["multiple_choice"]
    questions: Name
    """``wmdp-bio``, ``mmlu``, ``mmlu-no-biology``, or a folder under the data root with files of the same form:
    ``question``, ``choices`` (four), ``answer`` (0 to 3), and ``subject``."""
    form: Name | None = None
    """Named set that a folder or hub id is a copy of: it is read, and its subjects chosen, as that set's are."""
    measures: Literal["forget", "utility"]
    """``forget``: what is to be lost (the objective ``wmdp_accuracy``); ``utility``: what is to stay (``mmlu_…``)."""
    temperature: Literal[0, 1] = 0
    """0: share of questions whose best letter is right; 1: mean probability of the right letter."""
    limit: Count | None = None
    """Only the first questions."""


class HarnessEvaluation(Model):
    """Tasks of lm-evaluation-harness, for reporting."""

    type: Literal["lm_eval"]
    tasks: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    few_shot: int | None = Field(None, ge=0, le=100)
    limit: Count | None = None
    """Only the first questions of each task."""


class ClozeEvaluation(Model):
    """Which of four Gene Ontology definitions belongs to a term: multiple choice that small models can do."""

    type: Literal["cloze"]
    questions: Literal["gene-ontology-cloze"] = "gene-ontology-cloze"
    limit: Count = 200


Evaluation = Annotated[
    Annotated[
        KlEvaluation | MultipleChoiceEvaluation | HarnessEvaluation | ClozeEvaluation, Field(discriminator="type")
    ],
    SHORTHAND,
]


class RecordSpec(Model):
    """What is kept of trials beside curves and measurements; it costs time and room in the database."""

    trace: bool = False
    """Per unlearning loop: gradient norms, share of agreeing signs, share of the update kept, losses, and the
    retain-harmful part of the update."""
    token_losses: bool = False
    """Forget loss of every token of the evaluation batches: untouched, unlearned, attacked."""
    trials: Annotated[tuple[int, ...], Field(strict=False)] | None = None
    """Numbers of the trials for which this is kept; default: all."""
