"""Which nodes trials are sent to: not to those in quarantine, as long as there is another one for them.

Every new trial carries the nodes that it keeps away from, so that Tune goes on as it is; an actor is reused by trials
that keep away from the same ones.
"""

import logging
from collections.abc import Iterable
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from mudman.results import TrialResult
from mudman.specs import ResourcesSpec
from workers import cluster
from workers.book import Attempt
from workers.breaker import Breaker
from workers.desk import Desk

log = logging.getLogger(__name__)

AVOID = "avoid"
"""Key of the configuration that Tune hands over: ids of nodes that the trial is not sent to."""
LOOK = 5.0
"""Seconds between two looks at the cluster's nodes, while one of them is to be left alone."""


class Places:
    """For trials of these resources. On Tune's thread."""

    def __init__(self, desk: Desk, resources: ResourcesSpec):
        self._desk, self._resources = desk, resources
        self._breaker = Breaker()
        self._quarantined: frozenset[str] = frozenset()
        self._looked = 0.0
        self.avoid: frozenset[str] = frozenset()
        """Nodes that new trials are not sent to."""
        self.cornered = False
        """All that is left waits for a place on nodes that have none: to be taken back and begun anew."""

    def told(self, node: str | None, attempt: Attempt, result: TrialResult) -> None:
        """An attempt has ended on the node. ``None``: it never said where it was."""
        if node is None:
            return
        self._breaker.told(node, attempt, result.outcome, result.fault.type if result.fault else "")
        if self._breaker.suspects:
            possible = cluster.fitting(self._resources) - self._desk.quarantined
            for blamed, reason in self._breaker.blame(possible).items():
                log.error("node %s is left alone: %s", blamed, reason)
                self._desk.blame(blamed, reason)

    def look(self, now: float, trials: Iterable[Trial]) -> None:
        """``trials``: those of Tune's that have not ended."""
        quarantined = self._desk.quarantined
        if quarantined != self._quarantined or (quarantined and now - self._looked > LOOK):
            self._quarantined, self._looked = quarantined, now
            self.avoid = quarantined if cluster.fitting(self._resources) - quarantined else frozenset()
        idle = not any(trial.temporary_state.ray_actor for trial in trials)
        self.cornered = idle and any(set(trial.config[AVOID]) - self.avoid for trial in trials)


def request(resources: ResourcesSpec, config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """What Tune asks Ray for on behalf of a trial."""
    held = {"CPU": resources.cpus, "GPU": resources.gpus}
    selector = cluster.away_from(config[AVOID])
    return tune.PlacementGroupFactory([held], bundle_label_selector=[selector] if selector else None)
