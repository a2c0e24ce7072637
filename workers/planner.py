"""One turn of sharing: what the database knows of nodes, demand and use, through the plan, back into the groups.

Of several dispatchers one plans at a time; the others find the lock taken and leave it at that.
"""

import math
import time
from collections.abc import Mapping, Sequence

from sqlalchemy import func, or_, select, text, update
from sqlalchemy.orm import Session

from service.store import demand, leases, nodes, usage
from service.store.demand import Demand
from service.store.settings import Settings
from service.store.tables import Group
from workers import shares
from workers.capacity import Node, Place, Resources, share
from workers.reservations import Reservations
from workers.shares import Owner, Quota, Share, Work

LOCK = 7_302_518
"""The planner's, among Postgres' advisory locks: a number that nobody else takes."""
PATIENCE = "500ms"
"""How long it waits for a group's row. Whoever holds one for longer hangs; the next turn tries again."""


def plan(session: Session, settings: Settings, runners_each: int, reservations: Reservations | None = None) -> bool:
    """Write every group's share. False where another dispatcher is at it.

    ``runners_each``: runner processes that one dispatcher keeps. ``reservations``: its own. Raises
    ``DatabaseUnavailable``, also where a group stayed locked.
    """
    if not session.scalar(select(func.pg_try_advisory_xact_lock(LOCK))):
        return False
    session.execute(text(f"set local lock_timeout = '{PATIENCE}'"))
    found = demand.demands(session, lock=True)
    known = nodes.known(session)
    alive = _capacities(session, [node for node, there in known if there])
    away = _capacities(session, [node for node, there in known if not there])
    works = [_work(one) for one in found]
    owners = _owners(session, settings, found, works, alive)
    if alive:
        dispatchers = len(leases.dispatchers(session, settings.dispatcher_lives))
        planned = shares.plan(alive, works, owners, runners_each * max(1, dispatchers), away)
        if reservations is not None:
            planned = reservations.keep(alive, works, planned, time.monotonic())
    elif known:
        planned = {one.group.id: _kept(one) for one in found}
    else:
        planned = shares.undecided(works, "no node of the Ray cluster has been seen yet")
    _write(session, found, planned)
    return True


def _capacities(session: Session, found: Sequence[nodes.Node]) -> list[Node]:
    quarantined = nodes.quarantined(session)
    return [Node(node.id, node.cpus, node.gpus, usable=node.id not in quarantined) for node in found if node.cpus > 0]


def _owners(
    session: Session, settings: Settings, found: Sequence[Demand], works: Sequence[Work], alive: Sequence[Node]
) -> dict[str, Owner]:
    """Charges them for what they hold."""
    total = Resources(sum(node.cpus for node in alive), sum(node.gpus for node in alive))
    held: dict[str, Resources] = {}
    for one in found:
        running = _resources(one) * len(one.running)
        held[one.owner] = held.get(one.owner, Resources()) + running
    standings, quotas = {}, {}
    for owner, have in held.items():
        quota = settings.quota(owner).model_dump()
        quotas[owner] = _quota(quota)
        more = shares.wants(alive, [work for work in works if work.owner == owner], quotas[owner])
        standings[owner] = usage.Standing(share(have, total), settings.weight(owner), quota, more)
    leads = usage.charge(session, standings)
    return {owner: Owner(standing.weight, leads[owner], quotas[owner]) for owner, standing in standings.items()}


def _quota(limits: Mapping[str, float | None]) -> Quota:
    return Quota(**{kind: math.inf if limit is None else limit for kind, limit in limits.items()})


def _work(one: Demand) -> Work:
    return Work(
        id=one.group.id,
        owner=one.owner,
        resources=_resources(one),
        demand=one.trials,
        turns=tuple(turn.timestamp() for turn in one.turns),
        priority=one.group.priority,
        live=one.open,
        running=tuple(Place.of(worker) for worker in one.running),
        pause=_pause(one) if one.pause > 0 else None,
        unready=one.unready,
    )


def _resources(one: Demand) -> Resources:
    return Resources(one.resources.cpus, one.resources.gpus)


def _pause(one: Demand) -> str:
    if one.group.failures == 0:
        return f"its runner had no Ray cluster, or lost its lease: tried again in {math.ceil(one.pause)} s"
    runners = "its runner" if one.group.failures == 1 else f"{one.group.failures} runners in a row"
    return f"{runners} failed: tried again in {math.ceil(one.pause)} s"


def _kept(one: Demand) -> Share:
    """While no node answers nobody starts; who runs goes on, for it may be the observer alone that is away."""
    failed = one.pause > 0 and one.group.failures > 0
    reason = _pause(one) if failed else "no node of the Ray cluster answers"
    return Share(one.group.max_live if one.group.expires_at else 0, reason)


def _write(session: Session, found: Sequence[Demand], planned: Mapping[str, Share]) -> None:
    """Only what changes, all that hear the same in one statement. Groups without work forget what they were told."""
    changed: dict[Share, list[str]] = {}
    for one in found:
        new = planned[one.group.id]
        if new != Share(one.group.max_live, one.group.waiting):
            changed.setdefault(new, []).append(one.group.id)
    told = or_(Group.max_live.is_not(None), Group.waiting.is_not(None))
    updates = [update(Group).where(told, Group.id.not_in(planned)).values(max_live=None, waiting=None)]
    for new, ids in changed.items():
        values = {"max_live": new.max_live, "waiting": new.waiting}
        updates.append(update(Group).where(Group.id.in_(ids)).values(values))
    for statement in updates:
        session.execute(statement.execution_options(synchronize_session=False))
