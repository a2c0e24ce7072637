"""Before the first trial: check what the API could not, pin revisions, measure the untouched model and the baseline."""

import platform
import time
import uuid
from importlib.metadata import version
from typing import TYPE_CHECKING

from mudman import artifacts, provenance, simulation
from mudman.artifacts import ArtifactsUnavailable
from mudman.faults import SpecError
from mudman.results import Curve, Outcome, Preparation, TrialResult
from mudman.specs import NoUnlearning, StudySpec, resolve
from mudman.specs.evaluations import RecordSpec
from mudman.specs.study import SamplerSpec, StatisticsSpec
from mudman.trial import run_trial

if TYPE_CHECKING:
    from mudman.bench import Bench


def prepare(spec: StudySpec, baselines: dict[str, TrialResult] | None = None) -> Preparation:
    """Everything a study needs to know of its model and texts.

    ``baselines`` is shared by studies that are prepared one after the other: those that agree in the attack on the
    untouched model run it once.

    Raises ``SpecError`` with the faults found: unknown model, texts missing or too short, modules that match nothing,
    evaluations that cannot be had, an attack that breaks the untouched model.
    """
    if spec.model.id == simulation.MODEL_ID:
        return _simulated(spec)
    # torch is loaded only where a real model is prepared: it takes seconds, and simulated studies are many.
    from mudman.bench import bench_for
    from mudman.models import FILES
    from mudman.modules import matching_weights

    started = time.monotonic()
    if spec.repeats and spec.repeats.keep:
        _check_artifacts()
    bench = bench_for(spec)
    matched = {} if isinstance(spec.method, NoUnlearning) else matching_weights(bench.model, spec.method.target_modules)
    if bench.untouched.forget_loss is None or bench.untouched.retain_loss is None:
        raise SpecError.at(
            "model.id",
            "gives losses that are no finite numbers before any unlearning",
            "check the weights, or take dtype: float32",
        )
    _check_method(spec, bench)
    baselines = {} if baselines is None else baselines
    baseline = _baseline(spec, baselines)
    fresh = [spec.for_trial(number) for number in range(len(spec.repeats.seeds))] if spec.repeats else []
    return Preparation(
        model_revision=bench.revision,
        corpora={
            field: tokens.provenance()
            for field, tokens in (("forget", bench.forget), ("retain", bench.retain), ("attack", bench.attack))
            if tokens is not None
        },
        matched_modules=tuple(matched),
        intervened_parameters=sum(weight.numel() for weight in matched.values()),
        initial_forget_loss=bench.untouched.forget_loss,
        initial_retain_loss=bench.untouched.retain_loss,
        baseline=baseline,
        baselines=tuple(_baseline(one, baselines) for one in fresh),
        seconds=time.monotonic() - started,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "datasets")},
        },
        code=provenance.code(),
        hardware=provenance.hardware(),
        model_files=provenance.file_hashes(bench.folder, FILES),
    )


def _check_artifacts() -> None:
    """That this node can keep something. Raises ``SpecError``."""
    key = f"check/{uuid.uuid4().hex}"
    try:
        kept = artifacts.here()
        kept.put_bytes(f"{key}/empty", b"")
        kept.remove(key)
    except ArtifactsUnavailable as error:
        what, _, remedy = str(error).partition(" Remedy: ")
        raise SpecError.at("repeats.keep", f"on a node, {what.rstrip('.')}", remedy) from None


def _baseline(spec: StudySpec, baselines: dict[str, TrialResult]) -> TrialResult:
    """The attack on the untouched model. Raises ``SpecError`` where it breaks that."""
    untouched = _without_unlearning(spec)
    identity = untouched.identity()
    baseline = baselines[identity] = baselines.get(identity) or run_trial(untouched, {})
    if baseline.outcome is Outcome.DIVERGED:
        raise SpecError.at(
            "attack.rate", f"the attack diverges on the untouched model at rate {spec.attack.rate:g}", "lower the rate"
        )
    if baseline.outcome is not Outcome.VALID:
        why = baseline.fault.message if baseline.fault else baseline.outcome
        raise SpecError.at(
            "model.id",
            f"the attack on the untouched model failed: {why}",
            "give the study more memory (resources), or a smaller batch",
        )
    return baseline


def _check_method(spec: StudySpec, bench: "Bench") -> None:
    """What only the method's own making shows, such as a tweak for layers that this model lacks.

    Raises ``SpecError`` at the field; a trial would find it too, and each of them in vain.
    """
    from mudman.methods import METHODS
    from mudman.passes import Passes

    if isinstance(spec.method, NoUnlearning):
        return
    middles = {path: space.middle() for path, space in spec.search_space().items()}
    METHODS[spec.method.type](bench.model, resolve(spec.method, middles), Passes(bench.model))
    bench.restore()


def _without_unlearning(spec: StudySpec) -> StudySpec:
    """As the baseline runs. Its evaluations are the study's: one that cannot be had ends the preparation."""
    bare = {"method": NoUnlearning(type="none"), "constraint": None, "record": RecordSpec()}
    # What makes no difference to it is left out, so that studies that differ in nothing else share it.
    search = {"sampler": SamplerSpec(), "statistics": StatisticsSpec(), "priority": 0}
    search |= {"confirmation": None, "checkpoints": None, "repeats": None}
    budget = spec.budget.model_copy(update={"trials": 1})
    return spec.model_copy(update={**bare, **search, "name": "baseline", "labels": {}, "budget": budget})


def _simulated(spec: StudySpec) -> Preparation:
    simulation.wishes(spec)
    baseline = TrialResult(
        outcome=Outcome.VALID,
        value=2.0,
        relearning=Curve(passes=(spec.attack.passes,), forget_loss=(2.0,), retain_loss=(3.0,)),
        forget_loss_min=2.0,
        forget_loss_final=2.0,
        retain_loss_final=3.0,
        device="simulated",
    )
    return Preparation(
        model_revision="simulated",
        corpora={},
        matched_modules=(),
        intervened_parameters=0,
        initial_forget_loss=2.0,
        initial_retain_loss=3.0,
        baseline=baseline,
        baselines=(baseline,) * (len(spec.repeats.seeds) if spec.repeats else 0),
        seconds=0.0,
        versions={"python": platform.python_version()},
        code=provenance.code(),
        hardware=provenance.hardware(),
    )
