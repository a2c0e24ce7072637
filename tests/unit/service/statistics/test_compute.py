"""What was spent, and what there was when less was."""

from service.statistics.compute import Attempt, best_first, by_outcome, tally, within

ATTEMPTS = [
    Attempt(0, 1, "valid", 3.0, 10.0, 100, 90),
    Attempt(1, 1, "lost", None, 5.0, 0, 0),
    Attempt(1, 2, "valid", 4.0, 10.0, 100, 90),
    Attempt(2, 1, "pruned", None, 2.0, 60, 50, 40),
    Attempt(3, 1, "valid", 4.0, 10.0, 100, 90),
]


def test_everything_is_counted_whatever_became_of_it():
    found = tally(ATTEMPTS)
    assert found.values == [3.0, 4.0, 4.0]
    assert found.outcomes == {"valid": 3, "lost": 1, "pruned": 1}
    assert (found.seconds, found.passes_booked, found.passes_made, found.passes_skipped) == (37.0, 360, 320, 40)
    apart = by_outcome(ATTEMPTS)
    assert (apart["valid"].seconds, apart["lost"].seconds, apart["pruned"].passes_skipped) == (30.0, 5.0, 40)


def test_the_first_that_fit():
    assert [one.ordinal for one in within(ATTEMPTS, 26.9, lambda one: one.seconds)] == [0, 1, 1]
    assert [one.ordinal for one in within(ATTEMPTS, 27.0, lambda one: one.seconds)] == [0, 1, 1, 2]
    assert within(ATTEMPTS, 0.5, lambda one: 1) == []
    assert within(ATTEMPTS, 5, lambda one: 1) == ATTEMPTS
    # A later one that would fit is not taken: it came after what did not.
    assert len(within(ATTEMPTS, 24.0, lambda one: one.seconds)) == 2


def test_best_first():
    assert [one.ordinal for one in best_first(ATTEMPTS, 2)] == [1, 3]
    assert [one.ordinal for one in best_first(ATTEMPTS, 2, minimise=True)] == [0, 1]
