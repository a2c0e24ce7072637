"""What ``GET /cluster`` answers, and how it is made from rows."""

import datetime
from collections.abc import Iterable, Sequence

from service.store import usage
from service.store.cluster import Running
from service.store.cluster_tables import Dispatcher, Node, OwnerUsage
from service.store.states import State
from service.store.tables import Group, Study
from service.view import View


class Held(View):
    cpus: float = 0.0
    gpus: float = 0.0
    trials: int = 0


class Quarantine(View):
    """No trial is sent to the node."""

    until: datetime.datetime
    reason: str


class NodeView(View):
    id: str
    """Ray's id of the node."""
    host: str
    address: str
    alive: bool
    cpus: float
    gpus: float
    used: Held
    """By trials that run there."""
    quarantine: Quarantine | None
    seen_at: datetime.datetime


class RunningView(View):
    """A trial that runs now, or a study that is being prepared."""

    study: str
    name: str
    """Of the study."""
    owner: str
    ordinal: int | None
    """null: the study is being prepared, and has no trial yet."""
    attempt: int | None
    host: str | None
    node: str | None
    """Id of the node."""
    device: str | None
    since: datetime.datetime


class WaitingView(View):
    """A study that waits for a place, or for more than it has."""

    position: int
    """In this list: by priority, then by when it was queued. Among owners of one priority the one is served first who
    has had least for its weight."""
    study: str
    name: str
    owner: str
    priority: int
    state: State
    max_live: int | None
    """Trials that its group may run at once now; null: not decided yet."""
    reason: str
    """What it waits for."""
    since: datetime.datetime


class QuotaView(View):
    """Most that the owner's trials may hold at once; null: not limited."""

    cpus: float | None
    gpus: float | None
    trials: int | None


class OwnerView(View):
    owner: str
    used: Held
    """By trials that run now."""
    recent: float
    """Mean share of the cluster that the owner held lately, between 0 and 1; it halves every ten minutes."""
    weight: float
    """Its share beside others who want as much as they can get."""
    quota: QuotaView


class DispatcherView(View):
    id: str
    host: str
    seen_at: datetime.datetime


class ClusterView(View):
    """Who runs what, and why something waits."""

    nodes: list[NodeView]
    running: list[RunningView]
    waiting: list[WaitingView]
    waiting_total: int
    """The list is cut where very many wait."""
    owners: list[OwnerView]
    dispatchers: list[DispatcherView]
    """Those that were alive a moment ago."""


def node_views(
    nodes: Iterable[tuple[Node, bool]], quarantined: Sequence[str], ran: Sequence[Running]
) -> list[NodeView]:
    return [
        NodeView(
            id=node.id,
            host=node.host,
            address=node.address,
            alive=alive,
            cpus=node.cpus,
            gpus=node.gpus,
            used=_held(one for one in ran if one.worker.get("node_id") == node.id),
            quarantine=Quarantine(until=node.quarantined_until, reason=node.quarantine_reason)
            if node.id in quarantined
            else None,
            seen_at=node.seen_at,
        )
        for node, alive in nodes
    ]


def running_view(one: Running) -> RunningView:
    return RunningView(
        study=one.study.id,
        name=one.study.name,
        owner=one.study.owner,
        ordinal=one.trial and one.trial.ordinal,
        attempt=one.trial and one.trial.attempt,
        host=one.worker.get("host"),
        node=one.worker.get("node_id"),
        device=one.worker.get("device"),
        since=one.since,
    )


def waiting_view(position: int, study: Study, group: Group, dispatchers: Sequence[Dispatcher]) -> WaitingView:
    return WaitingView(
        position=position,
        study=study.id,
        name=study.name,
        owner=study.owner,
        priority=group.priority,
        state=State(study.state),
        max_live=group.max_live,
        reason=_reason(study, group, dispatchers),
        since=study.queued_at,
    )


def _reason(study: Study, group: Group, dispatchers: Sequence[Dispatcher]) -> str:
    if not dispatchers:
        return "no dispatcher is alive: start one"
    if group.waiting:
        return group.waiting
    if group.expires_at is None:
        return "a dispatcher is about to start its runner"
    if group.max_live == 0:
        return "its runner sees to what an earlier one left behind"
    if study.state == State.PREPARING:
        return "its preparation is about to start"
    return "its runner is starting, or has other studies of its group in hand"


def owner_view(row: OwnerUsage, age: float, ran: Sequence[Running]) -> OwnerView:
    return OwnerView(
        owner=row.owner,
        used=_held(one for one in ran if one.study.owner == row.owner),
        recent=round(usage.after(row.used, age) / usage.WINDOW, 4),
        weight=row.weight,
        quota=QuotaView(**row.quota),
    )


def dispatcher_view(row: Dispatcher) -> DispatcherView:
    return DispatcherView(id=row.id, host=row.host, seen_at=row.seen_at)


def _held(ran: Iterable[Running]) -> Held:
    held = Held()
    for one in ran:
        held.cpus += one.resources.cpus
        held.gpus += one.resources.gpus
        held.trials += 1
    return held
