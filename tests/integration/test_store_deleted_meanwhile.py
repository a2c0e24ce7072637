"""What is asked of a study or a comparison while somebody deletes it: it waits, and then there is none."""

from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from sqlalchemy import update
from test_leases import spec, submit
from test_store_waits import meanwhile

from mudman.specs.comparison import parse_comparison
from service.store import actions, comparisons, enqueued, repeating, studies
from service.store.comparisons import UnknownComparison
from service.store.states import Action
from service.store.studies import UnknownStudy
from service.store.tables import Study
from service.stored_views import view_of


@pytest.fixture
def store(new_database):
    return new_database()


def cancelled(store) -> str:
    study_id = submit(store)
    with store.begin() as session:
        studies.change_state(session, study_id, Action.CANCEL)
    return study_id


def comparison():
    return parse_comparison(spec("compared").model_dump(mode="json", exclude_unset=True) | {"variants": {"a": {}}})


def compared(store) -> str:
    with store.begin() as session:
        made = comparisons.create(session, comparison()).comparison
        for study in comparisons.studies_of(session, made):
            studies.change_state(session, study.id, Action.CANCEL)
        return made.id


def in_one(store, act, *given):
    """``act`` in a transaction of its own."""

    def work():
        with store.begin() as session:
            return act(session, *given)

    return work


@pytest.mark.parametrize(("act", "given"), [
    (actions.delete, ()),
    (actions.extend, (9,)),
    (enqueued.add, ({("hyperparameters",): {"unlearning_rate": 0.1}},)),
    (repeating.confirm, (1, 2)),
    (studies.change_state, (Action.REQUEUE,)),
])  # fmt: skip
def test_of_a_study_that_is_deleted_meanwhile(store, act, given):
    study_id = cancelled(store)
    with meanwhile((store, None, None), in_one(store, act, study_id, *given)) as (session, result):
        actions.delete(session, study_id)
    with pytest.raises(UnknownStudy):
        result[0].result()


def test_what_is_shown_of_a_study_that_is_deleted_meanwhile(store):
    study_id = cancelled(store)
    with store.begin() as session:
        study = studies.get(session, study_id)
        with store.begin() as other:
            actions.delete(other, study_id)
        with pytest.raises(UnknownStudy):
            view_of(session, study)


@pytest.mark.parametrize("act", [comparisons.delete, comparisons.locked])
def test_of_a_comparison_that_is_deleted_meanwhile(store, act):
    comparison_id = compared(store)
    with meanwhile((store, None, None), in_one(store, act, comparison_id)) as (session, result):
        comparisons.delete(session, comparison_id)
    with pytest.raises(UnknownComparison):
        result[0].result()


def deleted_before(monkeypatch, module, name: str, store, delete, doomed: str) -> None:
    """The first call of a function waits for another transaction, which deletes what is there."""
    function = getattr(module, name)

    def late(*given):
        monkeypatch.setattr(module, name, function)
        with store.begin() as other:
            delete(other, doomed)
        return function(*given)

    monkeypatch.setattr(module, name, late)


@pytest.mark.parametrize("step", ["_same", "clean_slate"])
def test_a_study_that_is_posted_again_while_it_is_deleted_is_a_new_one(store, monkeypatch, step):
    study_id = cancelled(store)
    deleted_before(monkeypatch, studies, step, store, actions.delete, study_id)
    with store.begin() as session:
        made = studies.create(session, spec("study"), idempotency_key="again")
        assert made.created
        assert (made.study.state, made.study.id != study_id) == ("queued", True)


def test_a_comparison_that_is_posted_again_while_it_is_deleted_is_a_new_one(store, monkeypatch):
    comparison_id = compared(store)
    deleted_before(monkeypatch, comparisons, "_same", store, comparisons.delete, comparison_id)
    with store.begin() as session:
        made = comparisons.create(session, comparison(), idempotency_key="again")
        assert made.created
        assert made.comparison.id != comparison_id
        assert [study.state for study in comparisons.studies_of(session, made.comparison)] == ["queued"] * 2


@pytest.mark.parametrize("module", [studies, comparisons])
def test_what_a_key_is_remembered_for_is_there_until_it_is(store, monkeypatch, module):
    """It has completed, so that it may be deleted at any time."""
    doomed = cancelled(store) if module is studies else compared(store)
    with store.begin() as session:
        session.execute(update(Study).values(state="completed"))
    delete, asked = (actions.delete, spec("study")) if module is studies else (comparisons.delete, comparison())
    remember = module.idempotency.remember
    with ThreadPoolExecutor(1) as pool:

        def late(*given, **more):
            wait([pool.submit(in_one(store, delete, doomed))], timeout=0.5)
            return remember(*given, **more)

        monkeypatch.setattr(module.idempotency, "remember", late)
        with store.begin() as session:
            assert not module.create(session, asked, idempotency_key="again").created


def test_a_study_whose_name_a_comparison_needs_is_deleted_meanwhile(store, monkeypatch):
    with store.begin() as session:
        study_id = studies.create(session, spec("compared/a")).study.id
        studies.change_state(session, study_id, Action.CANCEL)
    deleted_before(monkeypatch, studies, "named", store, actions.delete, study_id)
    with store.begin() as session:
        assert comparisons.create(session, comparison()).created
