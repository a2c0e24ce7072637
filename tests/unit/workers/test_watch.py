"""Deadlines and silence, by hand: seconds as the test says them."""

import pytest

from mudman.specs import ResourcesSpec
from workers.watch import Watch


def watching(**limits) -> Watch:
    watch = Watch()
    watch.begin("trial", ResourcesSpec(**limits), now=100.0)
    return watch


def at(passes: int, phase: str = "unlearn") -> dict:
    return {"phase": phase, "passes": passes, "of": 50}


def test_a_trial_that_makes_passes_is_never_overdue_by_default():
    watch = watching()
    for passes in range(50):
        watch.hear("trial", at(passes), now=100.0 + 899 * passes)
        assert watch.overdue(now=100.0 + 899 * passes + 898) == {}


@pytest.mark.parametrize("progress", [None, at(3)])
def test_words_without_a_new_pass_are_silence(progress):
    watch = watching(max_silence=10)
    watch.hear("trial", progress, now=104.0)
    last = 104.0 if progress else 100.0
    watch.hear("trial", progress, now=109.0)
    assert watch.overdue(now=last + 10) == {}
    [(trial_id, fault)] = watch.overdue(now=last + 10.1).items()
    assert (trial_id, fault.type) == ("trial", "DeadlineExceeded")
    assert ("unlearn pass 3" if progress else "before its first pass") in fault.message
    assert "10 s" in fault.message and "Remedy" in fault.message


def test_the_same_pass_of_another_phase_is_a_new_one():
    watch = watching(max_silence=10)
    watch.hear("trial", at(3), now=101.0)
    watch.hear("trial", at(3, "relearn"), now=110.0)
    assert watch.overdue(now=119.0) == {}


def test_a_trial_may_not_outlast_its_time_however_busy():
    watch = watching(max_seconds=20)
    for second in range(101, 121):
        watch.hear("trial", at(second), now=float(second))
        assert watch.overdue(now=float(second)) == {}
    assert "resources.max_seconds (20)" in watch.overdue(now=120.1)["trial"].message


def test_the_clock_starts_with_the_process_and_stops_with_the_end():
    watch = watching(max_seconds=20)
    watch.begin("trial", ResourcesSpec(max_seconds=20), now=115.0)
    assert watch.overdue(now=121.0), "said twice, it began when it began"
    watch.end("trial")
    watch.hear("trial", at(1), now=122.0)
    assert watch.overdue(now=1e6) == {}
