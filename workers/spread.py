"""On which devices the studies of a group have run: all on all of them, alike."""

from collections import Counter, defaultdict
from collections.abc import Collection

EXCESS = 2.0
"""Trials that a study may have had on a device beyond what falls to it of those that the device has run."""


class Spread:
    """With one trial at a time and as many devices as studies, each study would have its device, and what differs
    between devices, or drifts on one, would pass for a difference between studies. So where a study has had too much of
    a device, its next trial waits for one of which it has had too little, at most until the trial that runs there has
    ended; the two then change places. A device that is faster runs more of every study. Devices are told apart by name.
    """

    def __init__(self) -> None:
        self._had: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def begins(self, study_id: str, device: str) -> None:
        self._had[study_id][device] += 1

    def suits(self, study_id: str, device: str, others: Collection[str]) -> bool:
        """Whether the study's next trial is for this device. ``others``: those on which trials of other studies of the
        group run now."""
        if not others or self._excess(study_id, device) < EXCESS:
            return True
        return all(self._excess(study_id, other) >= 0 for other in others)

    def _excess(self, study_id: str, device: str) -> float:
        had, everybody = self._had[study_id], self._had.values()
        part = sum(each[device] for each in everybody) / max(1, sum(each.total() for each in everybody))
        return had[device] - had.total() * part
