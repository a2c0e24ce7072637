"""What an operator watches, as numbers: each of these statements reads few rows, however many trials there are."""

import datetime
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import ColumnElement, Float, Numeric, Row, Select, exists, func, select, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from mudman.specs import ResourcesSpec
from service.store import nodes
from service.store.cluster_tables import Dispatcher
from service.store.states import LIVE, State
from service.store.tables import DeletedUsage, Group, OutcomeCount, Study, Trial

_SUMS = ("attempts", "seconds", "core_seconds", "gpu_seconds")


@dataclass(frozen=True)
class Queue:
    oldest_wait: float
    """Seconds since the study that waits longest was queued; 0 if none waits."""


@dataclass(frozen=True)
class Leases:
    """Of groups with unfinished studies. Seconds are the database's."""

    held: int
    expired: int
    """Their runner vanished and nobody has claimed them yet."""
    unclaimed: int
    """Nobody has them, though they have work and may be claimed now."""
    resting: int
    """Their runner failed, so they are left alone for a moment."""
    without_share: int
    """Held or not, no trial of theirs may run: others use the cluster."""
    least_remaining: float | None
    """Seconds until the next lease expires; below 0 where it has."""


@dataclass(frozen=True)
class Nodes:
    """That can run trials: Ray's head and what a driver brings have no cores for them."""

    alive: int
    gone: int
    quarantined: int
    """Alive, but given no trials."""
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Usage:
    """Of one owner's attempts that ended so, in all studies there are or were."""

    owner: str
    outcome: str
    attempts: Decimal
    seconds: Decimal
    core_seconds: Decimal
    gpu_seconds: Decimal


@dataclass(frozen=True)
class Held:
    """By one owner's attempts that have reached a node, and whose runner lives."""

    owner: str
    cores: float
    gpus: float


@dataclass(frozen=True)
class Gauges:
    studies: dict[str, int]
    """By state, every state."""
    queue: Queue
    leases: Leases
    owners: list[str]
    """Who has a study."""
    usage: list[Usage]
    held: list[Held]
    live_trials: int
    nodes: Nodes
    dispatchers: int
    dispatcher_age: float | None
    """Seconds since any dispatcher was seen; none if none ever was."""


def read(session: Session, within: float) -> Gauges:
    """``within``: seconds after which a dispatcher that was not seen counts as gone."""
    owners, states = set(), Counter()
    for owner, state, count in session.execute(
        select(Study.owner, Study.state, func.count()).group_by(Study.owner, Study.state)
    ):
        owners.add(owner)
        states[state] += count
    oldest = select(func.min(Study.queued_at)).where(Study.state == State.QUEUED).scalar_subquery()
    age = _seconds(func.now() - func.max(Dispatcher.seen_at))
    lives = Dispatcher.seen_at > func.now() - datetime.timedelta(seconds=within)
    dispatchers, dispatcher_age = session.execute(select(func.count().filter(lives), age)).one()
    return Gauges(
        studies={state.value: states[state] for state in State},
        queue=Queue(session.scalar(select(func.coalesce(_seconds(func.now() - oldest), 0.0)))),
        leases=_leases(session),
        owners=sorted(owners),
        usage=[Usage(*row) for row in _used(session)],
        held=[Held(*row) for row in _held(session)],
        # From the partial index of attempts without an end.
        live_trials=session.scalar(select(func.count()).select_from(Trial).where(Trial.outcome.is_(None))),
        nodes=_nodes(session),
        dispatchers=dispatchers,
        dispatcher_age=dispatcher_age,
    )


def held(kind: str):
    """What each trial of a study holds of ``cpus`` or ``gpus``: a stored spec has only what somebody wrote."""
    default = ResourcesSpec.model_fields[kind].default
    return func.coalesce(Study.spec["resources"][kind].as_float(), default)


def _leases(session: Session) -> Leases:
    held, expired = Group.expires_at >= func.now(), Group.expires_at < func.now()
    resting = Group.expires_at.is_(None) & (Group.not_before > func.now())
    has_place = func.coalesce(Group.max_live, 1) > 0
    unclaimed = Group.expires_at.is_(None) & func.coalesce(Group.not_before <= func.now(), True) & has_place
    query = select(
        func.count().filter(held),
        func.count().filter(expired),
        func.count().filter(unclaimed),
        func.count().filter(resting),
        func.count().filter(~has_place),
        _seconds(func.min(Group.expires_at) - func.now()),
    )
    return Leases(
        *session.execute(query.where(exists().where(Study.group_id == Group.id, Study.state.in_(LIVE)))).one()
    )


def keep(session: Session, study_id: str) -> None:
    """The study is about to be deleted: what it has come to stays in the counters."""
    row = insert(DeletedUsage).from_select(
        ["owner", "outcome", *_SUMS],
        _usage(Study.id == study_id).order_by(OutcomeCount.outcome),
    )
    sums = {name: _exact(DeletedUsage.__table__.c[name] + row.excluded[name]) for name in _SUMS}
    session.execute(row.on_conflict_do_update(index_elements=["owner", "outcome"], set_=sums))


def _usage(*which: ColumnElement[bool]) -> Select:
    """By what each trial holds; what it really keeps busy nobody measures."""
    asked = select(Study.id, Study.owner, held("cpus").label("cpus"), held("gpus").label("gpus"))
    asked = asked.where(*which).cte("asked").prefix_with("materialized")  # or each spec is taken out once per outcome
    seconds = OutcomeCount.seconds
    spent = (
        _exact(seconds).label("seconds"),
        _exact(seconds * asked.c.cpus).label("core_seconds"),
        _exact(seconds * asked.c.gpus).label("gpu_seconds"),
    )
    query = select(asked.c.owner, OutcomeCount.outcome, OutcomeCount.attempts, *spent)
    return query.join_from(OutcomeCount, asked, asked.c.id == OutcomeCount.study_id)


def _used(session: Session) -> Iterator[Row]:
    """Of all studies, the deleted ones too, by owner and outcome."""
    columns = DeletedUsage.__table__.c
    deleted = select(columns.owner, columns.outcome, *(_exact(columns[name]).label(name) for name in _SUMS))
    every = union_all(_usage(), deleted).subquery()
    sums = (func.sum(every.c[name]).label(name) for name in _SUMS)
    return session.execute(select(every.c.owner, every.c.outcome, *sums).group_by(every.c.owner, every.c.outcome))


def _exact(seconds: ColumnElement[float]) -> ColumnElement[Decimal]:
    """To the millisecond, each addend by itself: floats come to another sum once a study among them is deleted, and a
    counter that falls by nothing that anybody sees is one that began anew."""
    return func.round(seconds.cast(Numeric), 3)


def _held(session: Session) -> Iterator[Row]:
    """What a dead runner left behind holds nothing, though it has no end until somebody takes over."""
    query = select(Study.owner, func.sum(held("cpus")), func.sum(held("gpus")))
    query = query.join_from(Trial, Study, Study.id == Trial.study_id).join(Group, Group.id == Study.group_id)
    running = (Trial.outcome.is_(None), Trial.worker.is_not(None), Group.expires_at >= func.now())
    return session.execute(query.where(*running).group_by(Study.owner))


def _nodes(session: Session) -> Nodes:
    known = nodes.able(session)
    alive = [node for node, there in known if there]
    quarantined = {node.id for node in alive} & set(nodes.quarantined(session))
    cpus, gpus = sum(node.cpus for node in alive), sum(node.gpus for node in alive)
    return Nodes(len(alive), len(known) - len(alive), len(quarantined), cpus, gpus)


def _seconds(interval):
    return func.extract("epoch", interval).cast(Float)
