"""The vocabulary of the whole system: what a study is, in frozen pydantic models.

The same model is the request body of ``POST /studies``, the JSON that Postgres stores, the plan of the dispatcher and
the argument of a trial. It knows neither torch nor any database. ``parse`` turns untrusted data into a ``StudySpec``
or raises one ``SpecError`` that names every wrong field at once.
"""

import hashlib
import json
import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from mudman.faults import FieldFault, SpecError, field_faults

SPEC_VERSION = 1


class Model(BaseModel):
    """Frozen, closed to unknown fields, NaN and infinity; strict, so that ``true`` and ``"3"`` are no numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


# --------------------------------------------------------------------------------------------- a value or a range


class Range(Model):
    """An interval that the sampler searches: ``{low: 1e-7, high: 0.3, log: true}``."""

    low: float
    """Smallest value that is tried."""
    high: float
    """Largest value that is tried, itself included."""
    log: bool = False
    """Sample the logarithm uniformly; needs low > 0."""
    int: bool = False
    """Sample whole numbers only."""

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(
                f"low ({self.low:g}) must be below high ({self.high:g}); for one fixed value give the number"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"a log range cannot reach low = {self.low:g}; take low > 0, or log: false")
        if self.int and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("an int range needs whole numbers for low and high")
        return self

    def middle(self) -> float:
        """The value halfway: the geometric mean of a log range, a whole number of an int range."""
        value = math.sqrt(self.low) * math.sqrt(self.high) if self.log else self.low / 2 + self.high / 2
        return round(value) if self.int else value


def _kind(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "value"


def _within(low: float, high: float):
    def check(value: float | Range) -> float | Range:
        ends = {("low",): value.low, ("high",): value.high} if isinstance(value, Range) else {(): value}
        for below, end in ends.items():
            if not low <= end <= high:
                bound = f"of at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
                context = {"bound": bound, "end": end, "below": below}
                raise PydanticCustomError("out_of_bounds", "must be " + bound.removeprefix("of "), context)
        return value

    return AfterValidator(check)


ValueOrRange = Annotated[
    Annotated[float, Tag("value")] | Annotated[Range, Tag("range")],
    Discriminator(_kind),
]
Rate = Annotated[ValueOrRange, _within(0, math.inf)]
Share = Annotated[ValueOrRange, _within(0, 1)]
Interval = Annotated[ValueOrRange, _within(1, math.inf)]

# ------------------------------------------------------------------------------------------------ model and text

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
MOST_PASSES = 10**9


class ModelSpec(Model):
    """A causal language model."""

    id: Name
    """A packaged model (``tiny-llama``), a hub id (``org/name``), or a folder under the data root (``./my-model``)."""
    revision: Name = "main"
    """Branch, tag or commit on the hub; pinned to a commit when the study is prepared."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of weights, gradients and updates. In bfloat16 small updates vanish."""


class CorpusSpec(Model):
    """Text: one example per record, cut to ``batch.length`` tokens; shorter records are left out."""

    corpus: Name
    """A named corpus (``python-functions``), a hub id (``org/name``), or a folder under the data root (``./texts``).
    There a .txt file gives one record per paragraph: blank lines divide them."""
    config: Name | None = None
    """Configuration of a hub data set, where it has several."""
    revision: Name | None = None
    """Branch, tag or commit on the hub."""
    split: Name | None = None
    """Split of the data set; default ``train``, or the one that a named corpus prescribes."""
    column: Name | None = None
    """Column that holds the text; default ``text``, or the one that a named corpus prescribes."""
    repeat: bool = False
    """Start over when the corpus is shorter than the budget needs, instead of refusing the study."""


class BatchSpec(Model):
    """Shape of every token batch."""

    size: int = Field(16, ge=1, le=4096)
    """Sequences per batch."""
    length: int = Field(100, ge=2, le=131072)
    """Tokens per sequence."""
    evaluation: int = Field(1, ge=1, le=10_000)
    """Batches of the validation split that are held out for the losses; the paper uses one."""


# -------------------------------------------------------------------------------------------------------- method

Loss = Literal["neg_cross_entropy", "neg_entropy"]


class AdversarySpec(Model):
    """The copy that is trained on the forget set to show where the capability lives."""

    type: Literal["none", "fork"] = "fork"
    """``fork``: a copy of the intervened weights, renewed every ``fork_every`` loops; ``none``: the model itself."""
    gradient: Literal["hybrid", "reuse", "fresh"] = "hybrid"
    """Where the unlearning gradient is taken. ``hybrid``: one graph, adversary stepped between two backwards (the
    published code); ``reuse``: both at the adversary before its step; ``fresh``: new forward after the step
    (Algorithm 1 as printed)."""
    decay: Share = 1.0
    """After its step the adversary becomes decay · adversary + (1 − decay) · model."""
    update: Rate = 0.0
    """Share of the unlearning update that the adversary receives too."""


class RepresentationLoss(Model):
    """Retain loss on hidden states: distance to those of the original model."""

    coefficient: Rate = 1.0
    """Weight of this loss beside the cross-entropy of the retain batch."""
    squared: bool = False
    """Square the norm of each token's difference before the mean."""


class MudmanSpec(Model):
    """MUDMAN and its ablations (arXiv 2506.12484, Algorithm 1 and Listing 1). Every number takes a value or a range.

    The model runs in training mode, as published: where its dropout is active, it trains with it.
    """

    type: Literal["mudman"]
    target_modules: tuple[Name, ...] = Field(min_length=1, strict=False)  # a list is as good as a tuple
    """Modules whose weight is changed, by exact suffix of the dotted name (``gate_proj``, ``mlp.up_proj``)."""
    loss: Loss = "neg_cross_entropy"
    """Unlearning loss, to be minimised on the forget set."""
    mask: Literal["none", "sign"] = "sign"
    """``sign``: Disruption Masking, an update only where its sign agrees with the accumulated retain gradient."""
    normalization: Literal["none", "per_parameter", "global_post_mask", "global_pre_mask"] = "global_pre_mask"
    """What the unlearning gradient is divided by (Table 1)."""
    rate_unit: Literal["rms", "l2"] = "rms"
    """``rms``: the rate is the root mean square of the unmasked update (published configs); ``l2``: its norm.
    The published Table 1 has ``per_parameter`` in ``l2``, its other variants in ``rms``."""
    adversary: AdversarySpec = AdversarySpec()
    forget_momentum: Share = 0.0
    """Exponential average over unlearning gradients."""
    growing_weights: Rate = 1.0
    """Factor on updates that grow the absolute weight; 0 lets weights only shrink."""
    representation_loss: RepresentationLoss | None = None
    unlearning_rate: Rate
    """Size of one unlearning update, in ``rate_unit``."""
    retaining_rate: Rate = 1e-3
    """Learning rate of the retain step."""
    retain_momentum: Share = 0.9
    """Decay m of the retain accumulator: acc ← m · acc + (1 − m) · gradient."""
    adversary_rate: Rate = 1e-3
    """Learning rate of the adversary on the forget set."""
    fork_every: Interval = 32
    """Loops between two forks of the adversary; loop 0 always forks. Fractions are cut off."""

    def passes_per_loop(self) -> int:
        """Passes one loop books, as the published procedure books them."""
        return 4 + (self.adversary.type != "none") + (self.representation_loss is not None)

    def _idle_fields(self) -> set[str]:
        idle = set()
        if self.adversary.type == "none":
            idle |= {"adversary.gradient", "adversary.decay", "adversary.update", "adversary_rate", "fork_every"}
        if self.normalization == "none":
            idle |= {"rate_unit"}
        return idle


class NoUnlearning(Model):
    """Leave the model as it is: the baseline that every method is compared with."""

    type: Literal["none"]

    def passes_per_loop(self) -> int:
        return 1

    def _idle_fields(self) -> set[str]:
        return set()


MethodSpec = Annotated[MudmanSpec | NoUnlearning, Field(discriminator="type")]

# ------------------------------------------------------------------------------- attack, budget, search, resources


class AttackSpec(Model):
    """Relearning: plain training on the forget set that tries to bring the capability back."""

    type: Literal["relearn"] = "relearn"
    optimizer: Literal["sgd"] = "sgd"
    rate: float = Field(gt=0)
    """Learning rate on all parameters, constant."""
    passes: int = Field(ge=2, le=MOST_PASSES)
    """Passes of the attack: two a loop, four with retain mixed in."""
    check_every: int = Field(30, ge=1, le=MOST_PASSES)
    """Passes between two evaluations along the attack."""
    retain: bool = False
    """Mix a retain step into every loop."""

    def passes_per_loop(self) -> int:
        return 4 if self.retain else 2


class BudgetSpec(Model):
    unlearn_passes: int = Field(ge=0, le=MOST_PASSES)
    """Passes of unlearning in one trial."""
    trials: int = Field(ge=1, le=1_000_000)
    """Trials that count (valid, over budget or diverged) after which the study is complete."""


class ConstraintSpec(Model):
    """What a trial may cost; checked every 30 unlearning passes, where the trial ends at once if it is over.

    The untouched model is measured in the dtype of the trials (the published code measures it in float32).
    """

    retain_loss_increase: float = Field(ge=0)
    """Nats per token by which the retain loss may rise above that of the untouched model."""
    check_every: int = Field(30, ge=1, le=MOST_PASSES)
    """Unlearning passes between two checks."""


class ObjectiveSpec(Model):
    metric: Literal["forget_loss"] = "forget_loss"
    reduce: Literal["min", "final"] = "min"
    """``min``: over the attack's checks, the strongest moment of the attacker; ``final``: at its end."""
    direction: Literal["maximize"] = "maximize"


class SamplerSpec(Model):
    type: Literal["tpe", "random"] = "tpe"
    seed: Seed = 0
    startup_trials: int = Field(10, ge=0, le=1_000_000)
    """Random trials before the sampler learns from results."""


class SeedsSpec(Model):
    data: Seed = 42
    """Shuffle that splits the corpora into train, validation and test."""
    trial: Seed = 42
    """Set before unlearning and again before the attack."""


def _whole_cards(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError("above 1 only whole cards can be reserved")
    return gpus


class ResourcesSpec(Model):
    """What one trial holds while it runs."""

    gpus: Annotated[float, AfterValidator(_whole_cards)] = Field(0.0, ge=0, le=1024)
    """0 runs on the CPU; a fraction shares a card; whole numbers above 1 reserve several."""
    cpus: float = Field(1.0, gt=0, le=4096)
    """Processor cores, and torch threads (rounded down, at least one)."""
    max_concurrent: int = Field(1, ge=1, le=10_000)
    """Trials of this study that may run at once."""


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
    sampler: SamplerSpec = SamplerSpec()
    seeds: SeedsSpec = SeedsSpec()
    resources: ResourcesSpec = ResourcesSpec()
    statistics: StatisticsSpec = StatisticsSpec()

    @model_validator(mode="after")
    def _consistent(self) -> "StudySpec":
        if faults := divisibility_faults(self.method, self.attack, self.budget):
            raise ValueError("; ".join(f"{fault.path}: {fault.message} ({fault.remedy})" for fault in faults))
        return self

    def search_space(self) -> dict[str, Range]:
        """Ranges that are searched, by dotted path below ``method``; fields the variant does not use are left out."""
        return {
            path: value
            for path, value in _numbers(self.method)
            if isinstance(value, Range) and path not in self.method._idle_fields()
        }

    def unused(self) -> list[str]:
        """Dotted paths of settings that were given although the chosen variant does not use them."""
        return sorted(f"method.{path}" for path in self.method._idle_fields() if _was_given(self.method, path))

    def identity(self) -> str:
        """SHA-256 over canonical JSON without defaults: equal for specs that mean the same study."""
        body = {"spec_version": SPEC_VERSION, **self.model_dump(mode="json", exclude_defaults=True)}
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _numbers(model: Model, prefix: str = ""):
    """Every number or range below a model, with its dotted path."""
    for field in type(model).model_fields:
        value = getattr(model, field)
        if isinstance(value, float | Range):
            yield f"{prefix}{field}", value
        elif isinstance(value, Model):
            yield from _numbers(value, f"{prefix}{field}.")


def _was_given(model: Model, path: str) -> bool:
    head, _, rest = path.partition(".")
    return head in model.model_fields_set and (not rest or _was_given(getattr(model, head), rest))


# ------------------------------------------------------------------------------------- from ranges to one trial


def resolve(method: MethodSpec, hyperparameters: dict[str, float]) -> MethodSpec:
    """The method with every range replaced by its value from ``hyperparameters`` (dotted path below ``method``).

    Raises ``SpecError`` for a searched range without a value, an unknown name, or a value outside the field's bounds.
    Chosen values may lie outside the searched range: users enqueue such points on purpose. A range that the variant
    does not use takes its lower end: it has no effect.
    """
    numbers, idle, faults = dict(_numbers(method)), method._idle_fields(), []
    data = method.model_dump()
    for path in hyperparameters:
        if path not in numbers:
            known = ", ".join(numbers) or "none: this method has no numbers"
            faults.append(FieldFault(f"method.{path}", "is no number of this method", f"one of {known}"))
    for path, number in numbers.items():
        if path in hyperparameters:
            _set(data, path, hyperparameters[path])
        elif isinstance(number, Range) and path in idle:
            _set(data, path, number.low)
        elif isinstance(number, Range):
            faults.append(FieldFault(f"method.{path}", "is a range and has no value", "give a hyper-parameter for it"))
    if faults:
        raise SpecError(faults)
    return parse_as(MethodSpec, data, prefix="method")


def _set(data: dict, path: str, value: float) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        data = data[parent]
    data[last] = value


# ----------------------------------------------------------------------------------------- from outside to a spec


def parse(data: Any) -> StudySpec:
    """Validate untrusted data. Raises ``SpecError`` with every fault: of single fields and between fields."""
    try:
        return parse_as(StudySpec, data)
    except SpecError as error:
        # Rules between fields are not reached by pydantic once a field is wrong: check what can be read on its own.
        between = divisibility_faults(
            _readable(data, "method", MethodSpec),
            _readable(data, "attack", AttackSpec),
            _readable(data, "budget", BudgetSpec),
        )
        wrong = {fault.path for fault in error.faults}
        raise SpecError(
            [fault for fault in error.faults if fault.path or not between]
            + [fault for fault in between if fault.path not in wrong]
        ) from None


def parse_as(kind: Any, data: Any, prefix: str = "") -> Any:
    """Validate ``data`` as the spec model ``kind``. Raises ``SpecError``; ``prefix`` leads every reported path."""
    from pydantic import ValidationError

    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        raise SpecError(field_faults(error, data, kind, prefix)) from None


def _readable(data: Any, key: str, kind: Any) -> Any:
    """The section ``key`` with its wrong fields left out, or None where too little of it can be read."""
    section = data.get(key) if isinstance(data, dict) else None
    if key == "method" and isinstance(section, dict):
        # Passes per loop rest on these alone; whatever else is wrong there has been reported.
        section = {name: section[name] for name in ("type", "adversary", "representation_loss") if name in section}
        section |= {"target_modules": ["any"], "unlearning_rate": 1.0} if section.get("type") == "mudman" else {}
    elif key == "budget" and isinstance(section, dict):
        section = section | {"trials": 1}
    try:
        return parse_as(kind, section)
    except SpecError:
        return None


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
