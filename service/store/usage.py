"""What each owner held lately, for people; and by how much it is ahead of the others, which decides who is next.

``used`` is in seconds of the whole cluster (its busier kind of resource): an owner whose trials hold half of it for a
minute has used 30. Divided by ``WINDOW``, it is the mean share that the owner held lately. ``lead``: see ``leads``.
"""

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.store import leads
from service.store.cluster_tables import OwnerUsage
from service.store.leads import Holding

HALF_LIFE = 600.0
"""Seconds after which use counts half, and so does the lead of an owner who has no work."""
WINDOW = HALF_LIFE / math.log(2)
"""What ``used`` comes to for an owner who holds everything for ever."""
LONGEST_TURN = 10.0
"""Seconds that one turn charges for, at most: for what nobody watched, nobody pays. Who had no turn for longer had no
work."""


@dataclass(frozen=True)
class Standing:
    """An owner's, now."""

    share: float
    """Of the whole cluster, held by trials that run."""
    weight: float
    quota: dict[str, Any]
    wants: bool = True
    """It would run more if others ran less."""


def charge(session: Session, owners: Mapping[str, Standing]) -> dict[str, float]:
    """Add the time since the last turn at the shares that owners hold now.

    Returns the lead of each of these owners (see ``leads``). One caller at a time: under the planner's lock.
    """
    now = session.scalar(select(func.now()))
    rows = {row.owner: row for row in session.scalars(select(OwnerUsage).where(OwnerUsage.owner.in_(owners)))}
    used, before, holdings = {}, {}, {}
    for owner, standing in owners.items():
        used[owner], before[owner], seconds = 0.0, 0.0, 0.0
        if row := rows.get(owner):
            elapsed = max((now - row.at).total_seconds(), 0.0)
            seconds = min(elapsed, LONGEST_TURN)
            used[owner] = after(row.used, elapsed) + standing.share * seconds
            before[owner] = row.lead if elapsed <= LONGEST_TURN else after(row.lead, elapsed)
        holdings[owner] = Holding(standing.share, standing.weight, standing.wants, seconds)
    ahead = leads.after(before, holdings)
    for owner, standing in sorted(owners.items()):
        values = {"used": used[owner], "lead": ahead[owner], "at": now}
        values |= {"owner": owner, "weight": standing.weight, "quota": standing.quota}
        session.execute(insert(OwnerUsage).values(values).on_conflict_do_update(index_elements=["owner"], set_=values))
    session.execute(delete(OwnerUsage).where(OwnerUsage.at < now - datetime.timedelta(days=1)))
    return ahead


def after(used: float, seconds: float) -> float:
    """What is left of ``used``."""
    return used * 0.5 ** (seconds / HALF_LIFE)
