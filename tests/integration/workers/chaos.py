"""A seeded storm of faults over a running system, and what has to hold after it.

``Storm(site, postgres, seed, faults)`` draws kinds, victims and lengths from one generator, so that a storm can be had
again by its seed; what each fault hits depends on the moment, and is written down. Between the faults people do what
they do to studies.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import psutil
from clusters import kill
from sqlalchemy import select, text

from service.store import actions, enqueued, studies
from service.store.database import DatabaseUnavailable
from service.store.refusals import NoRoom, NothingToRetry
from service.store.states import Action, RefusedTransition
from service.store.tables import OutcomeCount, Study

COUNTS = ("valid", "over_retain_budget", "diverged", "pruned")
ATTEMPTS = 3
"""Losses after which an ordinal is given up."""


@dataclass
class Storm:
    site: "Site"  # noqa: F821 - of conftest, which no module can import by name
    postgres: "Server"  # noqa: F821
    seed: int
    faults: int
    """Those that have to find something to hit."""
    cluster: "Cluster | None" = None  # noqa: F821
    """Has a node that may die; None: no node dies."""
    pauses: tuple[float, float] = (0.2, 2.0)
    """Seconds between two faults, at least and at most."""
    patience: float = 8.0
    """Seconds that a fault waits for something to hit."""
    said: list[str] = field(default_factory=list)
    hits: Counter = field(default_factory=Counter)
    """By kind: faults that found something to hit."""
    _seen: dict[tuple[str, int, int], tuple] = field(default_factory=dict)

    def __post_init__(self):
        self.steered: set[str] = set()
        """Studies that were given trials which their searches alone would not have had."""
        self._dispatchers = [self.site.dispatch(), self.site.dispatch()]
        self._studies: list[str] = []
        self._frozen: list[tuple[float, psutil.Process]] = []
        self._node = self.cluster and self.cluster.node("--num-cpus", "1")

    # -------------------------------------------------------------------------------------------------- the faults

    # ``length``: drawn for each fault, between 0 and 1.

    def kill_a_trial(self, study_id: str, length: float) -> None:
        self._signal(self._found(self._worker_of, study_id), signal.SIGKILL)

    def freeze_a_trial(self, study_id: str, length: float) -> None:
        """For ever: it is up to the runner to notice."""
        self._signal(self._found(self._worker_of, study_id), signal.SIGSTOP)

    def kill_a_runner(self, study_id: str, length: float) -> None:
        self._signal(self._found(self.site.runner_of, study_id), signal.SIGKILL)

    def end_a_runner(self, study_id: str, length: float) -> None:
        self._signal(self._found(self.site.runner_of, study_id), signal.SIGTERM)

    def freeze_a_runner(self, study_id: str, length: float) -> None:
        """For longer or shorter than its lease lasts: it comes back and may be a stranger."""
        pid = self._found(self.site.runner_of, study_id)
        if pid and self._signal(pid, signal.SIGSTOP):
            self._frozen.append((time.monotonic() + 0.5 + 7.5 * length, psutil.Process(pid)))

    def kill_a_dispatcher(self, study_id: str, length: float) -> None:
        self._replace_dispatcher(lambda process: process.kill())

    def end_a_dispatcher(self, study_id: str, length: float) -> None:
        self._replace_dispatcher(lambda process: process.terminate())

    def cut_off_the_database(self, study_id: str, length: float) -> None:
        self.postgres.stop()
        time.sleep(0.2 + 2.8 * length)
        self.postgres.start()

    def kill_the_database(self, study_id: str, length: float) -> None:
        self.postgres.kill()
        time.sleep(2 * length)
        self.postgres.start()

    def kill_a_node(self, study_id: str, length: float) -> None:
        """Another one joins in its place."""
        kill(self._node)
        time.sleep(2 * length)
        self._node = self.cluster.node("--num-cpus", "1")

    # ------------------------------------------------------------------------------------------ what people do

    def pause_and_resume(self, study_id: str, length: float) -> None:
        self._do(studies.change_state, study_id, Action.PAUSE)
        time.sleep(1.5 * length)
        self._do(actions.resume, study_id)

    def cancel_and_queue_again(self, study_id: str, length: float) -> None:
        self._do(studies.change_state, study_id, Action.CANCEL)
        time.sleep(1.5 * length)
        self._queue_cancelled(study_id)

    def retry(self, study_id: str, length: float) -> None:
        """Cancelled, with another attempt for what had been lost for good."""
        self._do(studies.change_state, study_id, Action.CANCEL)
        time.sleep(1.5 * length)
        if self._do(actions.retry, study_id):
            self.steered.add(study_id)
        self._queue_cancelled(study_id)

    def enqueue(self, study_id: str, length: float) -> None:
        """A trial with a retaining rate between the bounds of the search; the sampler fills in the rest."""
        if self._do(enqueued.add, study_id, {(): {"retaining_rate": 1e-4 * 100**length}}):
            self.steered.add(study_id)

    FAULTS = (
        *(kill_a_trial, freeze_a_trial, kill_a_runner, end_a_runner, freeze_a_runner),
        *(kill_a_dispatcher, end_a_dispatcher, cut_off_the_database, kill_the_database),
    )
    ACTIONS = (pause_and_resume, cancel_and_queue_again, retry, enqueue)

    def drawn(self, study_ids: Sequence[str]) -> Iterator[tuple[Callable, str, float, float]]:
        """What, whom, how long, and the pause after it (seconds): by the seed and nothing else. Each kind of fault
        comes once before any comes again, and an action after every second fault."""
        chance = random.Random(self.seed)
        kinds = [*self.FAULTS, *([Storm.kill_a_node] if self.cluster else [])]
        while True:
            chance.shuffle(kinds)
            for number, kind in enumerate(kinds):
                yield kind, chance.choice(study_ids), chance.random(), chance.uniform(*self.pauses)
                if number % 2:
                    action = chance.choice(self.ACTIONS)
                    yield action, chance.choice(study_ids), chance.random(), chance.uniform(*self.pauses)

    # --------------------------------------------------------------------------------------------------- the storm

    def rage(self, study_ids: list[str], within: float) -> None:
        """Until so many faults have hit, then calm until every study is complete: nobody queues a failed one again."""
        self._studies = study_ids
        self.site.until("a trial runs", lambda: any(map(self.site.worker_of, study_ids)))
        for number, (kind, study_id, length, pause) in enumerate(self.drawn(study_ids)):
            if self.hits.total() == self.faults:
                break
            assert number < 4 * self.faults, "too little is hit"
            self._thaw()
            self._keep_busy(study_id)
            self.said.append(f"{number} {kind.__name__} {study_id}")
            told = len(self.said)
            kind(self, study_id, length)
            if len(self.said) == told and kind not in self.ACTIONS:
                self.hits[kind.__name__] += 1
            self._remember(study_ids)
            time.sleep(pause)
        for _, process in self._frozen:
            self._signal(process.pid, signal.SIGCONT)
        self._frozen.clear()
        for study_id in study_ids:
            self._do(actions.resume, study_id)
            self._queue_cancelled(study_id)
        self.site.until(
            f"calm after storm {self.seed}",
            lambda: all(self._is_complete(study_id) for study_id in study_ids),
            within,
        )
        self._remember(study_ids)

    def _keep_busy(self, study_id: str) -> None:
        """A study that has completed gets a larger budget: a storm over what is done would find nothing to hit."""
        if self.site.state(study_id) == "completed":
            self._do(actions.extend, study_id, self.site.spec(study_id).budget.trials + 10)

    def _is_complete(self, study_id: str) -> bool:
        state = self.site.state(study_id)
        assert state != "failed", [e.data for e in self.site.events(study_id) if e.kind == Action.FAIL]
        return state == "completed"

    def _replace_dispatcher(self, end: Callable) -> None:
        end(self._dispatchers.pop(0))
        self._dispatchers.append(self.site.dispatch())

    def _queue_cancelled(self, study_id: str) -> None:
        """As if its spec was posted once more, unless it failed: that is what the storm is to find."""

        def queue(session, study_id: str) -> None:
            study = studies.get(session, study_id)
            if study.state == "cancelled":
                studies.run_again(session, study)

        self._do(queue, study_id)

    def _do(self, action: Callable, study_id: str, *arguments) -> bool:
        """As the API does it. Whether it was done: the study may be in another state, or the database away."""
        try:
            with self.site.database.begin() as session:
                action(session, study_id, *arguments)
        except (RefusedTransition, NothingToRetry, NoRoom, DatabaseUnavailable) as refused:
            self.said.append(f"  {refused}")
            return False
        return True

    def _found(self, find: Callable[[str], int | None], study_id: str) -> int | None:
        """A victim; one that is just being started again is waited for a little."""
        deadline = time.monotonic() + self.patience
        while (pid := find(study_id)) is None:
            if time.monotonic() > deadline:
                return None
            self._keep_busy(study_id)
            time.sleep(0.05)
        return pid

    def _worker_of(self, study_id: str) -> int | None:
        """Of another study, if this one runs nothing: runners die too often for each to have a trial always."""
        others = [other for other in self._studies if other != study_id]
        return next(filter(None, map(self.site.worker_of, [study_id, *others])), None)

    def _signal(self, pid: int | None, number: signal.Signals) -> bool:
        if pid is None:
            self.said.append("  nobody there")
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            self.said.append("  gone before")
            return False
        return True

    def _thaw(self) -> None:
        for until, process in [one for one in self._frozen if one[0] <= time.monotonic()]:
            self._signal(process.pid, signal.SIGCONT)
            self._frozen.remove((until, process))

    def _remember(self, study_ids: list[str]) -> None:
        """Every end that was seen must stay as it was."""
        for study_id in study_ids:
            try:
                rows = self.site.trials(study_id)
            except DatabaseUnavailable:
                continue
            for row in rows:
                if row.outcome is not None:
                    key, end = (study_id, row.ordinal, row.attempt), (row.outcome, row.value, row.finished_at)
                    assert self._seen.setdefault(key, end) == end, f"{key} changed after its end"

    # ---------------------------------------------------------------------------------------------- what has to hold

    def check(self, study_id: str) -> Counter:
        """Nothing lost, nothing twice, no gaps; our rows, the counts, the events and Optuna tell one story."""
        rows, budget = self.site.trials(study_id), self.site.spec(study_id).budget.trials
        assert all(row.outcome for row in rows), "an attempt without an end"
        by_ordinal: dict[int, list] = {}
        for row in rows:
            by_ordinal.setdefault(row.ordinal, []).append(row)
        assert sorted(by_ordinal) == list(range(len(by_ordinal))), "ordinals have gaps"
        counted = 0
        for ordinal, attempts in by_ordinal.items():
            assert [row.attempt for row in attempts] == list(range(1, len(attempts) + 1)), f"attempts of {ordinal}"
            assert len({str(sorted(row.hyperparameters.items())) for row in attempts}) == 1, f"{ordinal} changed"
            counting = [row for row in attempts if row.outcome in COUNTS]
            lost = sum(row.outcome == "lost" for row in attempts)
            assert len(counting) == 1 or (not counting and lost >= ATTEMPTS), f"ordinal {ordinal}"
            assert not counting or counting == attempts[-1:], f"ordinal {ordinal} went on after it had counted"
            counted += len(counting)
        retried = sum(event.data["trials"] for event in self.site.events(study_id) if event.kind == Action.RETRY)
        assert budget <= counted <= budget + retried, "only what was retried may count beyond the budget"
        remembered = {key for key in self._seen if key[0] == study_id}
        assert remembered <= {(study_id, row.ordinal, row.attempt) for row in rows}, "a finished trial is gone"

        outcomes = Counter(row.outcome for row in rows)
        events = self.site.events(study_id)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1)), "events have gaps"
        failed = [event.data["reason"] for event in events if event.kind == Action.FAIL]
        assert not failed, f"it failed: {failed}"
        finished = Counter(event.data["outcome"] for event in events if event.kind == "trial_finished")
        assert finished == outcomes
        with self.site.database.begin() as session:
            kept = dict(
                session.execute(
                    select(OutcomeCount.outcome, OutcomeCount.attempts).where(OutcomeCount.study_id == study_id)
                )
                .tuples()
                .all()
            )
            query = text(
                "select trials.state::text, count(*) from optuna.trials join optuna.studies using (study_id)"
                " where study_name = :name group by 1"
            )
            optunas = dict(session.execute(query, {"name": study_id}).tuples().all())
            assert session.get_one(Study, study_id).state == "completed"
        assert kept == outcomes
        complete, pruned = outcomes["valid"], sum(outcomes[o] for o in COUNTS) - outcomes["valid"]
        failed = sum(outcomes.values()) - complete - pruned
        expected = {"COMPLETE": complete, "PRUNED": pruned, "FAIL": failed}
        assert optunas == {state: count for state, count in expected.items() if count}
        return outcomes

    def given_up(self, study_id: str) -> bool:
        """Whether an ordinal was lost too often: then the search had to take another one in its place."""
        return len({row.ordinal for row in self.site.trials(study_id)}) > self.site.spec(study_id).budget.trials
