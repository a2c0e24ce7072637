"""What is done to a study over HTTP: every action, what it refuses, and the way to mend it."""

import itertools

import large
import pytest
from problem_documents import assert_problem
from sqlalchemy import func, select, text
from test_api_trials import finish, result

from mudman import presets
from mudman.results import Outcome
from service.store import actions, attempts, optuna_rows, studies
from service.store.leases import Lease
from service.store.states import Action
from service.store.tables import Comparison, EnqueuedTrial, Event, Group, IdempotencyKey, Study, Trial

NUMBERS = itertools.count()


@pytest.fixture
def submit(api, database):
    """A quickstart study of ten trials, brought to a state."""

    def make(*done: Action, **overrides) -> str:
        body = {"preset": "quickstart", "overrides": {"name": f"acted-on-{next(NUMBERS)}", **overrides}}
        study_id = api.post("/studies", json=body).json()["id"]
        with database.begin() as session:
            for action in done:
                studies.change_state(session, study_id, action)
        return study_id

    return make


RUNNING = (Action.PREPARE, Action.RUN)
COMPLETED = (*RUNNING, Action.COMPLETE)


def kinds(database, study_id: str) -> list[str]:
    with database.begin() as session:
        query = select(Event.kind).where(Event.study_id == study_id).order_by(Event.sequence)
        return list(session.scalars(query))


def events(database, study_id: str, kind: str) -> list[dict]:
    with database.begin() as session:
        query = select(Event.data).where(Event.study_id == study_id, Event.kind == kind).order_by(Event.sequence)
        return list(session.scalars(query))


def test_pause_resume_and_cancel(api, database, submit):
    study_id = submit(*RUNNING)
    for action, state in (("pause", "paused"), ("resume", "running"), ("pause", "paused"), ("cancel", "cancelled")):
        answer = api.post(f"/studies/{study_id}/{action}")
        assert (answer.status_code, answer.json()["state"]) == (200, state)
    assert answer.json()["finished_at"] is not None
    assert kinds(database, study_id)[3:] == ["paused", "resumed", "paused", "cancelled"]


@pytest.mark.parametrize(
    ("done", "refused", "state"),
    [
        ((), ["pause", "resume", "extend", "retry"], "queued"),
        (RUNNING, ["resume", "extend", "retry"], "running"),
        ((Action.PREPARE,), ["pause", "resume", "extend", "retry"], "preparing"),
        ((*RUNNING, Action.PAUSE), ["pause", "extend", "retry"], "paused"),
        (COMPLETED, ["pause", "resume", "cancel"], "completed"),
        ((Action.PREPARE, Action.FAIL), ["pause", "resume", "cancel"], "failed"),
        ((Action.CANCEL,), ["pause", "resume", "cancel"], "cancelled"),
    ],
)
def test_what_the_state_does_not_allow_is_409_with_the_reason(api, submit, done, refused, state):
    study_id = submit(*done)
    for action in refused:
        body = {"trials": 20} if action == "extend" else {}
        problem = assert_problem(api.post(f"/studies/{study_id}/{action}", json=body), 409, "refused-transition")
        assert problem["state"] == state
        assert f"is {state} and cannot be" in problem["detail"]


def test_an_action_on_nothing_is_404(api):
    for action in ("pause", "resume", "cancel", "retry"):
        assert_problem(api.post(f"/studies/st_0123456789abcdef/{action}"), 404, "unknown-study")
    body = {"trials": [{"fork_every": 12}]}
    assert_problem(api.post("/studies/st_0123456789abcdef/trials", json=body), 404, "unknown-study")
    assert_problem(api.post("/studies/nothing/extend", json={"trials": 3}), 404, "unknown-study")
    assert_problem(api.delete("/studies/nothing"), 404, "unknown-study")
    assert_problem(api.delete("/comparisons/nothing"), 404, "unknown-comparison")


def test_extend_makes_the_budget_larger_and_may_be_repeated(api, database, submit):
    study_id = submit(*COMPLETED)
    original = api.get(f"/studies/{study_id}").json()["spec"]
    answer = api.post(f"/studies/{study_id}/extend", json={"trials": 14})
    assert (answer.status_code, answer.json()["state"], answer.json()["finished_at"]) == (200, "queued", None)
    assert answer.json()["spec"] == original | {"budget": original["budget"] | {"trials": 14}}
    assert answer.json()["progress"]["budget"] == 14
    again = api.post(f"/studies/{study_id}/extend", content="trials: 14", headers={"Content-Type": "application/yaml"})
    assert again.status_code == 200
    assert events(database, study_id, "extended") == [
        {"from": "completed", "to": "queued", "trials": {"from": 10, "to": 14}}
    ]
    problem = assert_problem(api.post("/studies", json=original), 409, "name-taken")
    assert problem["difference"] == {"budget.trials": {"existing": 14, "given": 10}}
    same = api.post("/studies", json=answer.json()["spec"])
    assert (same.status_code, same.json()["id"]) == (200, study_id)


@pytest.mark.parametrize("done", [(), RUNNING, (*RUNNING, Action.PAUSE), COMPLETED])
def test_a_study_that_has_this_budget_already_is_answered_as_it_is(api, database, submit, done):
    """Whatever its state: who repeats an extension finds it queued, or running already."""
    study_id = submit(*done)
    before = api.get(f"/studies/{study_id}").json()
    answer = api.post(f"/studies/{study_id}/extend", json={"trials": 10})
    assert (answer.status_code, answer.json()["state"]) == (200, before["state"])
    assert events(database, study_id, "extended") == []


@pytest.mark.parametrize(
    ("body", "pointer", "remedy"),
    [
        ({"trials": 9}, "/trials", "above 10"),
        ({"trials": 0}, "/trials", "at least 1"),
        ({"trials": "20"}, "/trials", "whole number"),
        ({"trials": 2_000_000}, "/trials", "1000000"),
        ({}, "/trials", "add this field"),
        ({"trails": 20}, "/trails", "did you mean 'trials'?"),
        ([], "", "a mapping"),
    ],
)
def test_a_wrong_extension_is_422_at_the_field(api, submit, body, pointer, remedy):
    answer = api.post(f"/studies/{submit(*COMPLETED)}/extend", json=body)
    faults = assert_problem(answer, 422, "invalid-request")["errors"]
    fault = next(fault for fault in faults if fault["pointer"] == pointer)
    assert remedy in fault["remedy"] + fault["detail"]


def test_a_body_of_another_kind_is_refused(api, submit):
    study_id = submit(*COMPLETED)
    answer = api.post(f"/studies/{study_id}/extend", content="trials=20", headers={"Content-Type": "text/plain"})
    assert_problem(answer, 415, "unsupported-body")
    assert_problem(api.post(f"/studies/{study_id}/extend"), 415, "unsupported-body")
    answer = api.post(f"/studies/{study_id}/retry", content="x: 1", headers={"Content-Type": "text/plain"})
    assert_problem(answer, 415, "unsupported-body")


def ended(database, study_id: str) -> None:
    """Trials of every fate: 0 valid, 1 and 2 errors, 3 out of memory, 4 lost thrice, 5 lost and valid then."""
    for ordinal, outcome in enumerate((Outcome.VALID, Outcome.ERROR, Outcome.ERROR, Outcome.OUT_OF_MEMORY)):
        finish(database, study_id, ordinal, result(outcome, 3.0 if outcome is Outcome.VALID else None))
    for attempt in (1, 2, 3):
        finish(database, study_id, 4, result(Outcome.LOST), attempt=attempt)
    finish(database, study_id, 5, result(Outcome.LOST))
    finish(database, study_id, 5, result(Outcome.VALID, 2.0), attempt=2)


@pytest.mark.parametrize(
    ("body", "marked"),
    [
        (None, [(1, 1), (2, 1), (3, 1), (4, 3)]),
        ({}, [(1, 1), (2, 1), (3, 1), (4, 3)]),
        ({"outcomes": ["error"]}, [(1, 1), (2, 1)]),
        ({"outcomes": ["lost", "out_of_memory"]}, [(3, 1), (4, 3)]),
        ({"ordinals": [2, 4]}, [(2, 1), (4, 3)]),
    ],
)
def test_retry_marks_what_ended_for_good_without_counting(api, database, submit, body, marked):
    study_id = submit(*COMPLETED)
    ended(database, study_id)
    answer = api.post(f"/studies/{study_id}/retry", **({} if body is None else {"json": body}))
    assert (answer.status_code, answer.json()["state"]) == (200, "queued"), answer.text
    with database.begin() as session:
        rows = select(Trial.ordinal, Trial.attempt).where(Trial.study_id == study_id, Trial.run_again)
        assert session.execute(rows.order_by(Trial.ordinal)).tuples().all() == marked
    assert events(database, study_id, "retried") == [{"from": "completed", "to": "queued", "trials": len(marked)}]


def test_nothing_to_retry_is_409_and_marks_nothing(api, database, submit):
    study_id = submit(*COMPLETED)
    problem = assert_problem(api.post(f"/studies/{study_id}/retry"), 409, "nothing-to-retry")
    assert f"No trial of study {study_id} ended in error or out_of_memory or lost" in problem["detail"]
    ended(database, study_id)
    for body, named in (({"ordinals": [1, 5, 0, 99]}, "0, 5, 99"), ({"outcomes": ["lost"], "ordinals": [1]}, "1")):
        problem = assert_problem(api.post(f"/studies/{study_id}/retry", json=body), 409, "nothing-to-retry")
        assert f": {named}. " in problem["detail"]
    with database.begin() as session:
        assert session.scalar(select(func.count()).where(Trial.study_id == study_id, Trial.run_again)) == 0
        assert studies.get(session, study_id).state == "completed"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"outcomes": ["valid"]}, "/outcomes/0"),
        ({"outcomes": []}, "/outcomes"),
        ({"ordinals": [1, -1]}, "/ordinals/1"),
        ({"outcome": ["error"]}, "/outcome"),
    ],
)
def test_a_wrong_retry_is_422_at_the_field(api, submit, body, pointer):
    problem = assert_problem(api.post(f"/studies/{submit(*COMPLETED)}/retry", json=body), 422, "invalid-request")
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


def test_enqueue_one_and_several(api, database, submit):
    study_id = submit()
    one = api.post(
        f"/studies/{study_id}/trials", json={"hyperparameters": {"unlearning_rate": 0.01, "fork_every": 12.0}}
    )
    assert one.status_code == 201, one.text
    assert [(t["sequence"], t["hyperparameters"]) for t in one.json()["waiting"]] == [
        (1, {"unlearning_rate": 0.01, "fork_every": 12})
    ]
    several = api.post(f"/studies/{study_id}/trials", json={"trials": [{"fork_every": 7}, {"retain_momentum": 0.5}]})
    assert (several.status_code, several.json()["study"]) == (201, study_id)
    assert [trial["sequence"] for trial in several.json()["waiting"]] == [1, 2, 3]
    assert events(database, study_id, "enqueued") == [{"sequences": [1]}, {"sequences": [2, 3]}]
    with database.begin() as session:
        [stored] = session.scalars(select(EnqueuedTrial).where(EnqueuedTrial.sequence == 1)).all()
    assert isinstance(stored.hyperparameters["fork_every"], int), "a whole number where whole numbers are searched"


def test_a_key_enqueues_once(api, submit):
    study_id, body = submit(), {"hyperparameters": {"fork_every": 12}}

    def send(body, study_id=study_id):
        return api.post(f"/studies/{study_id}/trials", json=body, headers={"Idempotency-Key": f"k-{study_id}"})

    first, again = send(body), send(body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert_problem(send({"hyperparameters": {"fork_every": 13}}), 422, "idempotency-key-reused")


def test_a_key_that_no_database_would_take_is_422(api, submit):
    key = {"Idempotency-Key": "a\x00b"}
    variants = {"sign": {}}
    for path, body in (
        ("/studies", {"preset": "quickstart"}),
        ("/comparisons", presets.load("quickstart") | {"name": "by key", "variants": variants}),
        (f"/studies/{submit()}/trials", {"hyperparameters": {"fork_every": 12}}),
    ):
        [fault] = assert_problem(api.post(path, json=body, headers=key), 422, "invalid-request")["errors"]
        assert fault["path"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("values", "name", "said"),
    [
        ({"fork_evry": 12}, "fork_evry", "did you mean 'fork_every'?"),
        ({"nothing": 1}, "nothing", "it searches adversary_rate, fork_every"),
        ({"fork_every": 5}, "fork_every", "a whole number from 6 to 24"),
        ({"fork_every": 12.5}, "fork_every", "12.5 is not a whole number"),
        ({"unlearning_rate": 1.0}, "unlearning_rate", "from 0.001 to 0.02"),
        ({"unlearning_rate": "0.01"}, "unlearning_rate", "is no number"),
        ({"fork_every": True}, "fork_every", "is no number"),
        ({"fork_every": -(10**400)}, "fork_every", "a huge number is outside"),
        ({"unlearning_rate": 10**400}, "unlearning_rate", "a huge number is outside"),
        ({"retain_momentum": None}, "retain_momentum", "is no number"),
        ({"adversary_decay": 0.5}, "adversary_decay", ""),
        ({"growing_weights": 0.5}, "growing_weights", "is fixed at 1 in this study"),
    ],
)
def test_a_wrong_value_is_422_at_it(api, database, submit, values, name, said):
    study_id = submit()
    for body, place in (
        ({"hyperparameters": values}, "/hyperparameters"),
        ({"trials": [{"fork_every": 12}, values]}, "/trials/1"),
    ):
        problem = assert_problem(api.post(f"/studies/{study_id}/trials", json=body), 422, "invalid-request")
        [fault] = problem["errors"]
        assert fault["pointer"] == f"{place}/{name}"
        assert said in f"{fault['detail']}; {fault['remedy']}"
        assert fault["remedy"]
    assert kinds(database, study_id) == ["created"]


def test_a_value_that_the_method_does_not_use(api, submit):
    study_id = submit(**{"method.adversary": {"type": "none"}})
    answer = api.post(f"/studies/{study_id}/trials", json={"hyperparameters": {"fork_every": 12}})
    [fault] = assert_problem(answer, 422, "invalid-request")["errors"]
    assert fault["detail"] == "is not used by the study's method"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"hyperparameters": {"fork_every": 12}, "trials": [{"fork_every": 12}]}, ""),
        ({"hyperparameters": {}}, "/hyperparameters"),
        ({"trials": []}, "/trials"),
        ({"trials": {"fork_every": 12}}, "/trials"),
    ],
)
def test_a_body_that_enqueues_nothing_or_twice(api, submit, body, pointer):
    problem = assert_problem(api.post(f"/studies/{submit()}/trials", json=body), 422, "invalid-request")
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


def test_no_room_is_409(api, database, submit):
    study_id = submit(*RUNNING)
    finish(database, study_id, 0, result(Outcome.VALID, 3.0))
    finish(database, study_id, 1, result(Outcome.ERROR))  # holds no place
    finish(database, study_id, 2, result(Outcome.CANCELLED))  # will run again
    seven = {"trials": [{"fork_every": 12}] * 7}
    assert api.post(f"/studies/{study_id}/trials", json=seven).status_code == 201
    two = {"trials": [{"fork_every": 12}] * 2}
    problem = assert_problem(api.post(f"/studies/{study_id}/trials", json=two), 409, "no-room")
    assert "a budget of 10 trials with 1 places left" in problem["detail"]
    assert api.post(f"/studies/{study_id}/trials", json={"trials": [{"fork_every": 12}]}).status_code == 201
    with database.begin() as session:
        studies.change_state(session, study_id, Action.COMPLETE)
    problem = assert_problem(api.post(f"/studies/{study_id}/trials", json=two), 409, "no-room")
    assert f"mudman extend {study_id} --trials 12" in problem["detail"]


def test_a_trial_that_was_given_up_holds_no_place_until_it_is_retried(api, database, submit):
    study_id = submit(*RUNNING)
    for attempt in (1, 2, 3):
        finish(database, study_id, 0, result(Outcome.LOST), attempt=attempt)
    for attempt in (1, 2):  # runs again
        finish(database, study_id, 1, result(Outcome.LOST), attempt=attempt)
    with database.begin() as session:
        studies.change_state(session, study_id, Action.FAIL)
        actions.retry(session, study_id, [Outcome.LOST], [0])
    nine = {"trials": [{"fork_every": 12}] * 9}
    problem = assert_problem(api.post(f"/studies/{study_id}/trials", json=nine), 409, "no-room")
    assert "8 places left" in problem["detail"], "both run again"
    for attempt in (4, 5, 6):
        finish(database, study_id, 0, result(Outcome.LOST), attempt=attempt)
    assert api.post(f"/studies/{study_id}/trials", json=nine).status_code == 201


def test_room_is_told_from_the_kept_counts(api, database, submit):
    """Of a study's trials there may be very many: nobody counts those that have ended."""
    study_id = submit(*RUNNING)
    with database.begin() as session:
        for _ in range(9):
            large.count(session, study_id, "valid", seconds=1.0)
    two = {"trials": [{"fork_every": 12}] * 2}
    problem = assert_problem(api.post(f"/studies/{study_id}/trials", json=two), 409, "no-room")
    assert "a budget of 10 trials with 1 places left" in problem["detail"]


def left_of(database, study_id: str) -> int:
    with database.begin() as session:
        found = sum(
            session.scalar(select(func.count()).select_from(table).where(table.study_id == study_id))
            for table in (Trial, Event, EnqueuedTrial, IdempotencyKey)
        )
        at_optuna = text("select count(*) from optuna.studies where study_name = :name")
        return found + session.scalar(at_optuna, {"name": study_id})


def test_delete_leaves_nothing_and_nobody_else_is_touched(api, database, submit):
    study_id, other = submit(), submit()
    body = {"hyperparameters": {"fork_every": 12}}
    api.post(f"/studies/{study_id}/trials", json=body, headers={"Idempotency-Key": f"d-{study_id}"})
    with database.begin() as session:
        group = studies.get(session, study_id).group_id
        for one, taken in ((study_id, 1), (other, None)):
            optuna_rows.create(session, one, "maximize")
            lease = Lease(studies.get(session, one).group_id, 0)
            attempts.start(session, lease, one, 1, 1, {}, distributions={}, enqueued=taken)
            over = result(Outcome.OVER_RETAIN_BUDGET, violation=0.5)
            attempts.record(session, lease, one, 1, 1, over)
    finish(database, study_id, 0, result(Outcome.VALID, 3.0))
    problem = assert_problem(api.delete(f"/studies/{study_id}"), 409, "not-finished")
    assert f"mudman cancel {study_id}" in problem["detail"]
    api.post(f"/studies/{study_id}/cancel")
    others = left_of(database, other)
    answer = api.delete(f"/studies/{study_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert left_of(database, study_id) == 0
    assert left_of(database, other) == others > 1
    with database.begin() as session:
        assert session.get(Study, study_id) is session.get(Group, group) is None
    assert_problem(api.get(f"/studies/{study_id}"), 404, "unknown-study")
    assert_problem(api.delete(f"/studies/{study_id}"), 404, "unknown-study")


def test_a_comparison_is_deleted_with_its_studies(api, database):
    variants = {"sign": {}, "no_mask": {"method.mask": "none"}}
    document = presets.load("quickstart") | {"name": "to-delete", "variants": variants}
    made = api.post("/comparisons", json=document).json()
    mine = [one["study"] for one in made["variants"]]
    problem = assert_problem(api.delete(f"/studies/{mine[0]}"), 409, "part-of-comparison")
    assert f"mudman delete {made['id']}" in problem["detail"]
    assert_problem(api.delete(made["links"]["self"]), 409, "not-finished")
    api.post(f"{made['links']['self']}/cancel")
    with database.begin() as session:
        group = studies.get(session, mine[0]).group_id
    assert api.delete(made["links"]["self"]).status_code == 204
    assert [left_of(database, study_id) for study_id in mine] == [0] * len(mine)
    with database.begin() as session:
        assert session.get(Comparison, made["id"]) is session.get(Group, group) is None
    assert api.post("/comparisons", json=document).status_code == 201, "its names are free again"
