"""Studies: creating them, and the one door for their state.

How far one of them is, is in ``standing``; pages over many studies and trials are in ``pages``.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from mudman.specs import SPEC_VERSION, StudySpec
from service.store import events, idempotency, states
from service.store.events import UnknownStudy
from service.store.idempotency import IdempotencyConflict
from service.store.states import Action, State
from service.store.tables import Group, Study

_RUNS_AGAIN = (State.FAILED, State.CANCELLED)


class NameTaken(MudmanError):
    """The owner has a study of this name with another spec; ``difference`` maps dotted paths to both values."""

    def __init__(self, owner: str, name: str, study_id: str, difference: dict[str, dict[str, Any]]):
        shown = "; ".join(f"{path}: {pair['existing']!r} → {pair['given']!r}" for path, pair in difference.items())
        super().__init__(
            f"{owner!r} already has a study named {name!r} ({study_id}) with another spec ({shown}). "
            "Choose another name (`mudman submit … --set name=…`), or post the same spec."
            + _longer(study_id, difference)
        )
        self.owner, self.name, self.study_id, self.difference = owner, name, study_id, difference

    def __reduce__(self):
        return NameTaken, (self.owner, self.name, self.study_id, self.difference)


def _longer(study_id: str, difference: dict[str, dict[str, Any]]) -> str:
    """The other remedy, where all that differs is a larger budget."""
    pair = difference.get("budget.trials")
    if len(difference) > 1 or pair is None or pair["given"] <= pair["existing"]:
        return ""
    command = f"mudman extend {study_id} --trials {pair['given']}"
    return f" For more trials of it: POST /studies/{study_id}/extend (`{command}`)."


@dataclass(frozen=True)
class Creation:
    study: Study
    created: bool
    """False: the same study was there already."""


def new_study_id() -> str:
    """Opaque: ``st_`` and 96 random bits in 16 characters that need no escaping in a URL."""
    return f"st_{secrets.token_urlsafe(12)}"


def is_study_id(text: str) -> bool:
    """Whether ``new_study_id`` could have made ``text``."""
    return re.fullmatch(r"st_[A-Za-z0-9_-]{16}", text, re.ASCII) is not None


def create(
    session: Session, spec: StudySpec, *, preset: str | None = None, idempotency_key: str | None = None
) -> Creation:
    """Store a queued study, its group and the event ``created``; the same spec again answers the existing study.

    One that failed or was cancelled is queued again by that (event ``requeued``); not by a replay of a key.
    Safe under any number of simultaneous callers: the unique constraint on (owner, name) lets one create, the others
    wait for it and find its study. Raises ``NameTaken``, or ``IdempotencyConflict`` where the owner used the key for
    another spec; nothing is stored then.
    """
    identity = spec.identity()
    if idempotency_key and (earlier := idempotency.recall(session, spec.owner, idempotency_key)):
        study = get(session, earlier.study_id) if earlier.study_id else None
        if study is None or not (earlier.request_hash == identity or _means(study, identity)):
            raise IdempotencyConflict(idempotency_key)
        return Creation(study, created=False)
    creation = _created(session, spec, identity, preset)
    if idempotency_key:
        idempotency.remember(session, spec.owner, idempotency_key, identity, study_id=creation.study.id)
    return creation


def _created(session: Session, spec: StudySpec, identity: str, preset: str | None) -> Creation:
    while True:
        if study := _insert(session, spec, preset):
            return Creation(study, created=True)
        if study := _same(session, spec, identity):
            return Creation(study, created=False)
        # It was deleted between the two, and its name is free.


def _insert(session: Session, spec: StudySpec, preset: str | None) -> Study | None:
    """None where the name is taken; the group is then undone with it."""
    with session.begin_nested() as savepoint:
        study = add(session, spec, add_group(session, spec.priority), preset=preset)
        if study is None:
            savepoint.rollback()
    return study


def add_group(session: Session, priority: int) -> str:
    group_id = f"gr_{secrets.token_urlsafe(12)}"
    session.execute(insert(Group).values(id=group_id, priority=priority))
    return group_id


def add(session: Session, spec: StudySpec, group_id: str, **more: str | None) -> Study | None:
    """A queued study with the event ``created``; None where the name is taken. ``more``: other columns."""
    row = insert(Study).values(
        id=new_study_id(),
        group_id=group_id,
        owner=spec.owner,
        name=spec.name,
        spec=spec.model_dump(mode="json", exclude_unset=True),
        spec_version=SPEC_VERSION,
        spec_hash=spec.identity(),
        state=State.QUEUED,
        **more,
    )
    study_id = session.execute(row.on_conflict_do_nothing().returning(Study.id)).scalar_one_or_none()
    if study_id is None:
        return None
    events.append(session, study_id, "created", {"name": spec.name, "owner": spec.owner})
    return get(session, study_id)


def _same(session: Session, spec: StudySpec, identity: str) -> Study | None:
    """None where it is there no more; else it stays until the transaction ends, so that a key can refer to it."""
    study = named(session, spec.owner, spec.name)
    if study is None:
        return None
    if not _means(study, identity):
        raise NameTaken(spec.owner, spec.name, study.id, difference(StudySpec.model_validate(study.spec), spec))
    try:
        return locked(session, run_again(session, study).id, key_share=True)
    except UnknownStudy:
        return None


def named(session: Session, owner: str, name: str) -> Study | None:
    return session.scalars(select(Study).where(Study.owner == owner, Study.name == name)).one_or_none()


def _means(study: Study, identity: str) -> bool:
    """Whether the stored study is that of this identity. Hashes of other versions of the vocabulary say nothing."""
    if study.spec_version == SPEC_VERSION:
        return study.spec_hash == identity
    return StudySpec.model_validate(study.spec).identity() == identity


def run_again(session: Session, study: Study) -> Study:
    """Queue a failed or cancelled study again, with a clean slate; what counts still counts. Any other one is left
    alone: once, however many ask at the same time."""
    if study.state not in _RUNS_AGAIN or clean_slate(session, study).state not in _RUNS_AGAIN:
        return study
    return change_state(session, study.id, Action.REQUEUE)


def clean_slate(session: Session, study: Study) -> Study:
    """Runners that failed are forgiven, and the study's group may be claimed at once. Locks both rows; the group first:
    whoever locks both takes them in this order. Raises ``UnknownStudy``."""
    group = update(Group).where(Group.id == study.group_id).values(failures=0, not_before=None)
    session.execute(group.execution_options(synchronize_session=False))
    return locked(session, study.id, key_share=True)


def difference(existing: StudySpec, given: StudySpec) -> dict[str, dict[str, Any]]:
    """Dotted paths at which two specs differ, defaults filled in, with both values; ``None`` where a side has none."""
    old, new = (dict(_leaves(spec.model_dump(mode="json"))) for spec in (existing, given))
    return {
        path: {"existing": old.get(path), "given": new.get(path)}
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    }


def _leaves(value: Any, path: str = ""):
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value


def get(session: Session, study_id: str) -> Study:
    """Raises ``UnknownStudy``, also for text that no database would take as a parameter."""
    study = session.get(Study, study_id) if is_study_id(study_id) else None
    if study is None:
        raise UnknownStudy(study_id)
    return study


def locked(session: Session, study_id: str, *, key_share: bool = False) -> Study:
    """Its row, locked and as it is now. ``key_share``: others may refer to it meanwhile. Raises ``UnknownStudy``, also
    where it was deleted while this waited."""
    row = select(Study).where(Study.id == study_id).with_for_update(key_share=key_share)
    study = None
    if is_study_id(study_id):
        study = session.scalars(row, execution_options={"populate_existing": True}).one_or_none()
    if study is None:
        raise UnknownStudy(study_id)
    return study


def change_state(
    session: Session,
    study_id: str,
    action: Action,
    *,
    data: dict[str, Any] | None = None,
    problem: dict[str, Any] | None = None,
) -> Study:
    """The one door for a study's state: locks its row, checks the transition, writes the event.

    ``started_at`` is set when preparing begins first, ``finished_at`` when the study ends; back in the queue it has
    neither an end nor a problem. Raises ``UnknownStudy``, ``RefusedTransition``.
    """
    study = locked(session, study_id, key_share=True)
    current = State(study.state)
    target = states.after(study_id, current, action)
    study.state = target
    study.problem = problem
    study.prepared_on = None
    if target is State.PREPARING and study.started_at is None:
        study.started_at = _now(session)
    if target is State.QUEUED:
        study.queued_at = _now(session)
    study.finished_at = _now(session) if target.finished else None
    session.flush()
    events.append(session, study_id, action, {"from": current, "to": target, **(data or {})})
    return study


def _now(session: Session):
    """The database's clock: the only one that all processes share."""
    return session.scalar(select(func.now()))
