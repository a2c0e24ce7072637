"""A seeded storm of faults over a running system, and what has to hold after it.

``Storm(site, seed, faults)`` draws kinds, victims and pauses from one generator, so that a storm can be had again by
its seed; what each fault hits depends on the moment, and is written down.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
from sqlalchemy import select, text

from service.store import studies
from service.store.database import DatabaseUnavailable
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
    pauses: tuple[float, float] = (0.2, 2.0)
    """Seconds between two faults, at least and at most."""
    patience: float = 15.0
    """Seconds that a fault waits for something to hit."""
    said: list[str] = field(default_factory=list)
    _seen: dict[tuple[str, int, int], tuple] = field(default_factory=dict)

    def __post_init__(self):
        self._random = random.Random(self.seed)
        self._dispatchers = [self.site.dispatch(), self.site.dispatch()]
        self._frozen: list[tuple[float, psutil.Process]] = []

    # -------------------------------------------------------------------------------------------------- the faults

    def kill_a_trial(self, study_id: str) -> None:
        self._signal(self._found(self.site.worker_of, study_id), signal.SIGKILL)

    def kill_a_runner(self, study_id: str) -> None:
        self._signal(self._found(self.site.runner_of, study_id), signal.SIGKILL)

    def end_a_runner(self, study_id: str) -> None:
        self._signal(self._found(self.site.runner_of, study_id), signal.SIGTERM)

    def freeze_a_runner(self, study_id: str) -> None:
        """For longer or shorter than its lease lasts: it comes back and may be a stranger."""
        pid = self._found(self.site.runner_of, study_id)
        if pid and self._signal(pid, signal.SIGSTOP):
            self._frozen.append((time.monotonic() + self._random.uniform(0.5, 8), psutil.Process(pid)))

    def kill_a_dispatcher(self, study_id: str) -> None:
        self._replace_dispatcher(lambda process: process.kill())

    def end_a_dispatcher(self, study_id: str) -> None:
        self._replace_dispatcher(lambda process: process.terminate())

    def cut_off_the_database(self, study_id: str) -> None:
        self.postgres.stop()
        time.sleep(self._random.uniform(0.2, 3))
        self.postgres.start()

    def pause_and_resume(self, study_id: str) -> None:
        self._change(study_id, Action.PAUSE)
        time.sleep(self._random.uniform(0, 1.5))
        self._change(study_id, Action.RESUME)

    def cancel_and_retry(self, study_id: str) -> None:
        self._change(study_id, Action.CANCEL)
        time.sleep(self._random.uniform(0, 1.5))
        self._change(study_id, Action.REQUEUE)

    KINDS = (
        *(kill_a_trial, kill_a_trial, kill_a_runner, end_a_runner, freeze_a_runner, kill_a_dispatcher),
        *(end_a_dispatcher, cut_off_the_database, pause_and_resume, cancel_and_retry),
    )

    # --------------------------------------------------------------------------------------------------- the storm

    def rage(self, study_ids: list[str], within: float) -> None:
        """All the faults, then calm until every study is complete. A study that ends early gets no rest: it is left."""
        for number in range(self.faults):
            self._thaw()
            kind, study_id = self._random.choice(self.KINDS), self._random.choice(study_ids)
            self.said.append(f"{number} {kind.__name__} {study_id}")
            kind(self, study_id)
            self._remember(study_ids)
            time.sleep(self._random.uniform(*self.pauses))
        for _, process in self._frozen:
            self._signal(process.pid, signal.SIGCONT)
        self._frozen.clear()
        for study_id in study_ids:
            self._change(study_id, Action.RESUME)
            self._change(study_id, Action.REQUEUE)
        self.site.until(
            f"calm after storm {self.seed}",
            lambda: all(self.site.state(study_id) == "completed" for study_id in study_ids),
            within,
        )
        self._remember(study_ids)

    def _replace_dispatcher(self, end: Callable) -> None:
        end(self._dispatchers.pop(0))
        self._dispatchers.append(self.site.dispatch())

    def _change(self, study_id: str, action: Action) -> None:
        try:
            with self.site.database.begin() as session:
                studies.change_state(session, study_id, action)
        except (RefusedTransition, DatabaseUnavailable) as refused:
            self.said.append(f"  {refused}")

    def _found(self, find: Callable[[str], int | None], study_id: str) -> int | None:
        """A victim; one that is just being started again is waited for a little."""
        deadline = time.monotonic() + self.patience
        while (pid := find(study_id)) is None and self.site.state(study_id) != "completed":
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)
        return pid

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
        assert counted == budget
        remembered = {key for key in self._seen if key[0] == study_id}
        assert remembered <= {(study_id, row.ordinal, row.attempt) for row in rows}, "a finished trial is gone"

        outcomes = Counter(row.outcome for row in rows)
        events = self.site.events(study_id)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1)), "events have gaps"
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
