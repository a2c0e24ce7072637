"""Studies: creating them, the one door for their state, and what is asked about one of them.

Pages over many studies and trials are in ``pages``.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from mudman.results import Outcome
from mudman.specs import SPEC_VERSION, StudySpec
from service.store import events, states
from service.store.events import UnknownStudy
from service.store.states import State
from service.store.tables import Group, IdempotencyKey, Study, Trial

RUNNING = "running"
"""Key of ``counts`` for attempts without an outcome yet."""
_RUNS_AGAIN = (State.FAILED, State.CANCELLED)
COUNTING = tuple(str(outcome) for outcome in Outcome if outcome.counts)


class NameTaken(MudmanError):
    """The owner has a study of this name with another spec; ``difference`` maps dotted paths to both values."""

    def __init__(self, owner: str, name: str, study_id: str, difference: dict[str, dict[str, Any]]):
        shown = "; ".join(f"{path}: {pair['existing']!r} → {pair['given']!r}" for path, pair in difference.items())
        super().__init__(
            f"{owner!r} already has a study named {name!r} ({study_id}) with another spec ({shown}). "
            "Choose another name (`mudman submit … --set name=…`), or post the same spec."
        )
        self.owner, self.name, self.study_id, self.difference = owner, name, study_id, difference

    def __reduce__(self):
        return NameTaken, (self.owner, self.name, self.study_id, self.difference)


class IdempotencyConflict(MudmanError):
    """An idempotency key came back with another request (IETF draft-ietf-httpapi-idempotency-key-header §2.7)."""

    def __init__(self, key: str):
        super().__init__(f"The idempotency key {key!r} was used for another study. Use a new key for a new request.")
        self.key = key

    def __reduce__(self):
        return IdempotencyConflict, (self.key,)


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
    if idempotency_key and (earlier := session.get(IdempotencyKey, (spec.owner, idempotency_key))):
        if earlier.request_hash != identity:
            raise IdempotencyConflict(idempotency_key)
        return Creation(get(session, earlier.study_id), created=False)
    study = _insert(session, spec, identity, preset)
    creation = Creation(study, created=True) if study else Creation(_same(session, spec, identity), created=False)
    if idempotency_key:
        _remember(session, idempotency_key, spec.owner, identity, creation.study.id)
    return creation


def _insert(session: Session, spec: StudySpec, identity: str, preset: str | None) -> Study | None:
    """None where the name is taken; the group is then undone with it."""
    study_id, group_id = new_study_id(), f"gr_{secrets.token_urlsafe(12)}"
    with session.begin_nested() as savepoint:
        session.execute(insert(Group).values(id=group_id, priority=spec.priority))
        row = insert(Study).values(
            id=study_id,
            group_id=group_id,
            owner=spec.owner,
            name=spec.name,
            preset=preset,
            spec=spec.model_dump(mode="json", exclude_unset=True),
            spec_version=SPEC_VERSION,
            spec_hash=identity,
            state=State.QUEUED,
        )
        inserted = session.execute(row.on_conflict_do_nothing().returning(Study.id)).scalar_one_or_none()
        if inserted is None:
            savepoint.rollback()
            return None
    events.append(session, study_id, "created", {"name": spec.name, "owner": spec.owner})
    return get(session, study_id)


def _same(session: Session, spec: StudySpec, identity: str) -> Study:
    study = session.scalars(select(Study).where(Study.owner == spec.owner, Study.name == spec.name)).one()
    if study.spec_hash != identity:
        raise NameTaken(spec.owner, spec.name, study.id, difference(StudySpec.model_validate(study.spec), spec))
    return _run_again(session, study) if study.state in _RUNS_AGAIN else study


def _run_again(session: Session, study: Study) -> Study:
    """Queue the study again, with a clean slate; what counts still counts. Once, however many ask at the same time."""
    # The group first: whoever locks both takes them in this order.
    group = update(Group).where(Group.id == study.group_id).values(failures=0, not_before=None)
    session.execute(group.execution_options(synchronize_session=False))
    session.refresh(study, with_for_update={"key_share": True})
    if study.state not in _RUNS_AGAIN:
        return study
    return change_state(session, study.id, State.QUEUED, event="requeued")


def _remember(session: Session, key: str, owner: str, identity: str, study_id: str) -> None:
    row = insert(IdempotencyKey).values(owner=owner, key=key, request_hash=identity, study_id=study_id)
    if session.execute(row.on_conflict_do_nothing().returning(IdempotencyKey.key)).scalar_one_or_none() is not None:
        return
    # Another request with the key committed in the meantime.
    known = select(IdempotencyKey.request_hash).where(IdempotencyKey.owner == owner, IdempotencyKey.key == key)
    if session.scalars(known).one() != identity:
        raise IdempotencyConflict(key)


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


def change_state(
    session: Session,
    study_id: str,
    target: State,
    *,
    event: str,
    data: dict[str, Any] | None = None,
    problem: dict[str, Any] | None = None,
) -> Study:
    """The one door for a study's state: locks its row, checks the transition, writes the event.

    ``started_at`` is set when preparing begins first, ``finished_at`` when the study ends; back in the queue it has
    neither an end nor a problem. Raises ``UnknownStudy``, ``RefusedTransition``.
    """
    locked = select(Study).where(Study.id == study_id).with_for_update(key_share=True)
    study = session.scalars(locked, execution_options={"populate_existing": True}).one_or_none()
    if study is None:
        raise UnknownStudy(study_id)
    current = State(study.state)
    states.check(study_id, current, target)
    study.state = target
    study.problem = problem
    if target is State.PREPARING and study.started_at is None:
        study.started_at = _now(session)
    if target is State.QUEUED:
        study.queued_at = _now(session)
    study.finished_at = _now(session) if target.finished else None
    session.flush()
    events.append(session, study_id, event, {"from": current, "to": target, **(data or {})})
    return study


def _now(session: Session):
    """The database's clock: the only one that all processes share."""
    return session.scalar(select(func.now()))


def counts(session: Session, study_id: str) -> dict[str, int]:
    """Attempts by outcome, and those that run now under ``running``; counted by the database, never loaded."""
    return _counts(session, study_id)[0]


def _counts(session: Session, study_id: str) -> tuple[dict[str, int], float | None]:
    seconds: ColumnElement = func.extract("epoch", Trial.finished_at - Trial.started_at)
    query = select(Trial.outcome, func.count(), func.sum(seconds)).where(Trial.study_id == study_id)
    found, total, finished = {}, 0.0, 0
    for outcome, count, spent in session.execute(query.group_by(Trial.outcome)):
        found[outcome or RUNNING] = count
        if outcome in COUNTING:
            total, finished = total + float(spent or 0.0), finished + count
    return found, total / finished if finished else None


def best(session: Session, study_id: str) -> Trial | None:
    """The valid trial with the highest value; of equal ones, the lowest ordinal. ``None`` while there is none."""
    valid = (Trial.study_id == study_id, Trial.outcome == Outcome.VALID, Trial.value.is_not(None))
    return session.scalars(select(Trial).where(*valid).order_by(Trial.value.desc(), Trial.ordinal).limit(1)).first()


@dataclass(frozen=True)
class Progress:
    """How far a study is."""

    trials: int
    """That count toward the budget."""
    budget: int
    running: int
    outcomes: dict[str, int]
    """Finished attempts by outcome."""
    best_value: float | None
    eta_seconds: float | None
    """Remaining trials × mean seconds of one that counts / trials at once. Unknown before the first such trial, and for
    a study that does not run."""
    live: list[Trial]


def progress(session: Session, study: Study, max_live: int | None, live: int = 100) -> Progress:
    """``max_live``: the group's share, where the dispatcher gave it one. ``live``: most running attempts to list."""
    found, seconds = _counts(session, study.id)
    running = found.pop(RUNNING, 0)
    counting = sum(found.get(outcome, 0) for outcome in COUNTING)
    top = best_value(session, study.id)
    spec = StudySpec.model_validate(study.spec)
    now = select(Trial).where(Trial.study_id == study.id, Trial.outcome.is_(None)).order_by(Trial.ordinal).limit(live)
    eta = None
    if seconds is not None and study.state in (State.QUEUED, State.PREPARING, State.RUNNING):
        remaining = max(spec.budget.trials - counting, 0)
        at_once = min(
            spec.resources.max_concurrent, max(max_live or spec.resources.max_concurrent, 1), max(remaining, 1)
        )
        eta = remaining * seconds / at_once
    return Progress(
        counting, spec.budget.trials, running, found, top, eta, list(session.scalars(now)) if running else []
    )


def best_value(session: Session, study_id: str) -> float | None:
    valid = (Trial.study_id == study_id, Trial.outcome == Outcome.VALID)
    return session.scalar(select(func.max(Trial.value)).where(*valid))
