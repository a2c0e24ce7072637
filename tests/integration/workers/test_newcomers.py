"""Studies that are queued, resumed or extended while a runner of their group is at work or at rest. No Ray here."""

import threading
from collections.abc import Callable

from cases import Case, result_of
from test_ledger import change_state, none_prepared, taken

from mudman.results import Outcome, TrialResult
from service.store import actions, leases, studies
from service.store.states import Action
from workers.desk import Desk
from workers.ledger import Ledger
from workers.newcomers import Prepare
from workers.orders import Word
from workers.study import StudyInHand


def preparing(one: Case, first: Callable[[], object] = lambda: None) -> Prepare:
    """Brings studies to running, after ``first``."""

    def prepare(studies: list[StudyInHand]) -> list[StudyInHand]:
        first()
        for study in studies:
            for action in (Action.PREPARE, Action.RUN):
                change_state(one, study.id, action)
        return studies

    return prepare


def test_a_study_that_was_queued_later_runs_beside_the_others(case, make_spec, monkeypatch):
    """Whether it is new or had completed before; to prepare one takes a place of the group's."""
    monkeypatch.setattr("workers.ledger.LOOK", 0)
    one = case(trials=1)
    other = one.another(make_spec(name="other"))
    hands = {one.id: one.take_over(), other: one.in_hand(other)}
    desk, prepared = Desk(), threading.Event()
    prepare = preparing(one, lambda: prepared.wait(10))
    ledger = Ledger(one.database, one.lease, desk, hands, lambda: 3, prepare)
    ledger._turn()
    places = taken(desk)
    valid = Word(worker={}, result=TrialResult(outcome=Outcome.VALID, value=3.0))
    desk.hear(next(place for place in places if desk.holds(place).study_id == one.id), valid)
    ledger._turn()
    assert one.state() == "completed"
    with one.database.begin() as session:
        actions.extend(session, one.id, 2)
    later = one.another(make_spec(name="later"), queued=True)
    while desk.limit != 2:
        ledger._turn()
    assert (ledger._newcomers.busy, desk.halted) == (True, False)
    prepared.set()
    while ledger._newcomers.busy:
        ledger._turn()
    for _ in range(3):
        ledger._turn()
        places += taken(desk)
    live = [(attempt.study_id, attempt.ordinal) for attempt in filter(None, map(desk.holds, places))]
    assert {(one.id, 1), (later, 0)} <= set(live)
    assert desk.limit == len(live) == 3
    assert ledger.books.keys() == {one.id, other, later}
    assert not {"cancelled", "lost"} & {outcome for *_, outcome in one.rows()}, "nothing was cut off"


def test_a_study_that_was_cancelled_and_retried_at_once_begins_again_when_its_trials_have_ended(
    case, make_spec, monkeypatch
):
    monkeypatch.setattr("workers.ledger.LOOK", 0)
    one = case()
    other = one.another(make_spec(name="other"))
    hands = {one.id: one.take_over(), other: one.in_hand(other)}
    desk = Desk()
    ledger = Ledger(one.database, one.lease, desk, hands, lambda: 2, preparing(one))
    ledger._turn()
    assert len(taken(desk)) == 2
    one.change_state(Action.CANCEL)
    with one.database.begin() as session:
        studies.create(session, hands[one.id].spec)
    assert one.state() == "queued"
    while one.state() != "running" or ledger._newcomers.busy:
        ledger._turn()
    ledger._turn()
    assert one.rows() == [(0, 1, "cancelled"), (0, 2, None)]
    assert not desk.halted


def test_a_runner_takes_in_hand_what_is_left_to_do(case, make_spec):
    one = case()
    settled, unsettled = (one.another(make_spec(name=name)) for name in ("settled", "unsettled"))
    one.take_over()
    for study_id in (settled, unsettled):
        hand = one.in_hand(study_id)
        attempt = hand.next()
        if study_id == settled:
            hand.settle(attempt, result_of(hand, attempt))
        with one.database.begin() as session:
            studies.change_state(session, study_id, Action.CANCEL)
    with one.database.begin() as session:
        assert set(leases.to_take_over(session, one.lease.group_id)) == {one.id, unsettled}


def test_what_is_resumed_or_extended_soon_goes_on_at_the_same_place(case, make_spec, monkeypatch):
    """The process of a trial stays, but not where another group has work."""
    monkeypatch.setattr("workers.ledger.LOOK", 0)
    one = case()
    desk, share = Desk(), [1]
    hands = {one.id: one.take_over()}
    ledger = Ledger(one.database, one.lease, desk, hands, lambda: share[0], none_prepared, linger=60)
    ledger._turn()
    assert len(taken(desk)) == 1
    one.change_state(Action.PAUSE)
    share[0] = 0  # as the dispatchers say at once, or after
    for _ in range(3):
        ledger._turn()
    assert (one.rows(), desk.shut, desk.halted) == ([(0, 1, "cancelled")], False, False)
    one.change_state(Action.RESUME)
    share[0] = None
    ledger._turn()
    assert (desk.waiting, desk.shut) == (0, False), "its share is not decided yet"
    share[0] = 1
    ledger._turn()
    assert (desk.waiting, desk.shut) == (1, False)
    one.change_state(Action.PAUSE)
    ledger._turn()
    with one.database.begin() as session:
        studies.create(session, make_spec(name="of another group"))
    for _ in range(2):
        ledger._turn()
    assert (desk.shut, desk.halted) == (True, False)


def test_a_runner_whose_studies_were_deleted_does_not_wait_for_more(case, monkeypatch):
    monkeypatch.setattr("workers.ledger.LOOK", 0)
    one = case()
    desk, hands = Desk(), {one.id: one.take_over()}
    ledger = Ledger(one.database, one.lease, desk, hands, lambda: None, none_prepared, linger=60)
    ledger._turn()
    one.change_state(Action.CANCEL)
    ledger._turn()
    ledger._turn()
    assert not desk.halted
    with one.database.begin() as session:
        actions.delete(session, one.id)
    ledger._turn()
    assert desk.halted
