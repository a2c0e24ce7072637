"""What is done to all studies of a comparison at once: in one transaction, and told for each of them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from mudman.results import Outcome
from service.store import actions, comparisons, studies
from service.store.actions import RETRIED
from service.store.refusals import NothingToRetry, WrongRequest
from service.store.states import Action, RefusedTransition, State
from service.store.tables import Comparison, Group, Study


@dataclass(frozen=True)
class Change:
    """What became of one study."""

    variant: str
    study_id: str
    changed: bool
    reason: str | None = None
    """Why it was left as it is."""


class NothingChanged(MudmanError):
    """None of the comparison's studies could be changed so; ``changes`` has the reason of each."""

    def __init__(self, comparison_id: str, state: State, changes: list[Change]):
        reasons = " ".join(f"{change.variant}: {change.reason}" for change in changes)
        super().__init__(f"No study of comparison {comparison_id} can be changed so. {reasons}")
        self.comparison_id, self.state, self.changes = comparison_id, state, changes

    def __reduce__(self):
        return NothingChanged, (self.comparison_id, self.state, self.changes)


def pause(session: Session, comparison_id: str) -> list[Change]:
    """Every study that runs. Raises ``UnknownComparison``, ``NothingChanged``; so do the others."""
    return _each(session, comparison_id, lambda study: _pause(session, study))


def resume(session: Session, comparison_id: str) -> list[Change]:
    """Every study that is paused."""
    return _each(session, comparison_id, lambda study: actions.resume(session, study.id))


def cancel(session: Session, comparison_id: str) -> list[Change]:
    """Every study that has not finished."""
    return _each(session, comparison_id, lambda study: studies.change_state(session, study.id, Action.CANCEL))


def extend(session: Session, comparison_id: str, trials: int) -> list[Change]:
    """Every finished study that unlearns gets a budget of ``trials`` in all. Raises also ``WrongRequest``, where that
    is no more for any of them."""
    return _each(session, comparison_id, lambda study: _extend(session, study, trials))


def retry(session: Session, comparison_id: str, outcomes: Collection[Outcome] = RETRIED) -> list[Change]:
    """The failed trials of every finished study; a study that failed without one is queued again."""
    return _each(session, comparison_id, lambda study: _retry(session, study, outcomes))


class _LeftAlone(MudmanError):
    """It is none of those that were asked for."""


class _Already(MudmanError):
    """It is as it was asked to be: the request may be repeated."""


def _pause(session: Session, study: Study) -> None:
    if study.state in (State.QUEUED, State.PREPARING):
        raise _LeftAlone(
            f"it is {study.state} and cannot be paused before it runs: it will start. Pause the comparison again then, "
            f"or cancel it: POST /studies/{study.id}/cancel (`mudman cancel {study.id}`)."
        )
    studies.change_state(session, study.id, Action.PAUSE)


def _extend(session: Session, study: Study, trials: int) -> None:
    if study.spec["method"]["type"] == "none":
        raise _LeftAlone("one trial is all that there is without unlearning.")
    if study.spec["budget"]["trials"] == trials:
        raise _Already(f"it has a budget of {trials} already.")
    actions.extend(session, study.id, trials)


def _retry(session: Session, study: Study, outcomes: Collection[Outcome]) -> None:
    try:
        actions.retry(session, study.id, outcomes)
    except NothingToRetry:
        if study.state != State.FAILED:
            raise
        studies.run_again(session, study)


def _each(session: Session, comparison_id: str, act: Callable[[Study], object]) -> list[Change]:
    """Studies that refuse are left as they are. Each checks before it changes anything, and all are locked."""
    comparison = comparisons.get(session, comparison_id)
    changes, wrong, as_asked = {}, None, False
    for study in _locked(session, comparison):
        try:
            act(study)
            changes[study.variant] = Change(study.variant, study.id, changed=True)
        except (RefusedTransition, NothingToRetry, WrongRequest, _LeftAlone, _Already) as refusal:
            changes[study.variant] = Change(study.variant, study.id, changed=False, reason=_reason(refusal))
            wrong = refusal if isinstance(refusal, WrongRequest) else wrong
            as_asked = as_asked or isinstance(refusal, _Already)
    told = [changes[study.variant] for study in comparisons.studies_of(session, comparison)]
    if not as_asked and not any(change.changed for change in told):
        if wrong is not None:
            raise wrong
        raise NothingChanged(comparison_id, _state(session, comparison), told)
    return told


def _locked(session: Session, comparison: Comparison) -> list[Study]:
    """Its studies and their groups, in the order in which everybody locks them."""
    of_comparison = select(Study).where(Study.comparison_id == comparison.id).order_by(Study.id)
    groups = {study.group_id for study in session.scalars(of_comparison)}
    session.execute(select(Group.id).where(Group.id.in_(groups)).order_by(Group.id).with_for_update())
    locked = of_comparison.with_for_update(key_share=True)
    return list(session.scalars(locked, execution_options={"populate_existing": True}))


def _reason(refusal: MudmanError) -> str:
    if isinstance(refusal, WrongRequest):
        return "; ".join(f"{fault.path} {fault.message}" for fault in refusal.faults) + "."
    return str(refusal)


def _state(session: Session, comparison: Comparison) -> State:
    return comparisons.overall(study.state for study in comparisons.studies_of(session, comparison))
