"""What each owner held lately, so that who had little gets more: a mean that forgets.

``used`` is in seconds of the whole cluster (its busier kind of resource): an owner whose trials hold half of it for a
minute has used 30. Divided by ``WINDOW``, it is the mean share that the owner held lately.
"""

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.store.cluster_tables import OwnerUsage

HALF_LIFE = 600.0
"""Seconds after which use counts half: long enough for owners to take turns with trials of minutes, and so short that
a night's use is forgotten in the morning."""
WINDOW = HALF_LIFE / math.log(2)
"""What ``used`` comes to for an owner who holds everything for ever."""
LONGEST_TURN = 10.0
"""Seconds that one turn charges for, at most: for what nobody watched, nobody pays."""


@dataclass(frozen=True)
class Standing:
    """An owner's, now."""

    share: float
    """Of the whole cluster, held by trials that run."""
    weight: float
    quota: dict[str, Any]


def charge(session: Session, owners: Mapping[str, Standing]) -> dict[str, float]:
    """Add the time since the last turn at the shares that owners hold now.

    Returns the mean share of late of each of these owners. One caller at a time: under the planner's lock.
    """
    now = session.scalar(select(func.now()))
    rows = {row.owner: row for row in session.scalars(select(OwnerUsage).where(OwnerUsage.owner.in_(owners)))}
    recent: dict[str, float] = {}
    for owner, standing in sorted(owners.items()):
        used, elapsed = 0.0, 0.0
        if row := rows.get(owner):
            elapsed = max((now - row.at).total_seconds(), 0.0)
            used = after(row.used, elapsed) + standing.share * min(elapsed, LONGEST_TURN)
        values = {"owner": owner, "used": used, "at": now, "weight": standing.weight, "quota": standing.quota}
        session.execute(insert(OwnerUsage).values(values).on_conflict_do_update(index_elements=["owner"], set_=values))
        recent[owner] = used / WINDOW
    session.execute(delete(OwnerUsage).where(OwnerUsage.at < now - datetime.timedelta(days=1)))
    return recent


def after(used: float, seconds: float) -> float:
    """What is left of ``used``."""
    return used * 0.5 ** (seconds / HALF_LIFE)
