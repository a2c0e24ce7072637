"""Which figures a study has, and what each is drawn from, wherever that is kept: in the store or in a bundle."""

from collections.abc import Mapping
from typing import Any, Protocol

from mudman.faults import MudmanError
from mudman.results import Curve, Trace
from mudman.specs import Range, StudySpec
from service.figures.curves import curves
from service.figures.dynamics import Traced, dynamics
from service.figures.history import history
from service.figures.importance import FEWEST, importance, importances
from service.figures.names import OfStudy as Name
from service.figures.slices import slices
from service.figures.style import Figure, thinned
from service.figures.times import times
from service.statistics.compute import Attempt, best_first, tally
from service.statistics.means import summarise

MOST_CURVES = 200


class NotEnough(MudmanError):
    """There are not enough trials to draw it; the message says how many are needed."""


class Subject(Protocol):
    """A study as a row of the store or of a bundle has it."""

    id: str
    name: str
    state: str
    spec: dict[str, Any]
    preparation: dict[str, Any] | None


class Source(Protocol):
    """Where the trials of a study are."""

    def finished(self) -> list[Attempt]:
        """Every finished attempt by ordinal and attempt."""

    def valid(self) -> list[Attempt]:
        """Valid trials by ordinal, with their hyper-parameters."""

    def best(self) -> Attempt:
        """Best of them; of equal ones, the lowest ordinal. Asked for only where there is one."""

    def last_curves(self, many: int) -> dict[int, Curve]:
        """Relearning curves of the last valid trials by ordinal, the last one first; those without one are left out."""

    def curve(self, ordinal: int) -> Curve | None:
        """Relearning curve of a valid trial."""

    def trace(self) -> tuple[int, Trace] | None:
        """Of the best valid trial that has one, with its ordinal."""


def draw(name: Name, study: Subject, source: Source) -> Figure:
    """Raises ``NotEnough``."""
    return _DRAWN[name](study, StudySpec.model_validate(study.spec), source)


def _history(study: Subject, spec: StudySpec, source: Source) -> Figure:
    attempts = source.finished()
    minimise = spec.objective.minimise
    values = [one.value for one in attempts if one.outcome == "valid" and one.value is not None]
    summary = summarise(values, spec.statistics.last, minimise=minimise)
    if summary is None:
        raise _nothing(study, "a valid trial")
    baseline = _baseline(study).get("value")
    return history(study.name, spec.objective.metric, attempts, summary, baseline, minimise=minimise)


def _slice(study: Subject, spec: StudySpec, source: Source) -> Figure:
    valid, space = source.valid(), spec.search_space()
    if not valid or not space:
        raise _nothing(study, "a valid trial and a range that is searched")
    [ringed] = best_first(valid, 1, minimise=spec.objective.minimise)
    return slices(study.name, spec.objective.metric, space, valid, ringed)


def _importance(study: Subject, spec: StudySpec, source: Source) -> Figure:
    space = spec.search_space()
    valid = [one for one in source.valid() if _lies_in(space, one)]
    if len(valid) < FEWEST or not space:
        raise _nothing(study, f"{FEWEST} valid trials and a range that is searched")
    used = thinned(valid)
    shares = importances(space, used, minimise=spec.objective.minimise)
    return importance(study.name, shares, len(used), len(valid))


def _lies_in(space: Mapping[str, Range], one: Attempt) -> bool:
    """A row that another program wrote may not."""
    chosen = one.hyperparameters
    return all(name in chosen and searched.low <= chosen[name] <= searched.high for name, searched in space.items())


def _curves(study: Subject, spec: StudySpec, source: Source) -> Figure:
    last = source.last_curves(min(spec.statistics.last, MOST_CURVES))
    if not last:
        raise _nothing(study, "a valid trial")
    best = source.best().ordinal
    untouched = _baseline(study).get("relearning")
    return curves(
        study.name,
        list(last.values()),
        last.get(best) or source.curve(best),
        Curve.model_validate(untouched) if untouched else None,
    )


def _dynamics(study: Subject, spec: StudySpec, source: Source) -> Figure:
    found = source.trace()
    if found is None:
        raise _nothing(study, "a valid trial with a trace (record.trace: true in the spec)")
    return dynamics(study.name, [Traced(spec.method.type, *found)])


def _times(study: Subject, spec: StudySpec, source: Source) -> Figure:
    attempts = source.finished()
    if not attempts:
        raise _nothing(study, "a finished trial")
    return times(study.name, [(study.name, spec, tally(attempts))])


_DRAWN = {
    Name.history: _history,
    Name.slice: _slice,
    Name.importance: _importance,
    Name.curves: _curves,
    Name.dynamics: _dynamics,
    Name.times: _times,
}


def _baseline(study: Subject) -> dict[str, Any]:
    return (study.preparation or {}).get("baseline") or {}


def _nothing(study: Subject, needed: str) -> NotEnough:
    return NotEnough(
        f"This figure needs {needed}. Study {study.id} is {study.state}; its trials: /studies/{study.id}/trials."
    )
