"""What people do to a study that is there: resume it, give it more trials, run trials of it again, delete it.

Pausing and cancelling are changes of its state and nothing else (``studies.change_state``).
"""

from collections.abc import Collection, Iterable

from sqlalchemy import delete as delete_rows
from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from mudman.faults import SpecError
from mudman.results import Outcome
from mudman.specs import SPEC_VERSION, parse
from service.store import checkpoints, gauges, optuna_rows, standing, states, studies
from service.store.refusals import NotFinished, NothingToRetry, PartOfComparison, WrongRequest
from service.store.states import Action, State
from service.store.tables import Event, Group, Study, Trial

RETRIED = (Outcome.ERROR, Outcome.OUT_OF_MEMORY, Outcome.LOST)
"""Outcomes of trials that may run again on request. The others count, or run again by themselves."""
_AT_ONCE = 5000
"""Trials or events that one statement deletes: a trial's curves may be megabytes, and statements have a time limit."""


def resume(session: Session, study_id: str) -> Study:
    """A paused study runs again. Raises ``UnknownStudy``, ``RefusedTransition``."""
    studies.clean_slate(session, studies.get(session, study_id))
    return studies.change_state(session, study_id, Action.RESUME)


def extend(session: Session, study_id: str, trials: int) -> Study:
    """A finished study gets a budget of ``trials`` in all and is queued again. One that has it already is answered as
    it is, so that this may be repeated.

    Raises ``UnknownStudy``, ``RefusedTransition``, ``WrongRequest``.
    """
    study = studies.clean_slate(session, studies.get(session, study_id))
    before = study.spec["budget"]["trials"]
    if trials == before:
        return study
    states.after(study_id, State(study.state), Action.EXTEND)
    if trials < before:
        remedy = f"give the new total: a number above {before}"
        raise WrongRequest.at("trials", f"is {trials}, and the study has a budget of {before} already", remedy)
    document = {**study.spec, "budget": {**study.spec["budget"], "trials": trials}}
    try:
        identity = parse(document).identity()
    except SpecError as error:
        raise WrongRequest([_at_trials(fault) for fault in error.faults]) from None
    study.spec, study.spec_hash, study.spec_version = document, identity, SPEC_VERSION
    return studies.change_state(session, study_id, Action.EXTEND, data={"trials": {"from": before, "to": trials}})


def _at_trials(fault):
    return type(fault)("trials", f"makes a spec that cannot be ({fault.path}: {fault.message})", fault.remedy)


def retry(
    session: Session,
    study_id: str,
    outcomes: Collection[Outcome] = RETRIED,
    ordinals: Collection[int] | None = None,
) -> Study:
    """Another attempt for each trial of a finished study that ended in one of these outcomes, with the same
    hyper-parameters; ``ordinals``: for these trials only. The study is queued again.

    Raises ``UnknownStudy``, ``RefusedTransition``, and ``NothingToRetry`` where there is no such trial, or one that was
    named is none.
    """
    study = studies.clean_slate(session, studies.get(session, study_id))
    states.after(study_id, State(study.state), Action.RETRY)
    last = update(Trial).where(Trial.study_id == study_id, Trial.outcome.in_(outcomes), standing.is_last())
    if ordinals is not None:
        last = last.where(Trial.ordinal.in_(ordinals))
    marked = session.scalars(
        last.values(run_again=True).returning(Trial.ordinal), execution_options={"synchronize_session": False}
    ).all()
    others = sorted(set(ordinals or ()) - set(marked))
    if others or not marked:
        raise NothingToRetry(_nothing(study_id, outcomes, others))
    return studies.change_state(session, study_id, Action.RETRY, data={"trials": len(marked)})


def _nothing(study_id: str, outcomes: Collection[Outcome], others: list[int]) -> str:
    ended = " or ".join(outcomes)
    where = f"The trials with their outcomes: /studies/{study_id}/trials."
    if others:
        return f"Of study {study_id}, these trials did not end in {ended}: {', '.join(map(str, others))}. {where}"
    return f"No trial of study {study_id} ended in {ended}: there is nothing to retry. {where}"


def delete(session: Session, study_id: str) -> None:
    """A finished study with all that belongs to it. Raises ``UnknownStudy``, ``NotFinished``, ``PartOfComparison``."""
    study = studies.get(session, study_id)
    if study.comparison_id is not None:
        raise PartOfComparison(
            f"Study {study_id} belongs to comparison {study.comparison_id}. Delete the comparison: "
            f"DELETE /comparisons/{study.comparison_id} (`mudman delete {study.comparison_id}`)."
        )
    remove(session, [study])


def remove(session: Session, doomed: Iterable[Study]) -> None:
    """Finished studies with their trials, events and rows at Optuna, and groups that are empty then. Raises
    ``UnknownStudy``, ``NotFinished``."""
    doomed = sorted(doomed, key=lambda study: study.id)
    groups = sorted({study.group_id for study in doomed})
    session.execute(select(Group.id).where(Group.id.in_(groups)).order_by(Group.id).with_for_update())
    for study in doomed:
        study = studies.locked(session, study.id)
        if not State(study.state).finished:
            raise NotFinished(
                f"Study {study.id} is {study.state}: only what has finished can be deleted. "
                f"Cancel it first: POST /studies/{study.id}/cancel (`mudman cancel {study.id}`)."
            )
        optuna_rows.delete(session, study.id)
        gauges.keep(session, study.id)
        if study.spec.get("repeats", {}).get("keep"):
            checkpoints.doom(session, [study.id])
        _empty(session, study)
        session.execute(delete_rows(Study).where(Study.id == study.id))
    inhabited = exists().where(Study.group_id == Group.id)
    session.execute(delete_rows(Group).where(Group.id.in_(groups), ~inhabited))


def _empty(session: Session, study: Study) -> None:
    """Without its trials and events: all that a study of any size has many of."""
    trials = session.scalar(select(func.max(Trial.ordinal)).where(Trial.study_id == study.id)) or 0
    for table, number, last in ((Trial, Trial.ordinal, trials), (Event, Event.sequence, study.last_event)):
        for start in range(0, last + 1, _AT_ONCE):
            batch = delete_rows(table).where(table.study_id == study.id, number.between(start, start + _AT_ONCE - 1))
            session.execute(batch, execution_options={"synchronize_session": False})
