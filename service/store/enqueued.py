"""Trials that somebody chose: the study's next new ordinals take their hyper-parameters, in order."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    Row,
    Select,
    String,
    bindparam,
    func,
    insert,
    or_,
    select,
)
from sqlalchemy.orm import Session

from mudman.faults import printable
from mudman.specs import Range, StudySpec
from mudman.specs.comparison import PlacedFault
from mudman.specs.study import numbers_of
from service.store import events, idempotency, standing, studies
from service.store.idempotency import IdempotencyConflict
from service.store.refusals import NoRoom, WrongRequest
from service.store.states import State
from service.store.tables import EnqueuedTrial, Group, Study, Trial

Place = tuple[str, ...]
"""Keys that lead to one of the trials in the request's body."""


def add(
    session: Session,
    study_id: str,
    chosen: Mapping[Place, Mapping[str, Any]],
    *,
    idempotency_key: str | None = None,
    request_hash: str = "",
) -> bool:
    """Put trials in line, all or none; False if this was done already, under the same key.

    The sampler chooses what is left out. Each counts toward the budget. Raises ``UnknownStudy``, ``WrongRequest``,
    ``NoRoom`` and ``IdempotencyConflict``.
    """
    study = studies.get(session, study_id)
    # The group first, as everybody does; its runner starts nothing meanwhile, so that the room stays.
    session.execute(select(Group.id).where(Group.id == study.group_id).with_for_update(key_share=True))
    study = studies.locked(session, study_id, key_share=True)
    if idempotency_key and (earlier := idempotency.recall(session, study.owner, idempotency_key)):
        if (earlier.study_id, earlier.request_hash) != (study_id, request_hash):
            raise IdempotencyConflict(idempotency_key)
        return False
    spec = StudySpec.model_validate(study.spec)
    wanted = checked(spec, chosen)
    _make_sure_of_room(session, study, spec, len(wanted))
    last = session.scalar(select(func.max(EnqueuedTrial.sequence)).where(EnqueuedTrial.study_id == study_id)) or 0
    rows = [{"study_id": study_id, "sequence": n, "hyperparameters": h} for n, h in enumerate(wanted, last + 1)]
    session.execute(insert(EnqueuedTrial), rows)
    events.append(session, study_id, "enqueued", {"sequences": [row["sequence"] for row in rows]})
    if idempotency_key:
        idempotency.remember(session, study.owner, idempotency_key, request_hash, study_id=study_id)
    return True


def waiting(session: Session, study_id: str) -> Sequence[EnqueuedTrial]:
    """Those that no trial has taken yet, in their order."""
    return session.scalars(_line(study_id)).all()


def first(session: Session, study_id: str) -> Row[tuple[int, dict[str, float]]] | None:
    """Sequence and hyper-parameters of the one whose turn it is. Cheap: asked before every new trial."""
    return session.connection().execute(_FIRST, {"study_id": study_id}).one_or_none()


def _line(study_id: str | BindParameter[str]) -> Select[tuple[EnqueuedTrial]]:
    untaken = (EnqueuedTrial.study_id == study_id, EnqueuedTrial.ordinal.is_(None))
    return select(EnqueuedTrial).where(*untaken).order_by(EnqueuedTrial.sequence)


_FIRST = (
    _line(bindparam("study_id", type_=String))
    .with_only_columns(EnqueuedTrial.sequence, EnqueuedTrial.hyperparameters)
    .limit(1)
)


def _make_sure_of_room(session: Session, study: Study, spec: StudySpec, wanted: int) -> None:
    """Places of the budget are held by what counts, runs, will run again or is in line."""
    total = spec.budget.trials
    if spec.repeats is not None:
        raise NoRoom(
            f"Study {study.id} runs trials of study {spec.repeats.study} again and no others. Enqueue them there."
        )
    if State(study.state).finished:
        raise NoRoom(
            f"Study {study.id} is {study.state} and runs no more trials. Give it some first: "
            f"POST /studies/{study.id}/extend (`mudman extend {study.id} --trials {total + wanted}`)."
        )
    pending = or_(Trial.outcome.is_(None), standing.runs_again())
    held = session.scalar(select(func.count()).where(Trial.study_id == study.id, pending, standing.is_last()))
    counted = standing.counting(session, [study.id]).get(study.id, 0)
    free = max(total - counted - held - len(waiting(session, study.id)), 0)
    if wanted > free:
        raise NoRoom(
            f"Study {study.id} has a budget of {total} trials with {free} places left, and {wanted} are enqueued here. "
            "Enqueue fewer, or wait until the study has ended and extend it."
        )


def checked(spec: StudySpec, chosen: Mapping[Place, Mapping[str, Any]]) -> list[dict[str, float]]:
    """The chosen values, whole numbers where the study searches whole numbers. Raises ``WrongRequest`` with every
    fault."""
    space, faults, wanted = spec.search_space(), [], []
    for place, values in chosen.items():
        if not values:
            remedy = "give at least one value; without any the sampler would choose them all"
            faults.append(PlacedFault(".".join(place), "names no hyper-parameter", remedy, place))
        trial = {}
        for name, value in values.items():
            if fault := _wrong(spec, space, name, value):
                name = printable(name)
                faults.append(PlacedFault(".".join([*place, name]), *fault, (*place, name)))
            else:
                trial[name] = int(value) if space[name].int else float(value)
        wanted.append(trial)
    if faults:
        raise WrongRequest(faults)
    return wanted


def _wrong(spec: StudySpec, space: dict[str, Range], name: str, value: Any) -> tuple[str, str] | None:
    """What is wrong, and the remedy."""
    if name not in space:
        return _not_searched(spec, space, printable(name))
    low, high = space[name].low, space[name].high
    bounds = f"give a{' whole' if space[name].int else ''} number from {low:g} to {high:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "is no number", bounds
    if not low <= value <= high:
        # No float is as large as a whole number may be.
        shown = f"{value:g}" if isinstance(value, float) or abs(value) < 1e300 else "a huge number"
        return f"{shown} is outside the study's search space", bounds
    if space[name].int and value != int(value):
        return f"{value:g} is not a whole number", bounds
    return None


def _not_searched(spec: StudySpec, space: dict[str, Range], name: str) -> tuple[str, str]:
    fixed = dict(numbers_of(spec.method)).get(name)
    if isinstance(fixed, Range):
        return "is not used by the study's method", "leave it out"
    if fixed is not None:
        return f"is fixed at {fixed:g} in this study", "leave it out; only what the study searches can be chosen"
    close = difflib.get_close_matches(name, space, n=1)
    known = ", ".join(sorted(space)) or "nothing"
    return "is no hyper-parameter of this study", f"did you mean {close[0]!r}?" if close else f"it searches {known}"
