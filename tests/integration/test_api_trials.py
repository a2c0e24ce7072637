"""``best``, trials and progress over HTTP. Rows are written as the runner writes them."""

import large
import pytest
from problem_documents import assert_problem
from sqlalchemy import func, select

from mudman.results import Curve, Fault, Outcome, Point, Preparation, TrialResult
from service.store import studies
from service.store.tables import Group, Trial

POINTS = [
    Point(passes=0, forget_loss=2.0, retain_loss=3.0),
    Point(passes=30, forget_loss=4.0, retain_loss=float("nan")),
]


def result(outcome: Outcome, value: float | None = None, **more) -> TrialResult:
    curve = Curve.of(POINTS)
    return TrialResult(outcome=outcome, value=value, unlearning=curve, relearning=curve, seconds=2.5, **more)


def finish(
    database,
    study_id: str,
    ordinal: int,
    made: TrialResult,
    attempt: int = 1,
    chosen: dict[str, float] | None = None,
) -> None:
    """``chosen``: its hyper-parameters."""
    with database.begin() as session:
        now = session.scalar(select(func.now()))
        session.add(
            Trial(
                study_id=study_id,
                ordinal=ordinal,
                attempt=attempt,
                epoch=1,
                hyperparameters=chosen or {"unlearning_rate": 0.01 * (ordinal + 1)},
                outcome=made.outcome,
                value=made.value,
                result=made.model_dump(mode="json", exclude={"log"}),
                log=made.log,
                worker={"node": "n1", "pid": 1, "device": "cpu"},
                started_at=now,
                finished_at=now,
            )
        )
        large.count(session, study_id, made.outcome, seconds=0)


@pytest.fixture(scope="module")
def study(api, database) -> str:
    """A running study: two valid trials, one over budget, one lost and running again."""
    body = {"preset": "quickstart", "overrides": {"name": "tried"}}
    study_id = api.post("/studies", json=body).json()["id"]
    finish(database, study_id, 0, result(Outcome.VALID, 3.0, log="loop 1\nloop 2"))
    finish(database, study_id, 1, result(Outcome.VALID, 4.5))
    finish(database, study_id, 2, result(Outcome.OVER_RETAIN_BUDGET, overrun=0.02, stopped_at_pass=30))
    finish(database, study_id, 3, result(Outcome.LOST))
    prepared = Preparation(
        model_revision="abc",
        corpora={"forget": {"sha256": "f"}, "retain": {"sha256": "r"}},
        matched_modules=("layers.0.mlp.gate_proj",),
        intervened_parameters=10,
        initial_forget_loss=2.0,
        initial_retain_loss=3.0,
        baseline=result(Outcome.VALID, 1.9),
        seconds=1.0,
        versions={"torch": "2"},
    )
    with database.begin() as session:
        again = Trial(study_id=study_id, ordinal=3, attempt=2, epoch=1, hyperparameters={"unlearning_rate": 0.04})
        again.progress = {"phase": "unlearn", "passes": 60, "of": 150, "point": None}
        session.add(again)
        row = studies.get(session, study_id)
        row.preparation = prepared.model_dump(mode="json")
        row.state = "running"
        group = session.get_one(Group, row.group_id)
        group.owner, group.epoch, group.expires_at = "dispatcher-1", 3, session.scalar(select(func.now()))
    return study_id


def test_progress(api, study):
    shown = api.get(f"/studies/{study}").json()
    progress = shown["progress"]
    assert (progress["trials"], progress["running"], progress["best_value"]) == (3, 1, 4.5)
    assert progress["outcomes"] == {"valid": 2, "over_retain_budget": 1, "lost": 1}
    assert progress["live"] == [{"ordinal": 3, "attempt": 2, "phase": "unlearn", "passes": 60, "of": 150}]
    assert progress["eta_seconds"] == 0.0  # the rows above took no time
    assert (shown["lease"]["owner"], shown["lease"]["epoch"]) == ("dispatcher-1", 3)
    [summary] = api.get("/studies?text=tried").json()["items"]
    assert summary["progress"] == {"trials": 3, "budget": 10, "running": 1, "best_value": 4.5}


def test_best(api, study):
    best = api.get(f"/studies/{study}/best").json()
    assert (best["study"], best["ordinal"], best["attempt"], best["value"]) == (study, 1, 1, 4.5)
    assert best["hyperparameters"] == {"unlearning_rate": 0.02}
    assert best["result"]["relearning"]["retain_loss"] == [3.0, None]
    assert best["baseline"]["value"] == 1.9
    assert best["initial"] == {"forget_loss": 2.0, "retain_loss": 3.0}
    assert best["provenance"]["corpora"]["forget"] == {"sha256": "f"}
    assert best["provenance"]["versions"] == {"torch": "2"}
    assert best["checkpoint"] is None


def test_no_best_yet_says_why(api, database):
    body = {"preset": "quickstart", "overrides": {"name": "fruitless"}}
    study_id = api.post("/studies", json=body).json()["id"]
    finish(database, study_id, 0, result(Outcome.DIVERGED))
    detail = assert_problem(api.get(f"/studies/{study_id}/best"), 409, "no-valid-trial")["detail"]
    assert "finished: 1 diverged, running: 0" in detail
    assert "Try again" in detail
    api.post(f"/studies/{study_id}/cancel")
    detail = assert_problem(api.get(f"/studies/{study_id}/best"), 409, "no-valid-trial")["detail"]
    assert "cancelled" in detail
    assert "Try again" not in detail


def test_trials_in_pages(api, study):
    seen, cursor = [], None
    while True:
        page = api.get(f"/studies/{study}/trials", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [(trial["ordinal"], trial["attempt"], trial["outcome"]) for trial in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == [(0, 1, "valid"), (1, 1, "valid"), (2, 1, "over_retain_budget"), (3, 1, "lost"), (3, 2, None)]


def test_trials_by_outcome(api, study):
    page = api.get(f"/studies/{study}/trials?outcome=over_retain_budget").json()
    [trial] = page["items"]
    assert (trial["ordinal"], trial["overrun"], trial["stopped_at_pass"], trial["value"]) == (2, 0.02, 30, None)
    assert trial["seconds"] == 2.5
    assert_problem(api.get(f"/studies/{study}/trials?outcome=good"), 422, "invalid-request")


def test_one_trial(api, study):
    trial = api.get(f"/studies/{study}/trials/0").json()
    assert trial["log"] == "loop 1\nloop 2"
    assert trial["result"]["unlearning"]["passes"] == [0, 30]
    retried = api.get(f"/studies/{study}/trials/3").json()
    assert (retried["attempt"], retried["outcome"], retried["progress"]["passes"]) == (2, None, 60)
    assert [attempt["outcome"] for attempt in retried["attempts"]] == ["lost", None]


def test_errors_of_a_trial_are_shown(api, database):
    body = {"preset": "quickstart", "overrides": {"name": "broken"}}
    study_id = api.post("/studies", json=body).json()["id"]
    fault = Fault(type="RuntimeError", message="no such kernel", traceback="Traceback ...")
    finish(database, study_id, 0, result(Outcome.ERROR, fault=fault))
    assert api.get(f"/studies/{study_id}/trials/0").json()["result"]["fault"]["message"] == "no such kernel"


@pytest.mark.parametrize("ordinal", ["99", str(2**31), "-1", "x"])
def test_trials_that_are_not_there(api, study, ordinal):
    answer = api.get(f"/studies/{study}/trials/{ordinal}")
    assert_problem(answer, 404 if ordinal == "99" else 422)
