"""Who may work on a group of studies: one table, claimed with SKIP LOCKED, fenced by an epoch.

A lease is (owner, epoch, expiry) over a group. Every claim raises the epoch; every write of a runner carries the epoch
under which it was started and is refused once the row has another one. Time is the database's, never a worker's.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Update, and_, delete, exists, func, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from service.store import events
from service.store.cluster_tables import Dispatcher
from service.store.states import FINISHED, LIVE
from service.store.tables import SCHEMA, Group, Study, Trial


class NoPlace(MudmanError):
    """As many trials of the group run as it may have now. Nothing of the refused write is stored."""

    def __init__(self, group_id: str, max_live: int):
        super().__init__(f"Group {group_id} may run {max_live} trials now: another one has to wait.")
        self.group_id, self.max_live = group_id, max_live

    def __reduce__(self):
        return NoPlace, (self.group_id, self.max_live)


class LeaseLost(MudmanError):
    """The group was claimed again: whoever holds the old epoch has to stop. Nothing of the refused write is stored."""

    def __init__(self, group_id: str, epoch: int):
        super().__init__(f"The lease on group {group_id} under epoch {epoch} is lost: another runner has taken over.")
        self.group_id, self.epoch = group_id, epoch

    def __reduce__(self):
        return LeaseLost, (self.group_id, self.epoch)


@dataclass(frozen=True)
class Lease:
    """What a runner holds and every write of it carries."""

    group_id: str
    epoch: int

    @property
    def log_fields(self) -> dict[str, str | int]:
        return {"group": self.group_id, "epoch": self.epoch}


@dataclass(frozen=True)
class Claim(Lease):
    owner: str
    study_ids: list[str] = field(default_factory=list)
    failures: int = 0
    """Runners in a row that ended without finishing a trial."""
    expired: bool = False
    """Whether the group was held before, by somebody who did not renew."""


@dataclass(frozen=True)
class Renewal:
    alive: bool
    """False: the lease is lost or was given back."""
    max_live: int | None = None
    """Trials that the group may run at once; None: as many as its studies ask for."""


def _free(take_over: bool, expiry: float) -> ColumnElement[bool]:
    """That nobody holds the group. A lease that ends later than any could was given before the clock was set back."""
    if not take_over:
        return Group.expires_at.is_(None)
    last = func.now() + datetime.timedelta(seconds=2 * expiry)
    return or_(Group.expires_at.is_(None), Group.expires_at < func.now(), Group.expires_at > last)


def claim(session: Session, owner: str, expiry: float, *, take_over: bool = True) -> Claim | None:
    """Take the most urgent group that has work and no living lease, for ``expiry`` seconds; None if there is none.

    Work is an unfinished study, or what a dead runner left behind: attempts without an end. A group without a place
    is left alone unless it has something of the second kind. Whoever takes over an expired lease says so in the
    studies' events; without ``take_over`` it is left to its holder.
    """
    group = session.scalars(
        select(Group)
        .where(_free(take_over, expiry), _has_work())
        .order_by(Group.priority.desc(), Group.created_at, Group.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if group is None:
        return None
    expired = group.expires_at is not None
    before = {"owner": group.owner, "epoch": group.epoch, "reason": "the lease was not renewed and has expired"}
    group.owner, group.epoch, group.not_before = owner, group.epoch + 1, None
    group.expires_at = func.now() + datetime.timedelta(seconds=expiry)
    group.failures += int(expired)
    session.flush()
    # What prepared it died with the runner before.
    prepared = update(Study).where(Study.group_id == group.id, Study.prepared_on.is_not(None))
    session.execute(prepared.values(prepared_on=None), execution_options={"synchronize_session": False})
    studies = session.execute(select(Study.id, Study.state).where(Study.group_id == group.id).order_by(Study.id)).all()
    for study_id, state in studies:
        if state in LIVE:
            if expired:
                events.append(session, study_id, "lease_lost", before)
            events.append(session, study_id, "claimed", {"owner": owner, "epoch": group.epoch})
    return Claim(group.id, group.epoch, owner, [study_id for study_id, _ in studies], group.failures, expired)


def _has_work() -> ColumnElement[bool]:
    has_place = or_(Group.max_live.is_(None), Group.max_live > 0, Group.expires_at.is_not(None))
    return and_(
        or_(Group.not_before.is_(None), Group.not_before <= func.now()),
        exists().where(Study.group_id == Group.id, or_(and_(has_place, Study.state.in_(LIVE)), _left_behind())),
    )


def claimable(session: Session, expiry: float, *, take_over: bool = True) -> bool:
    """Whether there is a group that could be claimed."""
    return bool(session.scalar(select(exists().where(_free(take_over, expiry), _has_work()))))


def without_place(session: Session, group_ids: Sequence[str]) -> set[str]:
    """Those of the groups that may run nothing now, or have nothing to run, and run nothing."""
    open_ = exists().where(Study.group_id == Group.id, Trial.study_id == Study.id, Trial.outcome.is_(None))
    prepared = exists().where(Study.group_id == Group.id, Study.prepared_on.is_not(None))
    idle = or_(Group.max_live == 0, ~exists().where(Study.group_id == Group.id, Study.state.in_(LIVE)))
    return set(session.scalars(select(Group.id).where(Group.id.in_(group_ids), idle, ~open_, ~prepared)))


def others_at_work(session: Session, group_id: str) -> bool:
    """Whether any other group has work."""
    return bool(session.scalar(select(exists().where(Study.group_id != group_id, Study.state.in_(LIVE)))))


def to_take_over(session: Session, group_id: str) -> list[str]:
    """Studies that the group's new runner takes in hand: unfinished ones, and those that one before left unsettled."""
    wanted = select(Study.id).where(Study.group_id == group_id, or_(Study.state.not_in(FINISHED), _left_behind()))
    return list(session.scalars(wanted.order_by(Study.created_at, Study.id)))


def _left_behind():
    return exists().where(Trial.study_id == Study.id, Trial.outcome.is_(None))


def renew(session: Session, group_id: str, epoch: int, expiry: float) -> Renewal:
    """Hold the lease for ``expiry`` more seconds. A lease that expired and that nobody took is still the holder's."""
    row = session.execute(
        _held(group_id, epoch)
        .where(Group.expires_at.is_not(None))
        .values(expires_at=func.now() + datetime.timedelta(seconds=expiry))
        .returning(Group.max_live)
    ).one_or_none()
    return Renewal(alive=row is not None, max_live=row.max_live if row else None)


def release(
    session: Session, group_id: str, epoch: int, *, retry_after: float | None = None, failed: bool = False
) -> bool:
    """Give the lease back; the group may be claimed again after ``retry_after`` seconds. False if it was not held.

    ``failed``: the runner ended without having been asked to; it counts among the group's failures in a row.
    """
    pause = null() if retry_after is None else func.now() + datetime.timedelta(seconds=retry_after)
    held = _held(group_id, epoch).where(Group.expires_at.is_not(None))
    values = {"expires_at": None, "not_before": pause, "failures": Group.failures + int(failed)}
    return session.execute(held.values(values)).rowcount > 0


HELD = f"""
    held as materialized (
        select max_live, failures from {SCHEMA}.study_group where id = :group_id and epoch = :epoch for share
    )
"""
"""First part of a ``with`` that writes under a lease: as ``guard``; without a row in it the lease is lost. Whatever
else is read in the same statement may be older than the lock: write only what depends on ``held``."""


def guard(session: Session, lease: Lease) -> None:
    """Hold the lease's row until the transaction ends, so that nobody claims it in between. Raises ``LeaseLost``."""
    query = select(Group.epoch).where(Group.id == lease.group_id).with_for_update(read=True)
    if session.execute(query).scalar_one_or_none() != lease.epoch:
        raise LeaseLost(lease.group_id, lease.epoch)


def max_live(session: Session, lease: Lease) -> int | None:
    """Trials that the group may run at once now; None: as many as its studies ask for."""
    return session.scalar(select(Group.max_live).where(Group.id == lease.group_id))


def forget_failures(session: Session, group_id: str, epoch: int) -> None:
    """A trial has finished: runners that failed before no longer count as failures in a row."""
    session.execute(_held(group_id, epoch).where(Group.failures > 0).values(failures=0))


def _held(group_id: str, epoch: int) -> Update:
    held = update(Group).where(Group.id == group_id, Group.epoch == epoch)
    return held.execution_options(synchronize_session=False)


# ------------------------------------------------------------------------------------------------------ dispatchers


def seen(session: Session, dispatcher_id: str, host: str, pid: int) -> float:
    """The dispatcher is alive now, by the database's clock, which it is told (seconds). Those that nobody saw for a day
    are forgotten: each start has a name of its own."""
    session.execute(delete(Dispatcher).where(Dispatcher.seen_at < func.now() - datetime.timedelta(days=1)))
    now = {"host": host, "pid": pid, "seen_at": func.now()}
    said = insert(Dispatcher).values(id=dispatcher_id, **now)
    said = said.on_conflict_do_update(index_elements=["id"], set_=now).returning(Dispatcher.seen_at)
    return session.scalars(said).one().timestamp()


def dispatchers(session: Session, within: float) -> list[Dispatcher]:
    """Those that were alive in the last ``within`` seconds, by id."""
    recent = Dispatcher.seen_at > func.now() - datetime.timedelta(seconds=within)
    return list(session.scalars(select(Dispatcher).where(recent).order_by(Dispatcher.id)))


def any_seen(session: Session, within: float) -> bool:
    """Whether any dispatcher was alive in the last ``within`` seconds."""
    recent = Dispatcher.seen_at > func.now() - datetime.timedelta(seconds=within)
    return bool(session.execute(select(exists().where(recent))).scalar_one())
