"""The state machine, transition by transition, written out a second time from the design's prose."""

import itertools
import pickle

import pytest

from service.store.states import FINISHED, TRANSITIONS, Action, RefusedTransition, State, after

DESIGN = {
    "queued": {"preparing": "preparing", "cancelled": "cancelled"},
    "preparing": {"running": "running", "failed": "failed", "cancelled": "cancelled"},
    "running": {"paused": "paused", "completed": "completed", "failed": "failed", "cancelled": "cancelled"},
    "paused": {"resumed": "running", "cancelled": "cancelled"},
    "completed": {"extended": "queued", "retried": "queued"},
    "failed": {"extended": "queued", "retried": "queued", "requeued": "queued"},
    "cancelled": {"extended": "queued", "retried": "queued", "requeued": "queued"},
}


@pytest.mark.parametrize(("current", "action"), itertools.product(State, Action))
def test_every_pair(current, action):
    expected = DESIGN[current].get(action)
    if expected is not None:
        assert after("st_x", current, action) == expected
        return
    with pytest.raises(RefusedTransition) as refused:
        after("st_x", current, action)
    assert (refused.value.current, refused.value.action) == (current, action)
    assert f"is {current} and cannot be {action}" in str(refused.value)
    possible = ", ".join(sorted(DESIGN[current].keys() - {"preparing", "running", "completed", "failed"}))
    assert str(refused.value).endswith(f"This one can be: {possible}."), "the remedy names what people can do instead"


def test_the_table_is_total():
    assert set(TRANSITIONS) == set(Action)


def test_finished_states_only_go_back_to_the_queue():
    back = {state for state in State if {t[state] for t in TRANSITIONS.values() if state in t} == {State.QUEUED}}
    assert back == FINISHED
    assert all(state.finished == (state in FINISHED) for state in State)


def test_every_state_is_reached_from_the_queue():
    reached = {State.QUEUED}
    for _ in State:
        reached |= {targets[state] for targets in TRANSITIONS.values() for state in reached & targets.keys()}
    assert reached == set(State)


def test_errors_cross_process_borders():
    error = pickle.loads(pickle.dumps(RefusedTransition("st_x", State.QUEUED, Action.RUN)))
    assert (error.current, error.action) == (State.QUEUED, Action.RUN)
