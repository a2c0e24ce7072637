"""Studies in a real database: creation under contention, the one door for states, numbers counted by the database."""

import threading
from concurrent.futures import ThreadPoolExecutor

import large
import pytest
from sqlalchemy import func, select, text

from mudman import presets
from mudman.specs import parse
from service.store import attempts, events, studies
from service.store.states import Action, RefusedTransition
from service.store.tables import Event, Group, IdempotencyKey, Study, Trial


def spec_of(name: str, **overrides):
    return parse(presets.load("quickstart", {"name": name, **overrides}))


def create(database, name: str, **overrides) -> str:
    with database.begin() as session:
        return studies.create(session, spec_of(name, **overrides)).study.id


def add_trial(database, study_id: str, ordinal: int, outcome: str | None, value: float | None = None, **more) -> None:
    """An attempt that took ten seconds."""
    with database.begin() as session:
        now = session.scalar(select(func.now()))
        tens = session.scalar(select(func.now() - text("interval '10 seconds'")))
        trial = {"attempt": 1, "epoch": 1, "hyperparameters": {"unlearning_rate": 0.01}, **more}
        finished = now if outcome else None
        row = Trial(study_id=study_id, ordinal=ordinal, outcome=outcome, value=value, **trial)
        row.started_at, row.finished_at = tens, finished
        session.add(row)
        if outcome:
            large.count(session, study_id, outcome, seconds=10)


def in_threads(count: int, work) -> list:
    """Calls ``work(index)`` in all threads at the same moment."""
    barrier = threading.Barrier(count)

    def run(index: int):
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_creation_stores_study_group_and_event(database):
    spec = spec_of("stored", priority=3)
    with database.begin() as session:
        creation = studies.create(session, spec, preset="quickstart")
    assert creation.created
    assert studies.is_study_id(creation.study.id)
    with database.begin() as session:
        study = studies.get(session, creation.study.id)
        assert parse(study.spec) == spec
        assert parse(study.spec).unused() == spec.unused()
        assert (study.state, study.preset, study.spec_hash) == ("queued", "quickstart", spec.identity())
        assert session.get_one(Group, study.group_id).priority == 3
        [first] = events.after(session, study.id, 0)
        assert (first.sequence, first.kind) == (1, "created")


def test_eight_threads_create_one_study(new_database):
    database = new_database(pool_size=8)

    def post(_):
        with database.begin() as session:
            creation = studies.create(session, spec_of("contended"), idempotency_key="k")
            return creation.study.id, creation.created

    made = in_threads(8, post)
    assert len({study_id for study_id, _ in made}) == 1
    assert sum(created for _, created in made) == 1
    with database.begin() as session:
        for table in (Study, Group, Event, IdempotencyKey):
            assert session.scalar(select(func.count()).select_from(table)) == 1, table


def test_another_spec_under_the_name_is_refused_with_the_difference(database):
    study_id = create(database, "mine")
    with pytest.raises(studies.NameTaken) as refused, database.begin() as session:
        studies.create(session, spec_of("mine", **{"budget.trials": 5, "constraint": None}))
    assert refused.value.study_id == study_id
    assert refused.value.difference["budget.trials"] == {"existing": 10, "given": 5}
    assert refused.value.difference["constraint.retain_loss_increase"] == {"existing": 0.1, "given": None}
    with database.begin() as session:
        other = studies.create(session, spec_of("mine", owner="somebody", **{"budget.trials": 5}))
        assert other.created


def test_contradicting_posts_leave_one_study_and_no_orphans(new_database):
    database = new_database(pool_size=8)

    def post(index):
        try:
            with database.begin() as session:
                return studies.create(session, spec_of("fought-for", **{"budget.trials": 5 + index % 2})).study.id
        except studies.NameTaken:
            return None

    winners = {study_id for study_id in in_threads(8, post) if study_id}
    assert len(winners) == 1
    with database.begin() as session:
        assert session.scalar(select(func.count()).select_from(Group)) == 1


def test_an_idempotency_key_stands_for_one_study(database):
    with database.begin() as session:
        first = studies.create(session, spec_of("keyed"), idempotency_key="key")
    with database.begin() as session:
        again = studies.create(session, spec_of("keyed"), idempotency_key="key")
        assert (again.study.id, again.created) == (first.study.id, False)
    with pytest.raises(studies.IdempotencyConflict), database.begin() as session:
        studies.create(session, spec_of("keyed-2"), idempotency_key="key")
    with database.begin() as session:
        assert session.scalar(select(func.count()).where(Study.name == "keyed-2")) == 0


def test_one_key_for_different_studies_at_once(new_database):
    database = new_database(pool_size=8)

    def post(index):
        try:
            with database.begin() as session:
                return studies.create(session, spec_of(f"study-{index}"), idempotency_key="shared").created
        except studies.IdempotencyConflict:
            return False

    assert sum(in_threads(6, post)) == 1
    with database.begin() as session:
        assert session.scalar(select(func.count()).select_from(Study)) == 1


@pytest.mark.parametrize("ended", [Action.FAIL, Action.CANCEL])
def test_the_same_spec_runs_a_failed_or_cancelled_study_again(new_database, ended):
    database = new_database(pool_size=8)
    study_id = create(database, "again")
    add_trial(database, study_id, 0, "error")
    with database.begin() as session:
        studies.change_state(session, study_id, Action.PREPARE)
        studies.change_state(session, study_id, ended, problem={"title": "broken"})
        group = session.scalars(select(Group)).one()
        group.failures, group.not_before = 3, func.now() + text("interval '1 hour'")
    with pytest.raises(studies.NameTaken, match="--set name="):
        create(database, "again", **{"budget.trials": 5})

    assert in_threads(8, lambda _: create(database, "again")) == [study_id] * 8
    with database.begin() as session:
        study, group = studies.get(session, study_id), session.scalars(select(Group)).one()
        assert (study.state, study.problem, study.finished_at) == ("queued", None, None)
        assert study.queued_at > study.created_at
        assert (group.failures, group.not_before) == (0, None)
        told = [event.kind for event in events.after(session, study_id, 0)]
        assert told == ["created", "preparing", str(ended), "requeued"]
    add_trial(database, study_id, 1, "error")
    with database.begin() as session:
        # Its start lies ten seconds back; this one began after the study was queued again.
        session.get_one(Trial, (study_id, 1, 1)).started_at = func.now()
    with database.begin() as session:
        assert [row.earlier for row in attempts.history(session, study_id)] == [True, False]


def test_a_replay_of_a_key_leaves_a_cancelled_study_alone(database):
    def post(key: str | None) -> str:
        with database.begin() as session:
            return studies.create(session, spec_of("replayed"), idempotency_key=key).study.state

    post("original")
    with database.begin() as session:
        study_id = session.scalars(select(Study.id).where(Study.name == "replayed")).one()
        studies.change_state(session, study_id, Action.CANCEL)
    assert post("original") == "cancelled"
    assert post("another") == "queued"


def test_states_change_through_one_door(database):
    study_id = create(database, "door")
    with database.begin() as session:
        prepared = studies.change_state(session, study_id, Action.PREPARE, data={"by": "d1"})
        assert prepared.started_at is not None
    with pytest.raises(RefusedTransition), database.begin() as session:
        studies.change_state(session, study_id, Action.COMPLETE)
    with database.begin() as session:
        studies.change_state(session, study_id, Action.FAIL, problem={"detail": "no such model"})
    with database.begin() as session:
        study = studies.get(session, study_id)
        assert study.problem == {"detail": "no such model"}
        assert study.finished_at >= study.started_at
        studies.change_state(session, study_id, Action.RETRY)
    with database.begin() as session:
        study = studies.get(session, study_id)
        assert (study.problem, study.finished_at) == (None, None)
        assert session.scalar(select(func.count()).where(Study.id == study_id, Study.problem.is_(None))) == 1
        story = [(one.sequence, one.kind) for one in events.after(session, study_id, 0)]
        assert story == [(1, "created"), (2, "preparing"), (3, "failed"), (4, "retried")]
        assert events.after(session, study_id, 1)[0].data == {"from": "queued", "to": "preparing", "by": "d1"}


def test_one_of_many_simultaneous_cancels_wins(new_database):
    database = new_database(pool_size=8)
    study_id = create(database, "cancelled-by-all")

    def cancel(_):
        try:
            with database.begin() as session:
                studies.change_state(session, study_id, Action.CANCEL)
                return True
        except RefusedTransition:
            return False

    assert sum(in_threads(8, cancel)) == 1
    with database.begin() as session:
        assert [one.kind for one in events.after(session, study_id, 0)] == ["created", "cancelled"]


def test_unknown_studies(database):
    for study_id in (studies.new_study_id(), "", "st_\0", "x" * 10_000):
        with pytest.raises(events.UnknownStudy), database.begin() as session:
            studies.get(session, study_id)
    with pytest.raises(events.UnknownStudy), database.begin() as session:
        studies.change_state(session, studies.new_study_id(), Action.CANCEL)
    with pytest.raises(events.UnknownStudy), database.begin() as session:
        events.append(session, studies.new_study_id(), "noise")


def test_a_spec_of_an_older_version_is_recognised(database):
    """Its hash says nothing today: components were text then, and are mappings now."""
    given = presets.load("quickstart", {"name": "older"})
    shorthand = given | {"method": given["method"] | {"loss": "neg_cross_entropy", "mask": "sign"}}
    with database.begin() as session:
        study = studies.create(session, parse(given), idempotency_key="older").study
        study.spec, study.spec_version, study.spec_hash = shorthand, 1, "of version 1"
        session.get_one(IdempotencyKey, ("default", "older")).request_hash = "of version 1"
    for key in (None, "older", "another key"):
        with database.begin() as session:
            again = studies.create(session, parse(given), idempotency_key=key)
            assert (again.created, again.study.id) == (False, study.id)
    with pytest.raises(studies.NameTaken) as refused, database.begin() as session:
        studies.create(session, spec_of("older", **{"budget.trials": 3}))
    assert list(refused.value.difference) == ["budget.trials"]
    with pytest.raises(studies.IdempotencyConflict), database.begin() as session:
        studies.create(session, spec_of("older-otherwise"), idempotency_key="older")


def test_events_are_gapless_under_concurrent_writers(new_database):
    database = new_database(pool_size=8)
    study_id = create(database, "eventful")

    def write(index):
        for number in range(10):
            try:
                with database.begin() as session:
                    events.append(session, study_id, "noise", {"writer": index, "number": number})
                    if number % 3 == 0:
                        raise RuntimeError("rolled back")
            except RuntimeError:
                pass

    in_threads(8, write)
    with database.begin() as session:
        stored = events.after(session, study_id, 0)
        assert [one.sequence for one in stored] == list(range(1, 1 + 8 * 6 + 1))
        assert session.get_one(Study, study_id).last_event == 49
        for index in range(8):  # each writer's events in its own order
            mine = [one.data["number"] for one in stored if one.data.get("writer") == index]
            assert mine == [1, 2, 4, 5, 7, 8]


def test_listeners_hear_the_study_at_commit(database):
    import psycopg

    study_id = create(database, "heard")
    with psycopg.connect(database.url, autocommit=True) as listener:
        listener.execute(f"listen {events.CHANNEL}")
        with database.begin() as session:
            events.append(session, study_id, "noise")
            assert list(listener.notifies(timeout=0.1)) == []
        [notice] = listener.notifies(timeout=5, stop_after=1)
        assert notice.payload == study_id
