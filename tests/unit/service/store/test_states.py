"""The state machine, transition by transition, written out a second time from the design's prose."""

import itertools
import pickle

import pytest

from service.store.states import FINISHED, TRANSITIONS, RefusedTransition, State, check

ALLOWED = {
    "queued": "preparing cancelled",
    "preparing": "running failed cancelled",
    "running": "paused completed failed cancelled",
    "paused": "running cancelled",
    "completed": "queued",
    "failed": "queued",
    "cancelled": "queued",
}


@pytest.mark.parametrize(("current", "target"), itertools.product(State, State))
def test_every_pair(current, target):
    if target in ALLOWED[current].split():
        check("st_x", current, target)
    else:
        with pytest.raises(RefusedTransition) as refused:
            check("st_x", current, target)
        assert refused.value.current is current
        assert f"is {current} and cannot become {target}" in str(refused.value)


def test_the_table_is_total():
    assert set(TRANSITIONS) == set(State)


def test_finished_states_only_go_back_to_the_queue():
    assert {state for state in State if TRANSITIONS[state] == {State.QUEUED}} == FINISHED
    assert all(state.finished == (state in FINISHED) for state in State)


def test_every_state_is_reached_from_the_queue():
    reached = {State.QUEUED}
    for _ in State:
        reached |= {target for state in reached for target in TRANSITIONS[state]}
    assert reached == set(State)


def test_errors_cross_process_borders():
    error = pickle.loads(pickle.dumps(RefusedTransition("st_x", State.QUEUED, State.RUNNING)))
    assert (error.current, error.target) == (State.QUEUED, State.RUNNING)
