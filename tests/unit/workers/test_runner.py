"""What a runner does when it is asked to end, at whatever moment. No Ray cluster here."""

import signal
import threading

import pytest

from mudman.results import Outcome, TrialResult
from workers.book import Attempt
from workers.desk import Desk
from workers.orders import Word
from workers.runner import _again_and_again, _obey_signals


@pytest.fixture
def desk():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Desk()
    for number, handler in before.items():
        signal.signal(number, handler)


def halted(desk: Desk) -> bool:
    with desk._changed:
        return desk._changed.wait_for(lambda: desk.halted, 10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_taking_a_result_does_not_lose_it(desk, number):
    _obey_signals(desk)
    attempt = Attempt("study", 0, 1, {})
    desk.offer(attempt)
    desk.take("place")
    valid = TrialResult(outcome=Outcome.VALID, value=3.0)
    with desk._changed:  # as the main thread holds it while it takes a result
        signal.raise_signal(number)
        desk.hear("place", Word(worker={}, result=valid))
    assert halted(desk)
    assert desk.ended() == [(attempt, valid)]


def test_tune_leaves_the_signals_to_the_runner(desk):
    from ray.tune.tune import _setup_signal_catching

    from workers import tuning  # noqa: F401 - sets what Tune reads

    before = signal.getsignal(signal.SIGUSR1)
    _obey_signals(desk)
    try:
        _setup_signal_catching()
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert halted(desk)


def test_no_tune_run_begins_once_the_runner_is_to_end(desk):
    desk.limit = 0
    threading.Timer(0.2, desk.halt).start()
    runs = []
    _again_and_again(desk, lambda: runs.append(1))
    assert runs == []


def test_tune_runs_again_until_the_desk_is_halted(desk):
    runs = []

    def run() -> None:
        runs.append(1)
        if len(runs) == 3:
            desk.halt()

    _again_and_again(desk, run)
    assert len(runs) == 3
