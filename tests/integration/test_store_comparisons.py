"""Comparisons in a real database: created once by many, recognised across versions, cancelled as a whole."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from mudman import presets
from mudman.specs.comparison import parse_comparison
from service.store import comparisons, events, studies, together
from service.store.states import Action, State
from service.store.tables import Comparison, Study


def spec_of(name: str, variants: dict | None = None):
    document = presets.load("quickstart", {"name": name})
    return parse_comparison(document | {"variants": variants or {"sign": {}, "no_mask": {"method.mask": "none"}}})


def test_eight_threads_create_one(new_database):
    database, barrier = new_database(pool_size=8), threading.Barrier(8)

    def post(_):
        barrier.wait()
        with database.begin() as session:
            made = comparisons.create(session, spec_of("contended"), idempotency_key="k")
            return made.created, made.comparison.id

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert sorted(created for created, _ in answers) == [False] * 7 + [True]
    assert len({comparison_id for _, comparison_id in answers}) == 1
    with database.begin() as session:
        assert session.scalar(select(func.count()).select_from(Study)) == 3


def test_the_document_keeps_its_order_and_is_recognised_whatever_its_hash(database):
    spec = spec_of("older", {"z": {}, "a": {"budget.trials": 3}})
    with database.begin() as session:
        made = comparisons.create(session, spec, idempotency_key="older").comparison
        made.hash = "of another version"
    with database.begin() as session:
        assert [study.variant for study in comparisons.studies_of(session, made)] == ["z", "a", "baseline"]
        assert list(session.get_one(Comparison, made.id).document["variants"]) == ["z", "a"]
        for key in (None, "older"):
            again = comparisons.create(session, spec, idempotency_key=key)
            assert (again.created, again.comparison.id) == (False, made.id)


def test_what_was_cancelled_runs_again_and_what_goes_on_is_left_alone(database):
    with database.begin() as session:
        made = comparisons.create(session, spec_of("resumed")).comparison
        first, second, _ = comparisons.studies_of(session, made)
        studies.change_state(session, first.id, Action.CANCEL)
        studies.change_state(session, second.id, Action.PREPARE)
    with database.begin() as session:
        comparisons.create(session, spec_of("resumed"))
        kinds = {study.variant: [e.kind for e in events.after(session, study.id, 0)] for study in (first, second)}
        assert kinds == {"sign": ["created", "cancelled", "requeued"], "no_mask": ["created", "preparing"]}
    with database.begin() as session:
        together.cancel(session, made.id)
    with pytest.raises(together.NothingChanged), database.begin() as session:
        together.cancel(session, made.id)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("queued queued", "queued"),
        ("completed completed", "completed"),
        ("queued preparing", "running"),
        ("completed queued", "running"),
        ("failed running", "running"),
        ("completed paused", "paused"),
        ("completed failed cancelled", "failed"),
        ("completed cancelled", "cancelled"),
    ],
)
def test_the_state_of_a_whole(states: str, expected: str):
    assert comparisons.overall(states.split()) == expected


def test_errors_survive_pickling():
    taken = comparisons.ComparisonNameTaken("There is one.", "/comparisons/cp_1", {"a": {"existing": 1, "given": 2}})
    unchanged = together.NothingChanged("cp_1", State.CANCELLED, [together.Change("a", "st_1", False, "it ended")])
    there = comparisons.VariantTaken("cp_1", "a", {"method.mask": "none"})
    for error in (taken, unchanged, there, comparisons.UnknownComparison("cp_1")):
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), vars(again)) == (str(error), vars(error))
