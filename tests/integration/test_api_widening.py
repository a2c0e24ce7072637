"""A study over wider ranges, begun with the best of another, over HTTP."""

import math

import pytest
from problem_documents import assert_problem
from searched import chosen, improving, submit
from sqlalchemy import select
from test_api_trials import finish, result

from mudman.results import Outcome
from service.store.tables import EnqueuedTrial


@pytest.fixture(scope="module")
def study(api, database) -> str:
    return improving(api, database)


def test_widen(api, study, database):
    answer = api.post(f"/studies/{study}/widen")
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/studies/{made['id']}"
    assert (made["name"], made["state"]) == ("improving-widened", "queued")
    assert made["labels"] == {"preset": "quickstart", "widened_from": study}
    method = made["spec"]["method"]
    assert method["unlearning_rate"]["high"] == pytest.approx(0.02 * math.sqrt(20))
    parent = api.get(f"/studies/{study}").json()
    changed = {name for name in method if method[name] != parent["spec"]["method"][name]}
    assert changed == {"unlearning_rate"}
    assert made["spec"]["budget"] == parent["spec"]["budget"]
    with database.begin() as session:
        line = session.scalars(
            select(EnqueuedTrial).where(EnqueuedTrial.study_id == made["id"]).order_by(EnqueuedTrial.sequence)
        ).all()
        assert [one.hyperparameters for one in line] == [chosen(0.019)] * 10
    again = api.post(f"/studies/{study}/widen")
    assert (again.status_code, again.json()["id"]) == (200, made["id"])
    with database.begin() as session:
        assert len(session.scalars(select(EnqueuedTrial).where(EnqueuedTrial.study_id == made["id"])).all()) == 10


def test_widen_sent_again_under_its_key_answers_the_first_whatever_was_found_since(api, database):
    study_id = submit(api, "sent again")
    finish(database, study_id, 0, result(Outcome.VALID, 3.0), chosen=chosen(0.019))
    key = {"Idempotency-Key": "wider"}
    first = api.post(f"/studies/{study_id}/widen", headers=key)
    assert first.status_code == 201, first.text
    finish(database, study_id, 1, result(Outcome.VALID, 4.0), chosen=chosen(0.005))
    again = api.post(f"/studies/{study_id}/widen", headers=key)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    other = api.post(f"/studies/{study_id}/widen", json={"warm_start": 3}, headers=key)
    assert_problem(other, 422, "idempotency-key-reused")
    assert_problem(api.post(f"/studies/{study_id}/widen"), 409, "nothing-to-widen")


def test_widen_as_one_likes(api, study, database):
    longer = {"low": 3, "high": 30, "int": True}
    body = {"name": "my own", "trials": 3, "ranges": {"fork_every": longer}, "warm_start": 5}
    made = api.post(f"/studies/{study}/widen", json=body).json()
    assert (made["name"], made["spec"]["budget"]["trials"]) == ("my own", 3)
    assert made["spec"]["method"]["fork_every"] == {"low": 3, "high": 30, "log": False, "int": True}
    assert made["spec"]["method"]["unlearning_rate"]["high"] == 0.02
    with database.begin() as session:
        line = session.scalars(select(EnqueuedTrial).where(EnqueuedTrial.study_id == made["id"])).all()
        assert len(line) == 3, "no more than it has trials"
    none = api.post(f"/studies/{study}/widen", json=body | {"name": "cold", "warm_start": 0}).json()
    with database.begin() as session:
        assert session.scalars(select(EnqueuedTrial).where(EnqueuedTrial.study_id == none["id"])).all() == []


@pytest.mark.parametrize(("ranges", "pointer", "said"), [
    ({"rate": {"low": 0, "high": 1}}, "/ranges/rate", "is no range that the study searches"),
    ({"fork_every": {"low": 8, "high": 30, "int": True}}, "/ranges/fork_every", "does not contain the range as it was"),
    ({"fork_every": {"low": 6, "high": 30}}, "/ranges/fork_every", "does not contain the range as it was"),
    ({"fork_every": {"low": 6, "high": 24, "int": True}}, "/ranges/fork_every", "is the range as it was"),
    ({"retain_momentum": {"low": 0.0, "high": 2.0}}, "/ranges/retain_momentum/high", "must be between 0 and 1"),
    ({"fork_every": {"low": 9, "high": 1}}, "/ranges/fork_every", "low (9) must be below high (1)"),
])  # fmt: skip
def test_widen_refuses(api, study, ranges, pointer, said):
    answer = api.post(f"/studies/{study}/widen", json={"name": "refused", "ranges": ranges})
    [error] = assert_problem(answer, 422, "invalid-request")["errors"]
    assert error["pointer"] == pointer
    assert said in error["detail"]
    assert error["remedy"]


def test_nothing_to_widen(api, database):
    study_id = submit(api, "roomy")
    assert_problem(api.post(f"/studies/{study_id}/widen"), 409, "nothing-to-widen")
    finish(database, study_id, 0, result(Outcome.VALID, 3.0), chosen=chosen(0.005))
    detail = assert_problem(api.post(f"/studies/{study_id}/widen"), 409, "nothing-to-widen")["detail"]
    assert f"/studies/{study_id}/statistics" in detail
    assert_problem(api.post("/studies/st_aaaaaaaaaaaaaaaa/widen"), 404, "unknown-study")
    whole = submit(api, "whole", **{"method.retain_momentum": {"low": 0.0, "high": 1.0}})
    finish(database, whole, 0, result(Outcome.VALID, 3.0), chosen=chosen(0.005) | {"retain_momentum": 0.99})
    detail = assert_problem(api.post(f"/studies/{whole}/widen"), 409, "nothing-to-widen")["detail"]
    assert "retain_momentum cannot go further" in detail


def test_a_name_that_is_taken(api, study):
    submit(api, "taken")
    problem = assert_problem(api.post(f"/studies/{study}/widen", json={"name": "taken"}), 409, "name-taken")
    assert "labels.widened_from" in problem["difference"]
