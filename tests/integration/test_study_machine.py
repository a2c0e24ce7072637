"""Anything that can be done to a study, in any order, by its runner and by one that lost the lease: the real store
against a model of it in plain Python."""

import dataclasses
import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from optuna.distributions import distribution_to_json
from sqlalchemy import func, select, text, update

from mudman import presets
from mudman.results import Fault, Outcome, TrialResult
from mudman.specs import StudySpec, parse
from service.store import actions, attempts, enqueued, leases, optuna_rows, studies
from service.store.attempts import ATTEMPTS, Overtaken
from service.store.leases import Lease, LeaseLost
from service.store.mirror import distribution
from service.store.refusals import NoRoom, NotFinished, NothingToRetry, WrongRequest
from service.store.states import TRANSITIONS, Action, RefusedTransition, State
from service.store.tables import EnqueuedTrial, Event, Group, OutcomeCount, Study, Trial
from workers.book import Book

SPEC = parse(presets.load("quickstart", {"budget.trials": 3}))
DISTRIBUTIONS = {name: distribution_to_json(distribution(found)) for name, found in SPEC.search_space().items()}
VALUES = {name: int(found.low) if found.int else found.low for name, found in SPEC.search_space().items()}
LIVE = (State.QUEUED, State.PREPARING, State.RUNNING)
NAMES = (f"machine-{number}" for number in itertools.count())

outcomes = st.sampled_from([Outcome.VALID, Outcome.VALID, *Outcome])
leases_of = st.sampled_from(["current", "current", "current", "stale"])


@dataclasses.dataclass
class Attempt:
    """What the model knows of one attempt."""

    outcome: Outcome | None = None
    earlier: bool = False
    run_again: bool = False


class StudyMachine(RuleBasedStateMachine):
    database = None
    """Set by the test: one for all examples, each of which has a study of its own and deletes it in the end."""

    def __init__(self):
        super().__init__()
        self.spec = SPEC.model_copy(update={"name": next(NAMES)})
        with self.database.begin() as session:
            study = studies.create(session, self.spec).study
            self.id, self.group = study.id, study.group_id
            optuna_rows.create(session, self.id, "maximize")
        self.state, self.budget, self.kinds = State.QUEUED, 3, ["created"]
        self.epoch, self.lease = 0, "free"
        self.attempts: dict[tuple[int, int], Attempt] = {}
        self.line: dict[int, int | None] = {}
        self.writes = itertools.count(1)

    def teardown(self):
        with self.database.begin() as session:
            if not self.state.finished:
                with pytest.raises(NotFinished):
                    actions.delete(session, self.id)
                studies.change_state(session, self.id, Action.CANCEL)
            actions.delete(session, self.id)
            for table in (Study, Group, Trial, Event, OutcomeCount, EnqueuedTrial):
                assert session.scalar(select(func.count()).select_from(table)) == 0, table
            left = text("select (select count(*) from optuna.studies) + (select count(*) from optuna.trials)")
            assert session.scalar(left) == 0

    # ------------------------------------------------------------------------------------------------------- the model

    def last(self) -> dict[int, tuple[int, Attempt]]:
        """By ordinal, the number of its last attempt, and that attempt."""
        return {ordinal: (number, one) for (ordinal, number), one in sorted(self.attempts.items())}

    def losses(self, ordinal: int) -> int:
        """Since somebody asked for another attempt."""
        count = 0
        for _, one in sorted((key, one) for key, one in self.attempts.items() if key[0] == ordinal):
            count = 0 if one.run_again else count + (one.outcome is Outcome.LOST)
        return count

    def again(self) -> set[int]:
        """Ordinals that are to be started once more."""
        return {
            ordinal
            for ordinal, (_, one) in self.last().items()
            if one.run_again or (one.outcome is not None and one.outcome.runs_again and self.losses(ordinal) < ATTEMPTS)
        }

    def open(self) -> set[int]:
        return {ordinal for ordinal, (_, one) in self.last().items() if one.outcome is None}

    def counted(self) -> int:
        return sum(one.outcome is not None and one.outcome.counts for one in self.attempts.values())

    def held_by(self, whose: str) -> Lease:
        return Lease(self.group, self.epoch if whose == "current" else self.epoch - 1)

    def moved(self, action: Action, state: State) -> None:
        self.state = state
        self.kinds.append(action)
        if state is State.QUEUED:
            for one in self.attempts.values():
                one.earlier = True

    def can(self, *actions: Action) -> bool:
        return any(self.state in TRANSITIONS[action] for action in actions)

    def act(self, action: Action, do) -> None:
        """``do`` must go through: the table says so."""
        with self.database.begin() as session:
            assert do(session).state == TRANSITIONS[action][self.state]
        self.moved(action, TRANSITIONS[action][self.state])

    def change(self, action: Action) -> None:
        self.act(action, lambda session: studies.change_state(session, self.id, action))

    # -------------------------------------------------------------------------------------------- what people do to it

    @rule(data=st.data())
    def refused(self, data):
        """What the table does not allow, in whatever way it is asked for."""
        asked = {
            Action.RESUME: actions.resume,
            Action.EXTEND: lambda session, study_id: actions.extend(session, study_id, self.budget + 1),
            Action.RETRY: actions.retry,
        }
        action = data.draw(st.sampled_from([one for one in Action if not self.can(one)]))
        with pytest.raises(RefusedTransition), self.database.begin() as session:
            asked.get(action, lambda session, study_id: studies.change_state(session, study_id, action))(
                session, self.id
            )

    @precondition(lambda self: self.can(Action.PAUSE))
    @rule()
    def pause(self):
        self.change(Action.PAUSE)

    @precondition(lambda self: self.can(Action.RESUME))
    @rule()
    def resume(self):
        self.act(Action.RESUME, lambda session: actions.resume(session, self.id))

    @precondition(lambda self: self.can(Action.CANCEL) and len(self.attempts) > 1)
    @rule()
    def cancel(self):
        self.change(Action.CANCEL)

    @rule()
    def post_once_more(self):
        """The spec as it is now runs a failed or cancelled study again, and leaves every other one alone."""
        with self.database.begin() as session:
            spec = StudySpec.model_validate(studies.get(session, self.id).spec)
            assert not studies.create(session, spec).created
        if self.state in TRANSITIONS[Action.REQUEUE]:
            self.moved(Action.REQUEUE, State.QUEUED)

    @precondition(lambda self: self.can(Action.EXTEND))
    @rule(more=st.sampled_from([1, 2, 1, 0, -1]))
    def extend(self, more):
        wanted = max(self.budget + more, 1)
        if wanted == self.budget:
            with self.database.begin() as session:
                assert actions.extend(session, self.id, wanted).state == self.state
        elif wanted < self.budget:
            with pytest.raises(WrongRequest), self.database.begin() as session:
                actions.extend(session, self.id, wanted)
        else:
            self.act(Action.EXTEND, lambda session: actions.extend(session, self.id, wanted))
            self.budget = wanted
            longer = self.spec.model_copy(update={"budget": self.spec.budget.model_copy(update={"trials": wanted})})
            with self.database.begin() as session:
                assert studies.get(session, self.id).spec_hash == longer.identity()

    @precondition(lambda self: self.can(Action.RETRY))
    @rule(chosen=st.sets(st.sampled_from(actions.RETRIED), min_size=1))
    def retry(self, chosen):
        wanted = [one for _, one in self.last().values() if one.outcome in chosen]
        if not wanted:
            with pytest.raises(NothingToRetry), self.database.begin() as session:
                actions.retry(session, self.id, chosen)
            return
        self.act(Action.RETRY, lambda session: actions.retry(session, self.id, chosen))
        for one in wanted:
            one.run_again = True

    @rule(count=st.integers(1, 2))
    def enqueue(self, count):
        name, value = next(iter(VALUES.items()))
        chosen = {("trials", str(index)): {name: value} for index in range(count)}
        waiting = sum(ordinal is None for ordinal in self.line.values())
        held = self.counted() + len(self.open() | self.again()) + waiting
        if self.state.finished or count > self.budget - held:
            with pytest.raises(NoRoom), self.database.begin() as session:
                enqueued.add(session, self.id, chosen)
            return
        with self.database.begin() as session:
            assert enqueued.add(session, self.id, chosen)
        self.line |= dict.fromkeys(range(len(self.line) + 1, len(self.line) + count + 1))
        self.kinds.append("enqueued")

    # ------------------------------------------------------------------------------------------------------- its lease

    @rule()
    def claim(self):
        with self.database.begin() as session:
            claim = leases.claim(session, "dispatcher", 60)
        has_work = self.state in LIVE or bool(self.open())
        assert bool(claim) == (self.lease != "held" and has_work)
        if claim:
            self.epoch += 1
            assert (claim.group_id, claim.epoch) == (self.group, self.epoch)
            if self.state in LIVE:
                self.kinds += ["lease_lost", "claimed"] if self.lease == "expired" else ["claimed"]
            self.lease = "held"

    @precondition(lambda self: self.lease == "held")
    @rule()
    def expire(self):
        with self.database.begin() as session:
            past = func.now() - text("interval '1 second'")
            session.execute(update(Group).where(Group.id == self.group).values(expires_at=past))
        self.lease = "expired"

    @precondition(lambda self: self.epoch > 0)
    @rule(whose=leases_of)
    def release(self, whose):
        lease = self.held_by(whose)
        with self.database.begin() as session:
            given_back = leases.release(session, lease.group_id, lease.epoch)
        assert given_back == (whose == "current" and self.lease != "free")
        if given_back:
            self.lease = "free"

    # -------------------------------------------------------------------------------------------- what its runner does

    def write(self, lease: Lease, whose: str, do) -> bool:
        """Whether the write was accepted, which it must be under the lease's epoch alone."""
        if whose == "stale":
            with pytest.raises(LeaseLost), self.database.begin() as session:
                do(session, lease)
            return False
        with self.database.begin() as session:
            assert do(session, lease)
        return True

    @precondition(lambda self: self.can(Action.PREPARE))
    @rule()
    def prepare(self):
        self.change(Action.PREPARE)

    @initialize(outcomes=st.lists(outcomes, min_size=1, max_size=4))
    def first_of_all(self, outcomes):
        self.work(outcomes)

    @precondition(lambda self: self.state in LIVE)
    @rule(outcomes=st.lists(outcomes, min_size=1, max_size=3))
    def work(self, outcomes):
        """A runner does what it is for: one trial after the other, as long as there are any."""
        if self.lease != "held":
            self.claim()
        for action in (Action.PREPARE, Action.RUN):
            if self.can(action):
                self.change(action)
        for outcome in outcomes:
            if self.open() or self.started("current"):
                self.ended(min(self.open()), "current", outcome)

    @precondition(lambda self: self.can(Action.FAIL) and self.attempts)
    @rule(data=st.data())
    def end(self, data):
        self.change(data.draw(st.sampled_from([one for one in (Action.COMPLETE, Action.FAIL) if self.can(one)])))

    @precondition(lambda self: self.state is State.RUNNING)
    @rule(whose=leases_of)
    def start(self, whose):
        self.started(whose)

    def started(self, whose: str) -> bool:
        """Whether there was one to start, as a runner chooses: what runs again first, then the line, then a new one
        while the budget has room."""
        lease, again, sequence = self.held_by(whose), sorted(self.again()), None
        if not again and self.counted() + len(self.open()) >= self.budget:
            return False
        if again:
            ordinal, number = again[0], self.last()[again[0]][0] + 1
        else:
            ordinal, number = len(self.last()), 1
            sequence = next((place for place, taken in self.line.items() if taken is None), None)

        def do(session, lease):
            more = {"distributions": DISTRIBUTIONS, "enqueued": sequence}
            return attempts.start(session, lease, self.id, ordinal, number, VALUES, **more)

        if sequence is not None and whose == "current":
            with pytest.raises(Overtaken), self.database.begin() as session:
                attempts.start(session, lease, self.id, ordinal, number, VALUES, distributions=DISTRIBUTIONS)
        if not self.write(lease, whose, do):
            return False
        self.attempts[ordinal, number] = Attempt()
        self.kinds.append("trial_started")
        if sequence is not None:
            self.line[sequence] = ordinal
        with self.database.begin() as session:
            assert not do(session, lease), "once more changes nothing"
        return True

    @precondition(lambda self: self.open())
    @rule(whose=leases_of, outcome=outcomes, data=st.data())
    def record(self, whose, outcome, data):
        """Whatever the study's state is: its runner delivers what has ended."""
        self.ended(data.draw(st.sampled_from(sorted(self.open()))), whose, outcome)

    def ended(self, ordinal: int, whose: str, outcome: Outcome) -> None:
        lease, (number, one) = self.held_by(whose), self.last()[ordinal]
        result = TrialResult(
            outcome=outcome,
            value=float(ordinal) if outcome is Outcome.VALID else None,
            fault=Fault(type="Asked", message="for") if outcome is Outcome.ERROR else None,
        )

        def do(session, lease):
            return attempts.record(session, lease, self.id, ordinal, number, result)

        if self.write(lease, whose, do):
            one.outcome = outcome
            self.kinds.append("trial_finished")
            with self.database.begin() as session:
                assert not do(session, lease), "the first end stands"

    # ----------------------------------------------------------------------------------------------- what always holds

    @invariant()
    def rows_are_as_modelled(self):
        with self.database.begin() as session:
            study = studies.get(session, self.id)
            events = session.execute(select(Event.sequence, Event.kind).order_by(Event.sequence)).all()
            trials = session.scalars(select(Trial).order_by(Trial.ordinal, Trial.attempt)).all()
            counts = dict(session.execute(select(OutcomeCount.outcome, OutcomeCount.attempts)).tuples().all())
            line = dict(session.execute(select(EnqueuedTrial.sequence, EnqueuedTrial.ordinal)).tuples().all())
            group = session.get_one(Group, self.group)
            history = attempts.history(session, self.id)
        assert (study.state, study.spec["budget"]["trials"]) == (self.state, self.budget)
        assert (study.finished_at is not None) == self.state.finished
        assert [kind for _, kind in events] == self.kinds
        assert [number for number, _ in events] == list(range(1, study.last_event + 1)), "no gaps"
        rows = {(row.ordinal, row.attempt): (row.outcome, row.run_again) for row in trials}
        assert rows == {key: (one.outcome, one.run_again) for key, one in self.attempts.items()}
        ended = [one.outcome for one in self.attempts.values() if one.outcome is not None]
        assert counts == {outcome: ended.count(outcome) for outcome in set(ended)}, "counts equal a recount"
        assert sorted(self.last()) == list(range(len(self.last()))), "ordinals are contiguous"
        assert (group.epoch, group.expires_at is not None) == (self.epoch, self.lease != "free")
        assert line == self.line

        book = Book.of(self.id, StudySpec.model_validate(study.spec), history)
        assert {one.ordinal for one in book.again} == self.again()
        assert set(book.open) == self.open()
        assert book.counted == self.counted() <= self.budget + sum(one.run_again for one in self.attempts.values())
        waste = [
            one
            for ordinal, (_, one) in self.last().items()
            if one.outcome and not one.outcome.counts and ordinal not in self.again() and not one.earlier
        ]
        assert book.wasted == len(waste)


BOUNDS = settings(
    max_examples=20,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_any_order_of_anything(new_database):
    StudyMachine.database = new_database()
    run_state_machine_as_test(StudyMachine, settings=BOUNDS)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_any_order_of_anything_else_each_time(new_database):
    StudyMachine.database = new_database()
    more = settings(BOUNDS, max_examples=100, stateful_step_count=40, derandomize=False, database=None)
    run_state_machine_as_test(StudyMachine, settings=more)
