"""By how much each owner is ahead of whoever has had least for its weight, among those who have work.

What an owner holds adds up for as long as it has work: nothing is forgotten between its turns, so that trials of half
an hour and of five minutes, of one core and of three, come out even. An owner who has all that it can use saves
nothing up for later, and one who joins begins beside the last, however long the others have been at it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

LONGEST = 3 * 3600.0
"""Seconds of the whole cluster that an owner can be ahead, at most: a trial that takes all of it for three hours is
made good. Beyond that nobody waits for what others had long ago."""


@dataclass(frozen=True)
class Holding:
    """Of an owner who has work, since the last turn."""

    share: float
    """Of the whole cluster, held by its trials."""
    weight: float
    wants: bool
    """It would run more if others ran less."""
    seconds: float
    """Since its last turn."""


def after(leads: Mapping[str, float], owners: Mapping[str, Holding]) -> dict[str, float]:
    """The leads of these owners now, from those at the last turn: seconds of the whole cluster, for a weight of 1."""
    hungry = [name for name, owner in owners.items() if owner.wants]
    weights = sum(owners[name].weight for name in hungry)
    pace = sum(owners[name].share for name in hungry) / weights if weights else 0.0
    last = min((leads.get(name, 0.0) for name in hungry), default=0.0)
    found = {}
    for name, owner in owners.items():
        before, rate = leads.get(name, 0.0), owner.share / owner.weight
        if not owner.wants and before <= last:
            rate = max(rate, pace)
        found[name] = before + rate * owner.seconds
    least = min(found.values(), default=0.0)
    return {name: min(lead - least, LONGEST) for name, lead in found.items()}
