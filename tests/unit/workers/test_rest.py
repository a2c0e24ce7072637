"""What a runner keeps while nothing is to run, and for how long: over a clock of the test's own."""

from workers.rest import SETTLES, Rest


def rested(patience: float = 30.0) -> tuple[Rest, list[float]]:
    now = [100.0]
    return Rest(patience, lambda: now[0]), now


def test_it_ends_when_nothing_has_run_for_long_enough():
    rest, now = rested()
    rest.look(busy=True, others_work=False)
    assert not rest.over
    now[0] += 1000
    rest.look(busy=True, others_work=False)
    rest.look(busy=False, others_work=False)
    now[0] += 29
    assert not rest.over
    now[0] += 1
    assert rest.over
    rest.look(busy=True, others_work=False)
    assert not rest.over


def test_without_patience_it_ends_at_once():
    rest, _ = rested(0.0)
    rest.look(busy=False, others_work=False)
    assert rest.over


def test_places_stay_only_while_nobody_else_has_work():
    rest, _ = rested()
    rest.look(busy=True, others_work=False)
    assert (rest.places(2), rest.places(0), rest.trials(2), rest.trials(None)) == (2, 0, 2, None)
    rest.look(busy=False, others_work=False)
    assert (rest.places(0), rest.trials(2)) == (None, 0), "the plan gives nothing to whoever has no work"
    rest.look(busy=False, others_work=True)
    assert rest.places(2) == 0


def test_after_a_rest_nothing_begins_before_the_share_is_known():
    rest, now = rested()
    rest.look(busy=False, others_work=False)
    rest.look(busy=True, others_work=False)
    assert (rest.places(0), rest.trials(0), rest.trials(None), rest.trials(2)) == (None, 0, 0, 2)
    now[0] += SETTLES
    assert (rest.places(0), rest.trials(None)) == (0, 0)
