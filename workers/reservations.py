"""Room for a trial that fits in the plan and nowhere in fact: others lie across nodes and cards, and whenever one of
them ends the next takes its place.

Where a group cannot have a place that it was given, the others let go of places on the nodes that could hold its trial,
one after the other as trials end, and none of them gets a new one there until it runs. So it has its place after one
trial of theirs at the latest, and nothing stays free for longer. The group that waited longest is served first, and
others make no room for one of a lower priority.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from workers.capacity import Node, Resources
from workers.shares import Share, Work, in_use, promised

PATIENCE = 5.0
"""Seconds that a group waits for its place before others make room: processes take as long to end and to start."""
GRACE = 60.0
"""Seconds that room is kept for a group which does not take it: then it cannot, for a reason that nobody knows here."""
BAN = 600.0
"""Seconds until room is kept for it again."""


@dataclass
class _Wait:
    since: float
    in_vain: bool = False
    """Whether there was no room for it at any time. Whoever has always had some is about to start."""
    room_since: float | None = None
    banned_until: float = 0.0


@dataclass
class Reservations:
    """Remembers since when groups have waited for places that they were given."""

    _waits: dict[str, _Wait] = field(default_factory=dict)

    def keep(
        self, nodes: Sequence[Node], groups: Sequence[Work], planned: Mapping[str, Share], now: float
    ) -> dict[str, Share]:
        """The shares with those taken back that are in the way. ``now``: seconds of any clock."""
        shares, served = dict(planned), set()
        free, usable = in_use(nodes, groups), [node for node in nodes if node.usable]
        fitting = {
            trial: frozenset(node.id for node in usable if node.could_hold(trial))
            for trial in {work.resources for work in groups}
        }
        for work in self._late(groups, planned, now):
            wait, fits = self._waits[work.id], free.fits(work.resources)
            if not fits:
                wait.in_vain, wait.room_since = True, None
            elif wait.room_since is None:
                wait.room_since = now
            if wait.room_since is not None and now - wait.room_since > GRACE:
                wait.banned_until, wait.room_since = now + BAN, None
            if not wait.in_vain or now - wait.since < PATIENCE or now < wait.banned_until:
                continue
            there = fitting[work.resources]
            others = [other for other in groups if other.id not in served and _may_yield(other, work, fitting)]
            in_the_way = [other for other in others if any(place.node in there for place in other.running)]
            kept = [other for other in groups if other not in in_the_way]
            if not (fits or (in_the_way and in_use(nodes, kept).fits(work.resources))):
                continue  # whatever they did
            served.add(work.id)
            if not fits:
                given, owners = planned[work.id].max_live or 0, sorted({other.owner for other in in_the_way})
                shares[work.id] = replace(shares[work.id], waiting=promised(given, given - len(work.running), owners))
            for other in others:
                most = other.live if fits or other not in in_the_way else len(other.running) - 1
                shares[other.id] = _at_most(shares[other.id], most, work.owner)
        return shares

    def _late(self, groups: Sequence[Work], planned: Mapping[str, Share], now: float) -> list[Work]:
        """Groups that were given more than they run, in the order in which they began to wait."""
        late = [work for work in groups if (planned[work.id].max_live or 0) > len(work.running)]
        self._waits = {work.id: self._waits.get(work.id, _Wait(now)) for work in late}
        return sorted(late, key=lambda work: (-work.priority, self._waits[work.id].since, work.id))


def _may_yield(other: Work, work: Work, fitting: Mapping[Resources, frozenset[str]]) -> bool:
    """Whether the one group may be in the way of the other. Trials that are alike take each other's places anyway."""
    return (
        other.resources != work.resources
        and other.priority <= work.priority
        and bool(fitting[other.resources] & fitting[work.resources])
    )


def _at_most(share: Share, most: int, owner: str) -> Share:
    if share.max_live is not None and share.max_live <= most:
        return share
    return Share(max(most, 0), f"room is made for a trial of {owner} that fits nowhere else")
