"""A study: one hyper-parameter search, as the request body, the stored JSON and the argument of a trial."""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from mudman.faults import FieldFault, between_fields
from mudman.specs.attack import AttackSpec, BudgetSpec, ConstraintSpec, ObjectiveSpec
from mudman.specs.base import Model, Name, Range
from mudman.specs.evaluations import Evaluation, RecordSpec
from mudman.specs.methods import MethodSpec
from mudman.specs.repeats import CheckpointsSpec, ConfirmationSpec, RepeatsSpec, SeedsSpec
from mudman.specs.search import Pruner, Sampler, SamplerSpec
from mudman.specs.sources import BatchSpec, CorpusSpec, ModelSpec

SPEC_VERSION = 2


def _whole_cards(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError("above 1 only whole cards can be reserved")
    return gpus


class ResourcesSpec(Model):
    """What one trial holds while it runs."""

    gpus: Annotated[float, AfterValidator(_whole_cards)] = Field(0.0, ge=0, le=1024)
    """0 runs on the CPU; a fraction shares a card; whole numbers above 1 reserve several. A trial computes on one: the
    others stand idle, so ask for more than 1 only to keep others off them."""
    cpus: float = Field(1.0, gt=0, le=4096)
    """Processor cores, and torch threads (rounded down, at least one)."""
    max_concurrent: int = Field(1, ge=1, le=10_000)
    """Trials of this study that may run at once."""
    max_seconds: float | None = Field(None, gt=0, le=31_536_000)
    """Seconds of wall-clock that one trial may take; one that takes longer is stopped as lost, and run again. None: any
    number."""
    max_silence: float = Field(900.0, gt=0, le=31_536_000)
    """Seconds without a pass after which a trial is held for hung: stopped as lost, if need be by killing its process,
    and run again. Loading the model and evaluating count as silence."""


class StatisticsSpec(Model):
    last: int = Field(30, ge=1, le=1_000_000)
    """Last valid trials that the mean is taken over."""


class StudySpec(Model):
    """One hyper-parameter search: model, texts, method with ranges, attack, budget, constraint, objective."""

    name: Name
    owner: Name = "default"
    labels: dict[Name, Name] = {}
    priority: int = Field(0, ge=-100, le=100)
    model: ModelSpec
    forget: CorpusSpec
    retain: CorpusSpec
    batch: BatchSpec = BatchSpec()
    method: MethodSpec
    attack: AttackSpec
    budget: BudgetSpec
    constraint: ConstraintSpec | None = None
    objective: ObjectiveSpec = ObjectiveSpec()
    sampler: Sampler = SamplerSpec()
    pruner: Pruner | None = None
    """Ends trials early whose relearning curve does not promise enough; null runs every attack to its end."""
    seeds: SeedsSpec = SeedsSpec()
    resources: ResourcesSpec = ResourcesSpec()
    statistics: StatisticsSpec = StatisticsSpec()
    evaluations: Annotated[tuple[Evaluation, ...], Field(strict=False)] = ()
    """Measured on the untouched, the unlearned and the attacked model."""
    record: RecordSpec = RecordSpec()
    confirmation: ConfirmationSpec | None = None
    """What is run again on fresh seeds when the study completes; null: nothing, unless somebody asks for it."""
    checkpoints: CheckpointsSpec | None = None
    """Whose weights are kept when the study completes; null: nobody's, unless somebody asks for it."""
    repeats: RepeatsSpec | None = None
    """Trials of another study that this one runs again, instead of a search: what confirmations and checkpoints are."""

    @model_validator(mode="after")
    def _consistent(self) -> "StudySpec":
        faults = divisibility_faults(self.method, self.attack, self.budget) + self._unmeasured()
        if self.repeats is not None:
            faults += self.repeats.faults(self.search_space(), self.budget.trials)
        if self.sampler.type == "grid":
            faults += self.sampler.grid_faults(self.search_space(), self.budget.trials)
        if self.pruner is not None and self.objective.metric != "forget_loss":
            message = f"judges the curve of forget_loss, and {self.objective.metric} is measured after the attack only"
            faults.append(FieldFault("pruner", message, "leave it out"))
        if self.constraint and self.constraint.pause_at is not None and not self.method.retains:
            faults.append(
                FieldFault(
                    "constraint.pause_at", "this method has no retain step that could go on alone", "leave it out"
                )
            )
        loops = self.budget.unlearn_passes // self.method.passes_per_loop()
        if 0 < loops <= (start_up := self.method.start_up_loops()):
            message = f"gives {loops} loops, and this method unlearns nothing in its first {start_up}"
            remedy = "give more passes, or lower warm_up, locate_loops or random_mapping.loops"
            faults.append(FieldFault("budget.unlearn_passes", message, remedy))
        if faults:
            raise between_fields(faults)
        return self

    def _unmeasured(self) -> list[FieldFault]:
        """What objective and constraint rest on must be among the evaluations, once."""
        needed = {
            "objective.metric: wmdp_accuracy": self.objective.metric == "wmdp_accuracy"
            and ("multiple_choice", "forget"),
            "objective.metric: cloze_accuracy": self.objective.metric == "cloze_accuracy" and ("cloze", None),
            "constraint.mmlu_…": self.constraint and self.constraint.bounds_utility and ("multiple_choice", "utility"),
        }
        faults = []
        for what, key in needed.items():
            if key and sum((e.type, getattr(e, "measures", None)) == key for e in self.evaluations) != 1:
                measures = f" with measures: {key[1]}" if key[1] else ""
                faults.append(
                    FieldFault(
                        "evaluations", f"{what} needs exactly one evaluation of type {key[0]}{measures}", "add it, once"
                    )
                )
        return faults

    def for_trial(self, ordinal: int) -> "StudySpec":
        """The spec as trial ``ordinal`` gets it: without the record that was asked for other trials only, and with the
        seeds that it repeats another one under."""
        own = {}
        if self.repeats is not None:
            own["seeds"] = self.repeats.seeds_of(ordinal)
        if not (self.record.trials is None or ordinal in self.record.trials):
            own["record"] = RecordSpec()
        return self.model_copy(update=own) if own else self

    def search_space(self) -> dict[str, Range]:
        """Ranges that are searched, by dotted path below ``method``; fields the variant does not use are left out."""
        return {
            path: value
            for path, value in numbers_of(self.method)
            if isinstance(value, Range) and path not in self.method.idle_fields()
        }

    def unused(self) -> list[str]:
        """Dotted paths of settings that were given although the chosen variant does not use them."""
        sections = {"method": self.method, "sampler": self.sampler}
        return sorted(
            f"{name}.{path}"
            for name, section in sections.items()
            for path in section.idle_fields()
            if _was_given(section, path)
        )

    def identity(self) -> str:
        """SHA-256 over canonical JSON without defaults: equal for specs that mean the same study."""
        body = {"spec_version": SPEC_VERSION, **self.model_dump(mode="json", exclude_defaults=True)}
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def numbers_of(model: Model, prefix: str = "") -> Iterator[tuple[str, float | Range]]:
    """Every number or range below a model, with its dotted path."""
    for field in type(model).model_fields:
        yield from _numbers_below(getattr(model, field), f"{prefix}{field}")


def _numbers_below(value: Any, path: str) -> Iterator[tuple[str, float | Range]]:
    if isinstance(value, float | Range):
        yield path, value
    elif isinstance(value, Model):
        yield from numbers_of(value, f"{path}.")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _numbers_below(item, f"{path}.{index}")


def _was_given(model: Model, path: str) -> bool:
    head, _, rest = path.partition(".")
    return head in model.model_fields_set and (not rest or _was_given(getattr(model, head), rest))


def divisibility_faults(
    method: MethodSpec | None, attack: AttackSpec | None, budget: BudgetSpec | None
) -> list[FieldFault]:
    """Budgets are counted in passes and spent in whole loops."""
    faults = []
    if method is not None and budget is not None:
        faults += whole_loops("budget.unlearn_passes", budget.unlearn_passes, method.passes_per_loop(), "this method")
    if attack is not None:
        faults += whole_loops("attack.passes", attack.passes, attack.passes_per_loop(), "this attack")
    return faults


def whole_loops(path: str, passes: int, per_loop: int, what: str) -> list[FieldFault]:
    if passes % per_loop == 0:
        return []
    lower = passes - passes % per_loop
    near = f"{lower} or {lower + per_loop}" if lower else f"{per_loop}"
    return [FieldFault(path, f"{passes} is not divisible by the {per_loop} passes of a loop of {what}", f"take {near}")]
