"""With one worker a search is death-exact: whichever transactions its runners die at, before the commit or right after,
the trials come out value for value as undisturbed. A real database; no Ray."""

from collections import Counter
from contextlib import contextmanager

from cases import Case, begun, result_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_kill import COUNTS, undisturbed

from workers.book import ATTEMPTS
from workers.study import StudyInHand

TRIALS = 6


class Killed(Exception):
    """The runner's process is no more."""


class Mortal:
    """A database as a runner with a short life sees it: the last of its transactions is cut off, or just committed."""

    def __init__(self, database, transactions: int, committed: bool):
        self._database, self._left, self._committed = database, transactions, committed

    @contextmanager
    def begin(self):
        self._left -= 1
        if self._left < 0:
            raise Killed
        with self._database.begin() as session:
            yield session
            if self._left == 0 and not self._committed:
                raise Killed
        if self._left == 0:
            raise Killed


DEATHS = st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=7)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deaths=DEATHS)
@example(deaths=[(4, False), (4, True), (5, False), (5, True), (6, False), (6, True)])
@example(deaths=[(1, False), (1, True), (2, False), (2, True), (3, False), (3, True)])
def test_any_death_at_any_transaction(new_database, make_spec, deaths):
    spec = make_spec(trials=TRIALS, outcome="mixed", startup_trials=3)
    case = Case(new_database(), spec)
    try:
        for transactions, committed in deaths:
            try:
                _play(case, Mortal(case.database, transactions, committed))
            except Killed:
                continue
        _play(case, case.database)
        _check(case, undisturbed(spec))
    finally:
        case.database.close()


def _play(case: Case, database) -> None:
    """A runner's life: it takes the study over and runs it to its end."""
    case.take_over_lease()
    study = StudyInHand(database, case.lease, case.id)
    while attempt := study.next():
        begun(database, case.lease, attempt)
        study.settle(attempt, result_of(study, attempt))
    assert study.book.complete


def _check(case: Case, expected: list) -> None:
    rows = case.trials()
    assert all(row.outcome for row in rows)
    losses = Counter(row.ordinal for row in rows if row.outcome == "lost")
    counted = [row for row in rows if row.outcome in COUNTS]
    assert len(counted) == len({row.ordinal for row in counted}) == TRIALS
    assert case.counts() == Counter(row.outcome for row in rows)
    assert case.running_in_optuna() == []
    if max(losses.values(), default=0) < ATTEMPTS:  # otherwise an ordinal was given up, and another one asked
        assert [(row.hyperparameters, row.value) for row in counted] == expected
