"""What a runner finds when it takes a study over, whatever line the one before died at. No Ray here."""

import pytest
from cases import result_of

from service.store import leases, studies
from service.store.leases import LeaseLost
from service.store.states import Action, State


def test_died_while_a_trial_ran(case):
    one = case()
    first = one.take_over().next()
    for number in (2, 3):
        again = one.take_over().next()
        assert (again.ordinal, again.attempt, again.hyperparameters) == (0, number, first.hyperparameters)
    other = one.take_over().next()
    assert (other.ordinal, other.attempt) == (1, 1), "given up after three attempts, and another is asked"
    assert one.rows() == [(0, n, "lost") for n in (1, 2, 3)] + [(1, 1, None)]


def test_a_cancelled_study_is_only_swept(case):
    one = case()
    one.take_over().next()
    one.change_state(Action.CANCEL)
    assert one.take_over().state is State.CANCELLED
    assert one.rows() == [(0, 1, "cancelled")]
    with one.database.begin() as session:
        leases.release(session, one.lease.group_id, one.lease.epoch)
        assert leases.claim(session, "two", 60) is None


def test_a_study_that_failed_by_its_waste_goes_on_when_it_is_queued_again(case):
    one = case(trials=2, outcome="error")
    study = one.take_over()
    while not study.book.hopeless:
        attempt = study.next()
        study.settle(attempt, result_of(study, attempt))
    one.change_state(Action.FAIL)
    with one.database.begin() as session:
        studies.create(session, study.spec)
    assert one.state() == "queued"
    successor = one.take_over()
    assert not successor.book.hopeless
    assert successor.next().ordinal == 21


def test_the_one_before_is_refused_everywhere(case):
    one = case(max_concurrent=2)
    old = one.take_over()
    attempt = old.next()
    one.take_over()
    for write in (old.next, lambda: old.settle(attempt, result_of(old, attempt))):
        with pytest.raises(LeaseLost):
            write()
    assert one.rows() == [(0, 1, "lost")]
