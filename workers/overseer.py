"""On Tune's thread: gives each free place its next trial, and ends trials that are overdue or whose process is gone.

Nothing here waits for a place: orders are sent and forgotten, and a process that does not obey is killed through Ray,
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
from workers import causes
from workers.actor import PATIENCE
from workers.book import Attempt, Book
from workers.desk import HANDOVER, Desk
from workers.forgetful import Forgetful
from workers.orders import Order, Word, versions
from workers.places import Places
from workers.watch import Watch

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two looks at the places."""
SPEAKS = 30.0
"""Seconds within which a place that has no trial says so again; after that its process is held for frozen."""


class Overseer(Forgetful, tune.Callback):
    """One per Tune run. Places go by the names that Tune gives to its trials."""

    def __init__(self, desk: Desk, places: Places, books: dict[str, Book]):
        self._desk, self._places, self._books = desk, places, books
        self._watch = Watch()
        self._trials: dict[str, Trial] = {}
        """Tune's trials that have not ended: places, and those that wait for one."""
        self._all: list[Trial] = []
        """Tune's list of all its trials, which only grows."""
        self._seen = 0
        self._nodes: dict[str, str] = {}
        """Where each place is, as it said itself."""
        self._devices: dict[str, str] = {}
        """What each place computes on: two of one device are alike."""
        self._spoke: dict[str, float] = {}
        """When each place without a trial spoke last."""
        self._busy: dict[str, Attempt] = {}
        """What runs at each place, whether somebody still waits for it or not."""
        self._ordered: dict[str, float] = {}
        """Places whose trials were told to end, and when."""
        self._looked = 0.0
        self.shut = False
        """Whether the group may have no place. Tune asks twice before a step and must hear the same."""

    def hear(self, place: str, word: Word) -> bool:
        """What a place says; answers whether it is let go."""
        self._nodes[place] = node = word.worker["node_id"]
        self._devices[place] = f"{node}/{word.worker.get('device')}"
        self._watch.hear(place, word.progress, time.monotonic())
        lost = word.result and causes.poisoned(word.result)
        if lost:
            word = word.model_copy(update={"result": lost})
        attempt = self._desk.holds(place)
        self._desk.hear(place, word)
        if word.result is not None:
            if attempt is not None:
                self._places.told(node, attempt, word.result)
            self._forget(place)
        # One that was withdrawn has to obey first: no other trial is begun beside it.
        if place in self._busy:
            return False
        if not lost and (self._give(place, HANDOVER if word.result else 0) or self._may_stay(node)):
            self._spoke[place] = time.monotonic()
            return False
        del self._nodes[place], self._devices[place]
        return True

    def lacks_places(self) -> bool:
        """Whether more waits than there are places that are free, or will be."""
        self._catch_up()
        places = [name for name, trial in self._trials.items() if not trial.is_finished()]
        free = sum(name not in self._busy for name in places)
        return self._desk.waiting > free and self._desk.allows(len(places) + 1)

    @property
    def anybody(self) -> bool:
        """Whether there is any place, or one that is asked for."""
        self._catch_up()
        return any(not trial.is_finished() for trial in self._trials.values())

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """At once, not at the next look: the run may end before."""
        self._see_off(trial)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._all = trials
        self.look_at_share()

    def look_at_share(self) -> None:
        self.shut = self._desk.shut

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
        for place, fault in self._watch.overdue(now).items():
            self._watch.end(place)
            result = TrialResult(outcome=Outcome.LOST, fault=fault)
            if attempt := self._desk.lose(place, result):
                self._places.told(self._nodes.get(place), attempt, result)
        self._places.look(self._trials.values())

    def _give(self, place: str, patience: float) -> bool:
        """The next trial to a place that is free, if there is one for it."""
        node, device = self._nodes[place], self._devices[place]

        def suits(attempt: Attempt) -> bool:
            study_id = attempt.study_id
            if node in self._places.avoid(study_id):
                return False
            if self._places.failed(attempt, node, {self._nodes[at] for at in self._busy}):
                return False
            others = {self._devices[at] for at, busy in self._busy.items() if busy.study_id != study_id}
            return self._places.spread.suits(study_id, device, others)

        attempt = self._desk.take(place, suits, patience)
        if attempt is None:
            return False
        book = self._books[attempt.study_id]
        self._busy[place] = attempt
        self._places.spread.begins(attempt.study_id, device)
        self._watch.begin(place, book.spec.resources, time.monotonic())
        # Tune's next call of the same process comes after this one: Ray keeps the order of one caller.
        self._actor(place).begin.remote(_order(attempt, book))
        return True

    def _may_stay(self, node: str) -> bool:
        """Whether a free place waits for more. Not where the group has too many, and where something waits that is not
        for its node: another place is then asked for."""
        wrong = self._desk.waits(lambda study_id: node in self._places.avoid(study_id))
        return self._desk.allows(len(self._nodes)) and not wrong

    def _see_off(self, trial: Trial) -> None:
        """The place is gone. If its trial has handed in no result, its process died; and if it never spoke, it died
        before it had one: what waited for it is lost, or it would wait for ever where no process can start."""
        self._catch_up()
        place = trial.trial_id
        if self._trials.pop(place, None) is None:
            return  # seen off before
        spoke, node, error = place in self._nodes, self._nodes.pop(place, None), _error_of(trial)
        self._devices.pop(place, None)
        result, node = causes.result_of(error), node or causes.node_of(error)
        attempt = self._desk.lose(place, result)
        if error is not None and not spoke:
            # Whatever ended the process, the trial has not run: it gets its other attempts.
            result = result.model_copy(update={"outcome": Outcome.LOST})
            attempt = self._desk.lose_waiting(result)
        if attempt:
            self._places.told(node, attempt, result)
        self._forget(place)
        self._spoke.pop(place, None)

    def _forget(self, place: str) -> None:
        """Nothing runs there any more."""
        self._watch.end(place)
        self._ordered.pop(place, None)
        self._busy.pop(place, None)

    def _watch_over(self, trial: Trial, now: float) -> None:
        """A trial that nobody waits for any more is told to end, then made to; and so is a place that has frozen."""
        place, actor = trial.trial_id, trial.temporary_state.ray_actor
        if place not in self._busy:
            if now - self._spoke.setdefault(place, now) > SPEAKS:
                log.error("a process without a trial has not spoken for %g s: it is killed", SPEAKS)
                ray.kill(actor)
        elif self._desk.holds(place):
            return
        elif place not in self._ordered:
            self._ordered[place] = now
            actor.halt.remote()
        elif now - self._ordered[place] > PATIENCE:
            said = "a trial did not stop within %g s: its process is killed"
            log.error(said, PATIENCE, extra=self._busy[place].log_fields)
            self._ordered[place] = now
            ray.kill(actor)

    def _actor(self, place: str) -> ray.actor.ActorHandle:
        self._catch_up()
        return self._trials[place].temporary_state.ray_actor

    def _catch_up(self) -> None:
        self._trials |= {trial.trial_id: trial for trial in self._all[self._seen :]}
        self._seen = len(self._all)


def _order(attempt: Attempt, book: Book) -> str:
    return Order(
        study_id=attempt.study_id,
        ordinal=attempt.ordinal,
        attempt=attempt.attempt,
        spec=book.spec,
        hyperparameters=attempt.hyperparameters,
        cuts=attempt.cuts,
        versions=versions(),
    ).model_dump_json()


def _error_of(trial: Trial) -> BaseException | None:
    """What Tune was told of the process; it keeps it in a file only."""
    if trial.pickled_error_file is None:
        return None
    with open(trial.pickled_error_file, "rb") as file:
        return cloudpickle.load(file)
