"""Which trials run too long or make no pass any more: pure bookkeeping; the caller brings the clock (seconds)."""

from dataclasses import dataclass
from typing import Any

from mudman.results import Fault
from mudman.specs import ResourcesSpec


@dataclass
class _Life:
    limits: ResourcesSpec
    began: float
    stirred: float
    """When a pass was heard of last, or when the trial got its process."""
    at: tuple[str, int] | None = None
    """Phase and passes of the last word."""


class Watch:
    """Over the trials that have a process, by Tune's name of the trial."""

    def __init__(self):
        self._lives: dict[str, _Life] = {}

    def begin(self, trial_id: str, limits: ResourcesSpec, now: float) -> None:
        """The trial has its process. May be repeated."""
        self._lives.setdefault(trial_id, _Life(limits, now, now))

    def hear(self, trial_id: str, progress: dict[str, Any] | None, now: float) -> None:
        """A word of the trial; one without a new pass is no sign of life."""
        life, at = self._lives.get(trial_id), progress and (progress["phase"], progress["passes"])
        if life and at != life.at:
            life.at, life.stirred = at, now

    def end(self, trial_id: str) -> None:
        self._lives.pop(trial_id, None)

    def overdue(self, now: float) -> dict[str, Fault]:
        """Trials that are beyond one of their limits, and why; until they are ended."""
        found = {trial_id: _overdue(life, now) for trial_id, life in self._lives.items()}
        return {trial_id: fault for trial_id, fault in found.items() if fault}


def _overdue(life: _Life, now: float) -> Fault | None:
    limits, where = life.limits, f"{life.at[0]} pass {life.at[1]}" if life.at else "before its first pass"
    if limits.max_seconds is not None and now - life.began > limits.max_seconds:
        message = (
            f"ran for longer than resources.max_seconds ({limits.max_seconds:g}), until {where}. It runs again, three "
            "times in all. Remedy: raise the limit, or lower the budget"
        )
    elif now - life.stirred > limits.max_silence:
        message = (
            f"made no pass for resources.max_silence ({limits.max_silence:g} s), after {where}: held for hung. It runs "
            "again, three times in all. Remedy: raise the limit if loading or one pass takes that long; otherwise look "
            "at the node"
        )
    else:
        return None
    return Fault(type="DeadlineExceeded", message=message)
