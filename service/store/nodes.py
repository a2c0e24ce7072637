"""Nodes of the Ray cluster, as an observer saw them last, and those that no trial is sent to for a while."""

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.store.cluster_tables import Node

SILENCE = 20.0
"""Seconds without news after which a node no longer counts as alive: its observer, or all of Ray, is gone."""
MEMORY = datetime.timedelta(days=1)
"""How long a node that is gone is remembered."""


@dataclass(frozen=True)
class Seen:
    """A node that is alive."""

    id: str
    """Ray's node id."""
    address: str
    host: str
    cpus: float
    gpus: float
    memory_bytes: int
    labels: dict[str, Any]


def observe(session: Session, seen: Sequence[Seen]) -> None:
    """These nodes are alive now, and no others. Any number of observers may say so at the same time."""
    # Observers may see different nodes: each waits here, in one order, for those that another one is changing.
    session.execute(select(Node.id).order_by(Node.id).with_for_update())
    for node in sorted(seen, key=lambda node: node.id):
        values = asdict(node) | {"alive": True, "seen_at": func.now()}
        session.execute(insert(Node).values(values).on_conflict_do_update(index_elements=["id"], set_=values))
    others = update(Node).where(Node.alive, Node.id.not_in([node.id for node in seen])).values(alive=False)
    session.execute(others.execution_options(synchronize_session=False))
    session.execute(delete(Node).where(Node.seen_at < func.now() - MEMORY))


def known(session: Session) -> list[tuple[Node, bool]]:
    """Every node that is remembered, with whether it is alive now; by host."""
    alive = Node.alive & (Node.seen_at > func.now() - datetime.timedelta(seconds=SILENCE))
    return [(node, there) for node, there in session.execute(select(Node, alive).order_by(Node.host, Node.id))]


def able(session: Session) -> list[tuple[Node, bool]]:
    """Those of them that can run trials. Ray's head cannot: it has no cores."""
    return [(node, there) for node, there in known(session) if node.cpus > 0]


def quarantine(session: Session, node_id: str, seconds: float, reason: str) -> bool:
    """Send no trial there for ``seconds``; 0 or less ends a quarantine. False where the node is unknown."""
    ends = {"quarantined_until": func.now() + datetime.timedelta(seconds=seconds), "quarantine_reason": reason}
    values = ends if seconds > 0 else dict.fromkeys(ends)
    changed = update(Node).where(Node.id == node_id).values(values)
    return session.execute(changed.execution_options(synchronize_session=False)).rowcount > 0


def quarantined(session: Session) -> list[str]:
    """Ids of nodes that no trial is sent to now."""
    return list(session.scalars(select(Node.id).where(Node.quarantined_until > func.now()).order_by(Node.id)))
