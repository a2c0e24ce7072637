"""Which nodes trials are sent to: not to those in quarantine, nor where their study fails, if there is another one.

Every new trial carries the nodes that it keeps away from, so that Tune goes on as it is; an actor is reused by trials
that keep away from the same ones.
"""

import logging
from collections.abc import Collection
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


class Places:
    """For trials of these resources. On Tune's thread."""

    def __init__(self, desk: Desk, resources: ResourcesSpec):
        self._desk, self._resources = desk, resources
        self._breaker = Breaker()
        self.cornered = False
        """All that is left waits for a place on nodes that have none: to be taken back and begun anew."""

    def told(self, node: str | None, attempt: Attempt, result: TrialResult) -> None:
        """An attempt has ended on the node. ``None``: it never said where it was."""
        if node is None:
            return
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

    def look(self, trials: Collection[Trial]) -> None:
        """``trials``: those of Tune's that have not ended."""
        idle = not any(trial.temporary_state.ray_actor for trial in trials)
        self.cornered = idle and any(self._has_become_freer(trial) for trial in trials)

    def _possible(self) -> frozenset[str]:
        return cluster.fitting(self._resources) - self._desk.quarantined

    def _has_become_freer(self, trial: Trial) -> bool:
        """Whether a trial that begins now may go where this one may not."""
        avoided, attempt = set(trial.config[AVOID]), self._desk.holds(trial.trial_id)
        return bool(avoided) and (attempt is None or bool(avoided - self.avoid(attempt.study_id)))


def request(resources: ResourcesSpec, config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """What Tune asks Ray for on behalf of a trial."""
    held = {"CPU": resources.cpus, "GPU": resources.gpus}
    selector = cluster.away_from(config[AVOID])
    return tune.PlacementGroupFactory([held], bundle_label_selector=[selector] if selector else None)
