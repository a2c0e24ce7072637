"""What a runner finds when it takes a study over, whatever line the one before died at; and its ledger. No Ray here."""

import time

import pytest
from sqlalchemy import func, select, text, update

from mudman.results import Decision, Outcome, TrialResult
from mudman.simulation import simulate
from service.store import attempts, leases, studies
from service.store.attempts import Ending
from service.store.leases import LeaseLost
from service.store.search import Search, open_storage, running_in_optuna
from service.store.states import State
from service.store.tables import Group, Study, Trial
from workers.desk import Desk
from workers.ledger import Ledger
from workers.orders import Word
from workers.study import StudyInHand


class Case:
    """One running study, and as many runners in turn as a test needs."""

    def __init__(self, database, spec):
        self.database, self.storages = database, []
        with database.begin() as session:
            self.id = studies.create(session, spec).study.id
            studies.change_state(session, self.id, State.PREPARING, event="preparing")
            studies.change_state(session, self.id, State.RUNNING, event="running")

    def take_over(self) -> StudyInHand:
        with self.database.begin() as session:
            session.execute(update(Group).values(expires_at=func.now() - text("interval '1 second'")))
        with self.database.begin() as session:
            self.lease = leases.claim(session, "one", 60)
        self.storages.append(open_storage(self.database.url, self.lease))
        return StudyInHand(self.database, self.storages[-1], self.lease, self.id)

    def rows(self) -> list[tuple]:
        with self.database.begin() as session:
            query = select(Trial).where(Trial.study_id == self.id).order_by(Trial.ordinal, Trial.attempt)
            return [(row.ordinal, row.attempt, row.outcome, row.told) for row in session.scalars(query)]

    def running_in_optuna(self) -> list[int]:
        with self.database.begin() as session:
            return running_in_optuna(session, self.id)

    def state(self) -> str:
        with self.database.begin() as session:
            return session.get_one(Study, self.id).state

    def change_state(self, state: State) -> None:
        with self.database.begin() as session:
            studies.change_state(session, self.id, state, event=str(state))


@pytest.fixture
def case(new_database, make_spec):
    made = []

    def make(**changes) -> Case:
        made.append(Case(new_database(), make_spec(**changes)))
        return made[-1]

    yield make
    for one in made:
        for storage in one.storages:
            storage.engine.dispose()


def result_of(study: StudyInHand, attempt) -> TrialResult:
    return simulate(study.spec, attempt.hyperparameters, lambda progress: Decision.CONTINUE)


def test_died_after_the_row_and_before_optuna_was_told(case):
    one = case()
    study = one.take_over()
    attempt = study.next()
    with one.database.begin() as session:
        attempts.record(session, one.lease, one.id, 0, 1, result_of(study, attempt))
    assert one.rows() == [(0, 1, "valid", False)]
    successor = one.take_over()
    assert one.rows() == [(0, 1, "valid", True)]
    assert one.running_in_optuna() == []
    assert (successor.book.counted, successor.next().ordinal) == (1, 1)


def test_died_after_optuna_was_told_and_before_the_row_said_so(case):
    one = case()
    study = one.take_over()
    attempt = study.next()
    result = result_of(study, attempt)
    with one.database.begin() as session:
        attempts.record(session, one.lease, one.id, 0, 1, result)
    Search(one.storages[-1], one.lease, one.id, study.spec).tell(attempt.optuna_id, Ending.of(result))
    successor = one.take_over()
    assert one.rows() == [(0, 1, "valid", True)]
    assert successor.book.counted == 1


def test_died_between_optunas_row_and_ours(case):
    one = case()
    study = one.take_over()
    orphan = Search(one.storages[-1], one.lease, one.id, study.spec).insert(
        0, 1, study._mirror.ask().hyperparameters, ()
    )
    assert one.running_in_optuna() == [orphan]
    successor = one.take_over()
    assert one.running_in_optuna() == []
    assert (successor.next().ordinal, one.rows()) == (0, [(0, 1, None, False)])


def test_died_while_a_trial_ran(case):
    one = case()
    first = one.take_over().next()
    for number in (2, 3):
        again = one.take_over().next()
        assert (again.ordinal, again.attempt, again.hyperparameters) == (0, number, first.hyperparameters)
    other = one.take_over().next()
    assert (other.ordinal, other.attempt) == (1, 1), "given up after three attempts, and another is asked"
    assert one.rows() == [(0, n, "lost", True) for n in (1, 2, 3)] + [(1, 1, None, False)]


def test_a_cancelled_study_is_only_swept(case):
    one = case()
    one.take_over().next()
    one.change_state(State.CANCELLED)
    assert one.take_over().state is State.CANCELLED
    assert one.rows() == [(0, 1, "cancelled", True)]
    with one.database.begin() as session:
        leases.release(session, one.lease.group_id, one.lease.epoch)
        assert leases.claim(session, "two", 60) is None


def test_a_study_that_failed_by_its_waste_goes_on_when_it_is_queued_again(case):
    one = case(trials=2, outcome="error")
    study = one.take_over()
    while not study.book.hopeless:
        attempt = study.next()
        study.settle(attempt, result_of(study, attempt))
    one.change_state(State.FAILED)
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
    assert one.rows() == [(0, 1, "lost", True)]


# ------------------------------------------------------------------------------------------------------- the ledger


def ledger_of(one: Case, study: StudyInHand, max_live: int | None = None) -> tuple[Ledger, Desk]:
    desk = Desk()
    return Ledger(one.database, one.lease, desk, {one.id: study}, lambda: max_live), desk


def taken(desk: Desk) -> list[str]:
    """Everything that lies ready, taken as Tune would; Tune's names of the trials."""
    names = []
    while desk.take(name := f"trial {time.monotonic_ns()}", 0):
        names.append(name)
    return names


@pytest.mark.parametrize(("max_live", "places"), [(None, 3), (2, 2), (0, 0)])
def test_no_more_trials_than_places(case, max_live, places):
    one = case(max_concurrent=3)
    ledger, desk = ledger_of(one, one.take_over(), max_live)
    for _ in range(3):
        ledger._turn()
    assert len(taken(desk)) == len(one.rows()) == places


def test_the_next_is_asked_when_the_one_before_is_told(case):
    one = case(max_concurrent=1, trials=2)
    study = one.take_over()
    ledger, desk = ledger_of(one, study)
    ledger._turn()
    [name] = taken(desk)
    ledger._turn()
    assert taken(desk) == []
    valid = TrialResult(outcome=Outcome.VALID, value=3.0).model_dump(mode="json")
    desk.hear(name, Word(worker={}, result=valid))
    ledger._turn()
    assert one.rows() == [(0, 1, "valid", True), (1, 1, None, False)]
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
    assert (row.worker, row.progress["passes"]) == ({"pid": 7, "device": "cpu"}, 5)


@pytest.mark.parametrize("state", [State.CANCELLED, State.PAUSED])
def test_a_study_that_was_cancelled_or_paused_is_followed(case, state):
    one = case(max_concurrent=2)
    ledger, desk = ledger_of(one, one.take_over())
    ledger.start()
    while len(one.rows()) < 2:
        time.sleep(0.02)
    one.change_state(state)
    deadline = time.monotonic() + 10
    while not desk.halted and time.monotonic() < deadline:
        time.sleep(0.02)
    ledger.finish(10)
    assert {outcome for _, _, outcome, _ in one.rows()} == {"cancelled"}
    assert one.running_in_optuna() == []


def test_a_ledger_that_lost_the_lease_ends_the_runner(case):
    one = case()
    ledger, desk = ledger_of(one, one.take_over())
    one.take_over()
    ledger.start()
    with pytest.raises(LeaseLost):
        ledger.finish(10)
    assert desk.halted
