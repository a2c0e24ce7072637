"""The OpenAPI document is part of the product: valid, complete, and every example true to its schema."""

import json
from urllib.parse import urlsplit

import pytest
from fastapi.openapi.models import OpenAPI
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from searched import chosen
from test_api_trials import finish, result

from mudman.results import Outcome
from service.app import create_app
from service.store import studies
from service.store.settings import Settings
from service.store.states import Action

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def document() -> dict:
    """Made without a database: the document must not need one."""
    return create_app(Settings(database_url="postgresql:///none?host=/nowhere")).openapi()


def operations(document: dict):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def validator(document: dict, schema: dict) -> Draft202012Validator:
    """``schema`` refers to the document's components, so they come along."""
    return Draft202012Validator(schema | {"components": document["components"]})


def references(value):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_is_a_valid_openapi_document(document):
    validate(document)
    OpenAPI.model_validate(document)
    assert document["openapi"].startswith("3.1")
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for reference in set(references(document)):
        place = document
        for part in urlsplit(reference).fragment.removeprefix("/").split("/"):
            place = place[part]


def test_lists_the_contract(document):
    assert {name for name, _ in operations(document)} == {
        "POST /studies",
        "GET /studies",
        "GET /studies/{study_id}",
        "GET /studies/{study_id}/best",
        "GET /studies/{study_id}/events",
        "GET /studies/{study_id}/trials",
        "GET /studies/{study_id}/trials/{ordinal}",
        *(
            f"POST /studies/{{study_id}}/{action}"
            for action in ("pause", "resume", "cancel", "retry", "extend", "widen", "confirm")
        ),
        "GET /studies/{study_id}/statistics",
        "GET /studies/{study_id}/export",
        "POST /studies/{study_id}/checkpoints",
        "GET /studies/{study_id}/checkpoints",
        "GET /studies/{study_id}/checkpoints/{ordinal}",
        "GET /studies/{study_id}/checkpoints/{ordinal}/{file}",
        "POST /studies/{study_id}/trials",
        "DELETE /studies/{study_id}",
        "POST /comparisons",
        "GET /comparisons",
        "GET /comparisons/{comparison_id}",
        *(
            f"POST /comparisons/{{comparison_id}}/{action}"
            for action in ("pause", "resume", "cancel", "extend", "retry", "variants")
        ),
        "DELETE /comparisons/{comparison_id}",
        "GET /comparisons/{comparison_id}/table",
        "GET /comparisons/{comparison_id}/export",
        "GET /comparisons/{comparison_id}/figures/{name}",
        "GET /studies/{study_id}/figures/{name}",
        "GET /cluster",
        "GET /presets",
        "GET /presets/{name}",
        "GET /methods",
        "GET /losses",
        "GET /attacks",
        "GET /evaluations",
        "GET /models",
        "GET /corpora",
        "GET /tokens",
        "POST /tokens",
        "DELETE /tokens/{token_id}",
        "GET /audit",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    }


def test_every_route_declares_its_problems(document):
    for name, operation in operations(document):
        declared = operation["responses"]
        assert "500" in declared, name
        for status, response in declared.items():
            if status[0] in "45" and name != "GET /readyz":
                assert list(response["content"]) == [PROBLEM], (name, status)
                assert response["content"][PROBLEM]["schema"] == {"$ref": "#/components/schemas/Problem"}
        if "{study_id}" in name or "{comparison_id}" in name:
            assert {"404", "503"} <= declared.keys(), name
    assert {"409", "413", "415", "422", "503"} <= document["paths"]["/studies"]["post"]["responses"].keys()
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_answer_and_body_has_examples_that_are_true_to_its_schema(document):
    checked = 0
    for name, operation in operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in [*bodies, *operation["responses"].values()]:
            for media_type, content in body.get("content", {}).items():  # 204 has none
                examples = [example["value"] for example in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                assert examples, (name, media_type)
                for example in examples:
                    if isinstance(example, str):
                        continue  # YAML text: read by the test below
                    errors = [error.message for error in validator(document, content["schema"]).iter_errors(example)]
                    assert errors == [], (name, media_type)
                    checked += 1
    assert checked > 30


@pytest.mark.parametrize("path", ["/studies", "/comparisons"])
def test_the_request_examples_are_accepted(api, document, path: str):
    content = document["paths"][path]["post"]["requestBody"]["content"]
    for media_type, described in content.items():
        for example in described["examples"].values():
            value = example["value"]
            sent = (
                {"content": value, "headers": {"Content-Type": media_type}}
                if isinstance(value, str)
                else {"json": value}
            )
            answer = api.post(f"{path}?dry_run=true", **sent)
            assert answer.status_code == 200, answer.text


def test_the_request_examples_of_actions_are_accepted(api, document, database):
    """Each by a study for which it can be: one that has completed with failed trials, and one that is queued."""

    def study(name: str, *actions: Action) -> str:
        made = api.post("/studies", json={"preset": "quickstart", "overrides": {"name": name}}).json()["id"]
        with database.begin() as session:
            for action in actions:
                studies.change_state(session, made, action)
        for ordinal in (3, 7):
            finish(database, made, ordinal, result(Outcome.ERROR))
        finish(database, made, 8, result(Outcome.VALID, 3.0), chosen=chosen(0.02))
        return made

    completed, accepted = (Action.PREPARE, Action.RUN, Action.COMPLETE), 0
    through = {"extend": completed, "retry": completed}
    for action in ("extend", "retry", "trials", "widen", "confirm"):
        body = document["paths"][f"/studies/{{study_id}}/{action}"]["post"]["requestBody"]
        for media_type, described in body["content"].items():
            for name, example in described["examples"].items():
                made = study(f"{action} {name} {media_type}", *through.get(action, ()))
                content, headers = json.dumps(example["value"]), {"Content-Type": media_type}
                answer = api.post(f"/studies/{made}/{action}", content=content, headers=headers)
                assert answer.status_code in (200, 201), answer.text
                responses = document["paths"][f"/studies/{{study_id}}/{action}"]["post"]["responses"]
                schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
                assert [error.message for error in validator(document, schema).iter_errors(answer.json())] == []
                accepted += 1
    assert accepted == 20


def test_real_answers_are_true_to_their_schemas(api, document):
    study = api.post("/studies", json={"preset": "quickstart"}).json()
    here = f"/studies/{study['id']}"
    variants = {"mudman": {}, "no_mask": {"method.mask": "none"}}
    comparison = api.post("/comparisons", json=study["spec"] | {"name": "compared", "variants": variants}).json()
    there = f"/comparisons/{comparison['id']}"
    for template, path in (
        ("/studies", "/studies"),
        ("/studies/{study_id}", here),
        ("/studies/{study_id}/trials", f"{here}/trials"),
        ("/studies/{study_id}/best", f"{here}/best"),
        ("/studies/{study_id}/events", f"{here}/events"),
        ("/comparisons", "/comparisons"),
        ("/comparisons/{comparison_id}", there),
        ("/comparisons/{comparison_id}/table", f"{there}/table"),
        ("/comparisons/{comparison_id}/export", f"{there}/export"),
        ("/studies/{study_id}/statistics", f"{here}/statistics"),
        ("/studies/{study_id}/export", f"{here}/export"),
        ("/presets", "/presets"),
        ("/presets/{name}", "/presets/quickstart"),
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
    ):
        answer = api.get(path)
        described = document["paths"][template]["get"]["responses"][str(answer.status_code)]["content"]
        schema = described[answer.headers["content-type"]]["schema"]
        assert [error.message for error in validator(document, schema).iter_errors(answer.json())] == []


def test_every_parameter_is_described(document):
    for name, operation in operations(document):
        assert operation["summary"], name
        for parameter in operation.get("parameters", []):
            assert parameter["schema"], name
