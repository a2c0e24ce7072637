"""The ledger: what it asks for, what it stores, when it ends the runner. No Ray here."""

import time
from contextlib import contextmanager

import pytest
from cases import Case, result_of
from numpy.linalg import LinAlgError
from sqlalchemy import select, update

from mudman.results import Outcome, TrialResult
from service.store import actions, attempts, leases, studies
from service.store.attempts import Report
from service.store.database import DatabaseUnavailable
from service.store.leases import LeaseLost
from service.store.states import Action
from service.store.tables import Group, Study, Trial
from workers import study as study_module
from workers.desk import Desk
from workers.ledger import AHEAD, Ledger
from workers.orders import Word
from workers.study import StudyInHand


@pytest.fixture
def listening(monkeypatch):
    """A sampler may think for less than the tenth of a second after which its study listens."""
    monkeypatch.setattr(study_module, "LISTEN", 0.001)


def ledger_of(one: Case, study: StudyInHand, max_live: int | None = None) -> tuple[Ledger, Desk]:
    desk = Desk()
    return Ledger(one.database, one.lease, desk, {one.id: study}, lambda: max_live, none_prepared), desk


def none_prepared(studies: list[StudyInHand]) -> list[StudyInHand]:
    raise AssertionError("nothing is queued here")


def taken(desk: Desk) -> list[str]:
    """Everything that lies ready, taken as Tune would; Tune's names of the trials."""
    names = []
    while desk.take(name := f"trial {time.monotonic_ns()}"):
        names.append(name)
    return names


@pytest.mark.parametrize(("max_live", "places"), [(None, 3), (2, 2), (0, 0)])
def test_no_more_trials_than_places(case, max_live, places):
    one = case(max_concurrent=3)
    ledger, desk = ledger_of(one, one.take_over(), max_live)
    names = []
    for _ in range(4):
        ledger._turn()
        names += taken(desk)
    assert len(names) == len(one.rows()) == places


@pytest.mark.usefixtures("listening")
def test_orders_are_obeyed_while_a_sampler_thinks(case):
    one = case(trials=40, sampler="gp", startup_trials=20)
    study = one.take_over()
    for _ in range(20):
        attempt = study.next()
        study.settle(attempt, result_of(study, attempt))
    ledger, desk = ledger_of(one, study)
    seen = []

    def obey():
        if not seen:  # the first look while it thinks
            one.change_state(Action.PAUSE)
            ledger._looked = 0.0
        ledger._meanwhile()
        seen.append(dict(ledger._active))

    ledger._look()
    attempt = study.next(obey)
    assert seen[0] == {}, "paused, and seen to be, before the thought was over"
    assert (attempt.ordinal, desk.waiting) == (20, 0)


@pytest.mark.usefixtures("listening")
def test_what_a_study_was_asked_before_it_was_paused_is_withdrawn(case):
    one = case(trials=40, sampler="gp", startup_trials=20)
    study = one.take_over()
    for _ in range(20):
        attempt = study.next()
        study.settle(attempt, result_of(study, attempt))
    ledger, desk = ledger_of(one, study)
    ledger._look()
    one.change_state(Action.PAUSE)
    ledger._looked = 0.0
    ledger._ask_ahead()
    assert desk.waiting == 0
    assert [(attempt.ordinal, result.outcome) for attempt, result in desk.ended()] == [(20, Outcome.CANCELLED)]


def test_a_group_asks_a_little_ahead_and_its_studies_take_turns(case, make_spec):
    """What waits is sampled without the results of what runs, and is lost with the runner: so it is little."""
    one = case(max_concurrent=3)
    other = one.another(make_spec(name="other", max_concurrent=3))
    hands = {one.id: one.take_over(), other: one.in_hand(other)}
    desk = Desk()
    ledger = Ledger(one.database, one.lease, desk, hands, lambda: None, none_prepared)
    begun = []
    for _ in range(3):
        ledger._turn()
        ledger._turn()
        assert desk.waiting == AHEAD == 2
        begun += [desk.take(f"trial {len(begun) + n}").study_id for n in range(2)]
        assert begun.count(one.id) == begun.count(other)
    ledger._turn()
    assert desk.waiting == 0, "as many as each study allows at once"


def test_a_trial_starts_with_its_first_word(case):
    """Not when it was put in line."""
    one = case()
    study = one.take_over()
    attempt = study.next()

    def started():
        with one.database.begin() as session:
            return session.scalars(select(Trial.started_at)).one()

    def say(passes: int) -> None:
        with one.database.begin() as session:
            attempts.progress(session, one.lease, [Report(one.id, 0, attempt.attempt, {"passes": passes}, {"pid": 1})])

    offered = started()
    say(1)
    began = started()
    say(2)
    assert offered < began == started()


def test_the_next_is_asked_when_the_one_before_is_told(case):
    one = case(max_concurrent=1, trials=2)
    study = one.take_over()
    ledger, desk = ledger_of(one, study)
    ledger._turn()
    [name] = taken(desk)
    ledger._turn()
    assert taken(desk) == []
    valid = TrialResult(outcome=Outcome.VALID, value=3.0)
    desk.hear(name, Word(worker={}, result=valid))
    ledger._turn()
    assert one.rows() == [(0, 1, "valid"), (1, 1, None)]
    [name] = taken(desk)
    desk.hear(name, Word(worker={}, result=valid))
    ledger._turn()
    assert desk.halted
    assert one.state() == "completed"
    assert len(one.rows()) == 2


def test_progress_and_place_of_a_running_trial_are_stored(case):
    one = case()
    ledger, desk = ledger_of(one, one.take_over())
    ledger._turn()
    [name] = taken(desk)
    desk.hear(name, Word(worker={"pid": 7, "device": "cpu"}, progress={"phase": "unlearn", "passes": 5, "of": 50}))
    ledger._turn()
    with one.database.begin() as session:
        row = session.scalars(select(Trial)).one()
    assert row.worker.pop("heard_at")
    assert (row.worker, row.progress["passes"]) == ({"pid": 7, "device": "cpu"}, 5)


@pytest.mark.parametrize("action", [Action.CANCEL, Action.PAUSE])
def test_a_study_that_was_cancelled_or_paused_is_followed(case, action):
    one = case(max_concurrent=2)
    ledger, desk = ledger_of(one, one.take_over())
    ledger.start()
    while len(one.rows()) < 2:
        time.sleep(0.02)
    one.change_state(action)
    deadline = time.monotonic() + 10
    while not desk.halted and time.monotonic() < deadline:
        time.sleep(0.02)
    ledger.finish(10)
    assert {outcome for _, _, outcome in one.rows()} == {"cancelled"}
    assert one.running_in_optuna() == []


def test_a_paused_study_goes_on_in_the_same_runner(case, make_spec, monkeypatch):
    """Its trials end and run again; those of the group's other studies never notice. It may have been paused before
    the runner began."""
    monkeypatch.setattr("workers.ledger.LOOK", 0)
    one = case()
    other, before = (one.another(make_spec(name=name)) for name in ("other", "paused before"))
    change_state(one, before, Action.PAUSE)
    hands = {one.id: one.take_over(), other: one.in_hand(other), before: one.in_hand(before)}
    desk = Desk()
    ledger = Ledger(one.database, one.lease, desk, hands, lambda: None, none_prepared)
    ledger._turn()
    begun = {attempt.study_id: attempt for attempt in (desk.take(name) for name in ("t1", "t2"))}
    assert begun.keys() == {one.id, other}
    of_other = "t1" if desk.holds("t1").study_id == other else "t2"

    one.change_state(Action.PAUSE)
    ledger._turn()
    ledger._turn()
    assert one.rows() == [(0, 1, "cancelled")]
    assert (desk.halted, desk.waiting) == (False, 0)
    assert not desk.hear(of_other, Word(worker={})), "it goes on"

    for study_id in (one.id, before):
        change_state(one, study_id, Action.RESUME)
    ledger._turn()
    again = {attempt.study_id: attempt for attempt in (desk.take(name) for name in ("t3", "t4"))}
    assert again[one.id] == begun[one.id].again()
    assert again[before].ordinal == 0
    assert one.rows() == [(0, 1, "cancelled"), (0, 2, None)]

    for study_id in hands:
        change_state(one, study_id, Action.PAUSE)
    ledger._turn()
    ledger._turn()
    assert desk.halted, "with all of them paused the runner ends"
    with one.database.begin() as session:
        leases.release(session, one.lease.group_id, one.lease.epoch)
        assert leases.claim(session, "two", 60) is None
    change_state(one, other, Action.RESUME)
    with one.database.begin() as session:
        assert leases.claim(session, "two", 60)


def test_a_study_that_was_cancelled_and_deleted_is_let_go(case, make_spec, monkeypatch):
    monkeypatch.setattr("workers.ledger.LOOK", 0)
    one = case()
    other = one.another(make_spec(name="other"))
    hands = {one.id: one.take_over(), other: one.in_hand(other)}
    desk = Desk()
    ledger = Ledger(one.database, one.lease, desk, hands, lambda: None, none_prepared)
    ledger._turn()
    one.change_state(Action.CANCEL)
    with one.database.begin() as session:
        actions.delete(session, one.id)
    ledger._turn()
    ledger._turn()
    assert {attempt.study_id for attempt in [desk.take("t1")]} == {other}
    assert (one.rows(), desk.waiting, desk.halted) == ([], 0, False)


def change_state(one: Case, study_id: str, action: Action) -> None:
    with one.database.begin() as session:
        studies.change_state(session, study_id, action)


class Unheard:
    """A database whose answers are lost after the commit."""

    def __init__(self, database):
        self._database = database

    @contextmanager
    def begin(self):
        with self._database.begin() as session:
            yield session
        raise DatabaseUnavailable("cut off")


@pytest.mark.parametrize("action", [Action.PAUSE, Action.CANCEL])
def test_a_start_whose_answer_was_lost_keeps_no_place_of_a_study_that_is_over(case, make_spec, action):
    one = case(trials=3)
    other = one.another(make_spec(name="other", trials=3))
    hands = {one.id: one.take_over(), other: one.in_hand(other)}
    with one.database.begin() as session:
        session.execute(update(Group).values(max_live=1))
    desk = Desk()
    ledger = Ledger(one.database, one.lease, desk, hands, lambda: 1, none_prepared)
    ledger._look()
    study, study._enqueued = hands[one.id], False
    study._database = Unheard(one.database)
    with pytest.raises(DatabaseUnavailable):
        study.next()
    study._database = one.database
    assert one.rows() == [(0, 1, None)]
    one.change_state(action)
    ledger._turn()
    assert one.rows() == [(0, 1, "cancelled")]
    ledger._turn()
    assert desk.first_waiting(0).study_id == other
    if action is Action.PAUSE:
        with one.database.begin() as session:
            actions.resume(session, one.id)
            session.execute(update(Group).values(max_live=2))
        again = study.next()
        assert (again.ordinal, again.attempt) == (0, 2)


@pytest.mark.usefixtures("listening")
def test_a_lease_that_is_lost_while_a_sampler_thinks_is_no_fault_of_the_sampler(case):
    one = case(trials=40, sampler="gp", startup_trials=20)
    study = one.take_over()
    for _ in range(20):
        attempt = study.next()
        study.settle(attempt, result_of(study, attempt))

    def lost():
        raise LeaseLost("gr_1", 1)

    with pytest.raises(LeaseLost):
        study.next(lost)


def test_a_ledger_that_lost_the_lease_ends_the_runner(case):
    one = case()
    ledger, desk = ledger_of(one, one.take_over())
    one.take_over()
    ledger.start()
    with pytest.raises(LeaseLost):
        ledger.finish(10)
    assert desk.halted


def test_a_sampler_that_breaks_fails_its_own_study_alone(case, make_spec):
    one = case()
    other = one.another(make_spec(name="other"))
    hands = {one.id: one.take_over(), other: one.in_hand(other)}
    hands[one.id]._mirror = SamplerThatBreaks()
    desk = Desk()
    ledger = Ledger(one.database, one.lease, desk, hands, lambda: None, none_prepared)
    ledger._turn()
    assert {attempt.study_id for attempt in [desk.take("t1")]} == {other}
    assert not desk.halted
    with one.database.begin() as session:
        failed, goes_on = (session.get_one(Study, study_id) for study_id in (one.id, other))
        assert (failed.state, goes_on.state) == ("failed", "running")
        assert failed.problem["type"] == "urn:mudman:problem:sampler-failed"
        assert "LinAlgError: not positive definite" in failed.problem["detail"]
        assert "in suggest" in failed.problem["traceback"]


class SamplerThatBreaks:
    thinks_long = False

    def suggest(self, fixed):
        raise LinAlgError("not positive definite")


def test_a_conclusion_that_was_refused_is_not_told(case, caplog):
    caplog.set_level("INFO", logger="workers.ledger")
    one = case(trials=1)
    study = one.take_over()
    ledger, _ = ledger_of(one, study)
    ledger._turn()
    one.change_state(Action.CANCEL)
    ledger._conclude(study, Action.COMPLETE, {"trials": 1})
    assert "completed" not in [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert one.state() == "cancelled"


def test_a_study_does_not_complete_while_an_enqueued_trial_waits(case):
    """Trials that were retried have counted in its place: it runs beyond the budget, as they did."""
    one = case(trials=2)
    study = one.take_over()
    failed = study.next()
    study.settle(failed, TrialResult(outcome=Outcome.ERROR))
    one.enqueue({"fork_every": 12}, {"fork_every": 13})
    one.change_state(Action.CANCEL)
    with one.database.begin() as session:
        actions.retry(session, one.id)
        for action in (Action.PREPARE, Action.RUN):
            studies.change_state(session, one.id, action)
    study = one.take_over()
    ledger, desk = ledger_of(one, study)
    chosen = []
    while not desk.halted and len(chosen) < 9:
        ledger._turn()
        for name in taken(desk):
            chosen.append(desk.holds(name).hyperparameters["fork_every"])
            desk.hear(name, Word(worker={}, result=TrialResult(outcome=Outcome.VALID, value=3.0)))
    assert (one.state(), chosen[1:]) == ("completed", [12, 13])
    assert [outcome for *_, outcome in one.rows()] == ["error", "valid", "valid", "valid"]
