"""On Tune's thread, between its steps: ends trials that are overdue, and those whose process is gone.

Nothing here waits: orders to actors are sent and forgotten, and a process that does not obey is killed through Ray,
which needs no answer from it and works on any node.
"""

import logging
import time
from typing import Any

import cloudpickle
import ray
from ray import tune
from ray.tune.experiment import Trial

from mudman.results import Outcome, TrialResult
from mudman.specs import ResourcesSpec
from workers import causes
from workers.actor import ORDER, PATIENCE
from workers.desk import START, Desk
from workers.forgetful import Forgetful
from workers.orders import Order, Word
from workers.places import Places
from workers.watch import Watch

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two looks at the trials."""


class Overseer(Forgetful, tune.Callback):
    """One per Tune run. ``limits``: of each study."""

    def __init__(self, desk: Desk, places: Places, limits: dict[str, ResourcesSpec]):
        self._desk, self._places, self._limits = desk, places, limits
        self._watch = Watch()
        self._trials: dict[str, Trial] = {}
        """Tune's trials that have not ended."""
        self._all: list[Trial] = []
        """Tune's list of all its trials, which only grows."""
        self._seen = 0
        self._nodes: dict[str, str] = {}
        """Where each trial runs, as it said itself."""
        self._ordered: dict[str, float] = {}
        """Trials that were told to end, and when."""
        self._kept: dict[str, float] = {}
        """Trials that have handed in their results, and since when their processes wait for another one to start."""
        self._looked = 0.0
        self.sated = False
        """Whether the group runs as much as its share. Tune asks twice before a step and must hear the same."""

    def hear(self, trial_id: str, word: Word) -> bool:
        """What an actor says; answers whether its trial ends here."""
        self._watch.hear(trial_id, word.progress, time.monotonic())
        if attempt := self._desk.holds(trial_id):
            self._nodes[trial_id] = node = word.worker.get("node_id")
            self._desk.hear(trial_id, word)
            if word.result:
                self._places.told(node, attempt, TrialResult.model_validate(word.result))
        # One that was withdrawn ends when it obeys, or with its process: no other trial is then begun beside it.
        if word.result:
            # Now, or Tune would let the process go that has just become free.
            self.look_at_share()
        if word.result and self._may_wait(trial_id, time.monotonic()) and self._place_is_coming(trial_id):
            return False
        return word.result is not None

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """At once, not at the next look: the run may end before."""
        self._see_off(trial)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._all = trials
        self.look_at_share()

    def look_at_share(self) -> None:
        self.sated = self._desk.sated

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        self._all = trials
        self._catch_up()
        for trial in list(self._trials.values()):
            if trial.is_finished():
                self._see_off(trial)
            elif trial.temporary_state.ray_actor is not None:
                self._watch_over(trial, now)
        for trial_id, fault in self._watch.overdue(now).items():
            self._watch.end(trial_id)
            self._lose(trial_id, TrialResult(outcome=Outcome.LOST, fault=fault), self._nodes.get(trial_id))
        self._places.look(self._trials.values())

    def _see_off(self, trial: Trial) -> None:
        """Tune is done with the trial. Without a result its process is gone."""
        node = self._nodes.pop(trial.trial_id, None)
        if self._desk.holds(trial.trial_id):
            error = _error_of(trial)
            self._lose(trial.trial_id, causes.result_of(error), node or causes.node_of(error))
        self._watch.end(trial.trial_id)
        self._ordered.pop(trial.trial_id, None)
        self._kept.pop(trial.trial_id, None)
        self._trials.pop(trial.trial_id, None)

    def _watch_over(self, trial: Trial, now: float) -> None:
        """A trial that has a process. One that nobody waits for any more is told to end, then made to."""
        trial_id, actor = trial.trial_id, trial.temporary_state.ray_actor
        if attempt := self._desk.holds(trial_id):
            self._watch.begin(trial_id, self._limits[attempt.study_id], now)
        elif trial_id in self._kept and self._may_wait(trial_id, now):
            return
        elif trial_id not in self._ordered:
            self._ordered[trial_id] = now
            actor.halt.remote()
        elif now - self._ordered[trial_id] > PATIENCE:
            named = Order.model_validate_json(trial.config[ORDER]).log_fields
            log.error("a trial did not stop within %g s: its process is killed", PATIENCE, extra=named)
            self._ordered[trial_id] = now
            ray.kill(actor)

    def _place_is_coming(self, trial_id: str) -> bool:
        self._catch_up()
        placed = {name for name, trial in self._trials.items() if trial.temporary_state.ray_actor is not None}
        return self._desk.place_is_coming(self._kept[trial_id], placed)

    def _catch_up(self) -> None:
        self._trials |= {trial.trial_id: trial for trial in self._all[self._seen :]}
        self._seen = len(self._all)

    def _may_wait(self, trial_id: str, now: float) -> bool:
        return now - self._kept.setdefault(trial_id, now) < START

    def _lose(self, trial_id: str, result: TrialResult, node: str | None) -> None:
        if attempt := self._desk.lose(trial_id, result):
            self._places.told(node, attempt, result)


def _error_of(trial: Trial) -> BaseException | None:
    """What Tune was told of the process; it keeps it in a file only."""
    if trial.pickled_error_file is None:
        return None
    with open(trial.pickled_error_file, "rb") as file:
        return cloudpickle.load(file)
