"""The best of a study again on fresh seeds, over HTTP. Rows are written as the runner writes them."""

import copy
import json
import zipfile

import pytest
from problem_documents import assert_problem
from searched import chosen, submit
from test_api_trials import finish, result
from test_bundles import of_document, rewritten

from mudman.results import Outcome, Preparation
from mudman.specs import StudySpec, parse
from mudman.specs.repeats import SeedsSpec, fresh_seeds
from service.evidence import verification
from service.export import StudyExport, statistics_of, verify
from service.store import repeating, studies
from service.store.states import Action

FOUND = {0: 3.0, 1: 4.0, 2: 3.5, 3: 3.9}
AGAIN = {1: [3.2, 3.0, 3.1], 3: [3.6, 3.7, None]}
"""Ordinal in the search to what its runs come to; None: over its retain budget."""


def prepare(database, study_id: str, baseline: float, *baselines: float) -> None:
    made = Preparation(
        model_revision="packaged",
        corpora={"forget": {"revision": "packaged"}, "retain": {"revision": "packaged"}},
        matched_modules=(),
        intervened_parameters=10,
        initial_forget_loss=2.0,
        initial_retain_loss=3.0,
        baseline=result(Outcome.VALID, baseline),
        baselines=tuple(result(Outcome.VALID, value) for value in baselines),
        seconds=1.0,
        versions={},
    )
    with database.begin() as session:
        studies.get(session, study_id).preparation = made.model_dump(mode="json")


def searched(api, database, name: str, **overrides) -> str:
    study_id = submit(api, name, priority=7, **overrides)
    for ordinal, value in FOUND.items():
        rates = chosen(0.001 * (ordinal + 2)) | {"fork_every": 9}
        finish(database, study_id, ordinal, result(Outcome.VALID, value), chosen=rates)
    prepare(database, study_id, 1.5)
    return study_id


@pytest.fixture(scope="module")
def study(api, database) -> str:
    return searched(api, database, "searched")


@pytest.fixture(scope="module")
def confirmed(api, database, study) -> dict:
    """The best two on three seeds, all finished."""
    made = api.post(f"/studies/{study}/confirm", json={"best": 2, "seeds": 3})
    assert made.status_code == 201, made.text
    child = made.json()["id"]
    for place, ordinal in enumerate(AGAIN):
        for seed, value in enumerate(AGAIN[ordinal]):
            ended = result(Outcome.OVER_RETAIN_BUDGET if value is None else Outcome.VALID, value)
            finish(database, child, 3 * place + seed, ended)
    prepare(database, child, 1.4, 1.4, 1.5, 1.6)
    with database.begin() as session:
        for action in (Action.PREPARE, Action.RUN, Action.COMPLETE):
            studies.change_state(session, child, action)
    return made.json()


def test_the_study_that_runs_them_again(api, study, confirmed):
    parent = api.get(f"/studies/{study}").json()["spec"]
    spec = StudySpec.model_validate(confirmed["spec"])
    assert confirmed["name"] == "searched-confirmed"
    assert confirmed["labels"] == {"preset": "quickstart", "confirms": study}
    assert (spec.priority, spec.budget.trials) == (7, 6)
    assert [(one.ordinal, one.value) for one in spec.repeats.configurations] == [(1, 4.0), (3, 3.9)]
    seeds = [one.seeds for one in map(spec.for_trial, range(6))]
    assert seeds == [*fresh_seeds(SeedsSpec(), 3)] * 2
    assert len({one.data for one in seeds} | {42}) == len({one.trial for one in seeds} | {42}) == 4
    rates = [spec.repeats.hyperparameters(number, spec.search_space()) for number in range(6)]
    assert [one["unlearning_rate"] for one in rates] == [0.003] * 3 + [0.005] * 3
    assert (rates[0]["fork_every"], type(rates[0]["fork_every"])) == (9, int)
    for field in ("model", "method", "attack", "constraint", "objective", "batch", "resources"):
        mine = {key: value for key, value in confirmed["spec"][field].items() if key != "revision"}
        assert mine == {key: value for key, value in parent[field].items() if key != "revision"}, field


def test_what_is_left_of_the_best(api, study, confirmed):
    found = api.get(f"/studies/{study}/best").json()
    assert (found["ordinal"], found["value"]) == (1, 4.0)
    shown = found["confirmation"]
    assert (shown["study"], shown["complete"], shown["runs"]) == (confirmed["id"], True, 6)
    first, second = shown["configurations"]
    # Trial 3 is better on average, but broke its bound once.
    assert (first["ordinal"], second["ordinal"], shown["confirmed_best"], shown["difference"]) == (1, 3, 1, None)
    assert second["outcomes"] == {"valid": 2, "over_retain_budget": 1}
    assert first["mean"]["value"] == pytest.approx(3.1)
    assert first["mean"]["standard_error"] == pytest.approx(0.1 / 3**0.5)
    assert first["shrinkage"]["value"] == pytest.approx(-0.9)
    assert first["shrinkage"]["low"] == pytest.approx(-0.9 - 4.3027 * 0.1 / 3**0.5, rel=1e-4)
    # Gains 1.8, 1.5, 1.5 against 2.5.
    assert first["gain_shrinkage"]["value"] == pytest.approx(-0.9)
    assert api.get(f"/studies/{study}/statistics").json()["confirmation"] == shown


def test_it_is_computed_again_from_the_export(api, study, confirmed):
    made = api.get(f"/studies/{study}/export").json()
    assert made["statistics"]["confirmation"]["study"] == confirmed["id"]
    assert verify(made) == []
    for change in (
        lambda doc: doc["confirmation"]["trials"][0].update(value=3.3),
        lambda doc: doc["confirmation"]["study"]["preparation"]["baselines"][1].update(value=1.0),
        lambda doc: doc["statistics"]["confirmation"]["configurations"][0]["shrinkage"].update(low=0.0),
        lambda doc: doc.update(confirmation=None),
    ):
        changed = copy.deepcopy(made)
        change(changed)
        assert verify(changed) != []


def test_a_bundle_holds_it_and_its_numbers_follow_from_both(api, study, confirmed, tmp_path):
    file = tmp_path / "bundle.zip"
    file.write_bytes(api.get(f"/studies/{study}/export?format=bundle").content)
    report = verification.verify(file)
    # The rows of these tests have curves that are not theirs; what is made of them all is in its own files.
    made_of_them = [
        fault
        for fault in report.faults
        if fault.startswith(("statistics.json", "best.json", "figures/", "confirmation/study.json: spec"))
    ]
    assert (made_of_them, report.studies, report.trials) == ([], 2, 10)
    with zipfile.ZipFile(file) as bundle:
        assert {"confirmation/study.json", "confirmation/trials.jsonl.gz"} <= set(bundle.namelist())
        shown = json.loads(bundle.read("statistics.json"))["confirmation"]
    assert (shown["study"], shown["runs"]) == (confirmed["id"], 6)


@pytest.mark.parametrize(("change", "said"), [
    (lambda repeats: repeats.update(study="st_another"), "study: 'st_another' is stated"),
    (lambda repeats: repeats["configurations"][0].update(value=3.1), "configurations.0.value: 3.1 is stated, 4.0"),
    (lambda repeats: repeats["configurations"][0]["hyperparameters"].update(unlearning_rate=0.01),
     "configurations.0.hyperparameters.unlearning_rate: 0.01 is stated, 0.003 comes"),
    (lambda repeats: repeats["configurations"][1].update(ordinal=9), "configurations.1.ordinal: 9 is stated"),
])  # fmt: skip
def test_a_confirmation_of_other_trials_is_none(api, study, confirmed, tmp_path, change, said):
    """Also where whoever changed it computed the statistics and the hashes anew."""
    made = api.get(f"/studies/{study}/export").json()
    change(made["confirmation"]["study"]["spec"]["repeats"])
    forged = StudyExport.model_validate(made)
    again = statistics_of(forged.study, forged.trials, forged.confirmation, forged.statistics.bootstrap.seed)
    [line] = verify(made | {"statistics": again.model_dump(mode="json")})
    assert line.startswith(f"confirmation.study.spec.repeats.{said}")

    def forge(about: dict) -> None:
        change(about["spec"]["repeats"])
        about["spec_hash"] = StudySpec.model_validate(about["spec"]).identity()

    file = tmp_path / "bundle.zip"
    file.write_bytes(api.get(f"/studies/{study}/export?format=bundle").content)
    faults = verification.verify(rewritten(file, "confirmation/study.json", of_document(forge))).faults
    assert any(line.startswith(f"confirmation/study.json: spec.repeats.{said}") for line in faults), faults


def test_the_page_shows_both(api, study, confirmed):
    page = api.get(f"/ui/studies/{study}").text
    assert "3.1000 ± 0.0577" in page
    assert "-0.9000 ± 0.0577" in page
    assert f'href="/ui/studies/{confirmed["id"]}"' in page


def test_asked_again_it_is_the_same_and_other_questions_are_others(api, database):
    study = searched(api, database, "asked again")
    first = api.post(f"/studies/{study}/confirm")
    assert (first.status_code, first.json()["spec"]["budget"]["trials"]) == (201, 15)
    again = api.post(f"/studies/{study}/confirm", json={"best": 3, "seeds": 5})
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert api.get(f"/studies/{study}/best").json()["confirmation"]["configurations"][0]["mean"] is None
    more = api.post(f"/studies/{study}/confirm", json={"seeds": 6})
    assert (more.status_code, more.json()["name"]) == (201, "asked again-confirmed-2")
    assert api.get(f"/studies/{study}/best").json()["confirmation"]["study"] == more.json()["id"]
    assert [one["data"]["study"] for one in api.get(f"/studies/{study}/events").json()["items"][1:]] == [
        first.json()["id"],
        more.json()["id"],
    ]
    # A cancelled one runs again.
    assert api.post(f"/studies/{more.json()['id']}/cancel").status_code == 200
    assert api.post(f"/studies/{study}/confirm", json={"seeds": 6}).json()["state"] == "queued"


def test_refusals(api, database, study, confirmed):
    nothing = submit(api, "nothing valid")
    assert_problem(api.post(f"/studies/{nothing}/confirm"), 409, "nothing-to-repeat")
    child = confirmed["id"]
    detail = assert_problem(api.post(f"/studies/{child}/confirm"), 409, "nothing-to-repeat")["detail"]
    assert study in detail
    chosen_one = {"hyperparameters": {"unlearning_rate": 0.01}}
    assert_problem(api.post(f"/studies/{child}/trials", json=chosen_one), 409, "no-room")
    problem = assert_problem(api.post(f"/studies/{child}/extend", json={"trials": 7}), 422, "invalid-request")
    assert problem["errors"][0]["path"] == "trials"
    problem = assert_problem(api.post(f"/studies/{study}/confirm", json={"seeds": 1}), 422, "invalid-request")
    assert problem["errors"][0]["path"] == "seeds"
    assert_problem(api.post("/studies/st_aaaaaaaaaaaaaaaa/confirm"), 404, "unknown-study")


def test_a_spec_that_repeats_what_it_does_not_search(confirmed):
    spec = confirmed["spec"]
    del spec["repeats"]["configurations"][0]["hyperparameters"]["fork_every"]
    spec["repeats"]["configurations"][1]["hyperparameters"]["unlearning_rate"] = 7.0
    spec["budget"]["trials"] = 5
    with pytest.raises(Exception, match="are not those that the study searches") as error:
        parse(spec)
    assert [fault.path for fault in error.value.faults] == [
        "budget.trials",
        "repeats.configurations.0.hyperparameters",
        "repeats.configurations.1.hyperparameters.unlearning_rate",
    ]


def test_what_the_spec_asks_for_begins_when_the_study_completes(api, database):
    study = searched(api, database, "asked for", confirmation={"best": 1, "seeds": 2})
    with database.begin() as session:
        [made] = repeating.as_asked(session, studies.get(session, study))
        assert made.repeats_id == study
        assert made.spec["repeats"]["configurations"][0]["ordinal"] == 1
        assert "confirmation" not in made.spec
    empty = submit(api, "asked in vain", confirmation={})
    with database.begin() as session:
        assert repeating.as_asked(session, studies.get(session, empty)) == []
    assert api.get(f"/studies/{empty}/events").json()["items"][-1]["kind"] == "repeat_refused"


def test_a_confirmation_outlives_its_study_as_one_of_its_own(api, database):
    study = searched(api, database, "deleted")
    child = api.post(f"/studies/{study}/confirm").json()["id"]
    assert api.post(f"/studies/{study}/cancel").status_code == 200
    assert api.delete(f"/studies/{study}").status_code == 204
    assert api.get(f"/studies/{child}").json()["state"] == "queued"
