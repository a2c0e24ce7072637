"""On which nodes a group's places are: not on those in quarantine, nor where a study fails, if there is another one.

Every new place carries the nodes that it keeps away from; it is given no trial of a study that keeps away from its own.
"""

import logging
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from mudman.results import Outcome, TrialResult
from mudman.specs import ResourcesSpec
from workers import cluster
from workers.book import Attempt
from workers.breaker import Breaker
from workers.desk import Desk
from workers.spread import Spread

log = logging.getLogger(__name__)

AVOID = "avoid"
"""Key of the configuration that Tune hands over: ids of nodes that the place is not to be on."""


class Places:
    """Of these resources, for all of Tune's runs of a group. On Tune's thread."""

    def __init__(self, desk: Desk, resources: ResourcesSpec):
        self._desk, self.resources = desk, resources
        self._breaker = Breaker()
        self.spread = Spread()
        self._lost: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        """By study and ordinal: nodes on which attempts were lost."""
        self.cornered = False
        """There is no place, and those that are asked for keep away from nodes that they need not keep away from any
        more: better to ask anew."""

    def told(self, node: str | None, attempt: Attempt, result: TrialResult) -> None:
        """An attempt has ended on the node. ``None``: it never said where it was."""
        if node is None:
            return
        if result.outcome is Outcome.LOST:
            self._lost[attempt.study_id, attempt.ordinal].add(node)
        words = result.fault.type if result.fault else ""
        self._breaker.told(node, attempt.study_id, attempt, result.outcome, words)
        if self._breaker.suspects:
            for blamed, reason in self._breaker.blame(self._possible()).items():
                log.error("node %s is left alone: %s", blamed, reason)
                self._desk.blame(blamed, reason)

    def avoid(self, study_id: str) -> frozenset[str]:
        """Nodes that a new trial of the study is not sent to."""
        quarantined = self._desk.quarantined
        if not (quarantined or self._breaker.suspects):
            return frozenset()
        possible = self._possible()
        return (quarantined if possible else frozenset()) | self._breaker.shunned(study_id, possible)

    def failed(self, attempt: Attempt, node: str, others: Collection[str]) -> bool:
        """Whether the trial was lost on the node before, and runs again elsewhere. ``others``: nodes of the places that
        run something, one of which is free next."""
        lost = self._lost.get((attempt.study_id, attempt.ordinal), frozenset())
        return node in lost and any(other not in lost for other in others)

    def look(self, trials: Collection[Trial]) -> None:
        """``trials``: those of Tune's that have not ended. Each is a place, or waits for one."""
        placed = any(trial.temporary_state.ray_actor for trial in trials)
        self.cornered = not placed and any(self._waits_in_vain(trial) for trial in trials)

    def _possible(self) -> frozenset[str]:
        return cluster.fitting(self.resources) - self._desk.quarantined

    def _waits_in_vain(self, trial: Trial) -> bool:
        """Whether nobody needs the place any more, or a place that is asked for now may be where this one may not."""
        if self._desk.shut:
            return True
        first = self._desk.first_waiting(0)
        return first is not None and not set(trial.config[AVOID]) <= self.avoid(first.study_id)


def request(resources: ResourcesSpec, config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """What Tune asks Ray for for a place."""
    held = {"CPU": resources.cpus, "GPU": resources.gpus}
    selector = cluster.away_from(config[AVOID])
    return tune.PlacementGroupFactory([held], bundle_label_selector=[selector] if selector else None)
