"""Requests drawn from the OpenAPI document, those that fit it and those that do not, against the real application: no
answer is a server's error, and each is one that the document declares, in the form that it says.

What is drawn is the same on every machine, so a failure comes again. More of them: ``make test-long``.
"""

from collections.abc import Iterator

import pytest
import requests
import schemathesis
from guarded import token
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from served import served
from test_api_trials import finish, result

from mudman import presets
from mudman.results import Outcome
from service.app import create_app
from service.store import leases, studies
from service.store.settings import Settings
from service.store.states import Action

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DOCUMENT = create_app(Settings(database_url="postgresql:///none?host=/nowhere")).openapi()
# What deletes comes last.
OPERATIONS = sorted(
    ((method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods),
    key=lambda one: (one[0] == "DELETE", one[1], one[0]),
)
CONFIG = schemathesis.Config.from_dict({"generation": {"codec": "utf-8", "with-security-parameters": False}})
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)


@pytest.fixture(scope="module")
def server(database, data_root) -> Iterator[tuple[str, requests.Session]]:
    more = {"requests_per_minute": 0, "dispatcher_poll": 1000}  # the dispatcher below lives throughout
    app = create_app(Settings(database_url=database.url, data_root=data_root, access="tokens", **more))
    with database.begin() as session:
        leases.seen(session, "dispatcher-1", "here", 1)
    with served(app, log_level="critical") as address, requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {token(database, 'root', 'admin')}"
        yield address, session


@pytest.fixture(scope="module")
def there(server, database) -> dict[str, list[str]]:
    """Ids of what is there: studies queued, running, completed and failed, with trials of every kind; comparisons."""
    url, session = server
    ends = {
        "queued": (),
        "running": (Action.PREPARE, Action.RUN),
        "paused": (Action.PREPARE, Action.RUN, Action.PAUSE),
        "completed": (Action.PREPARE, Action.RUN, Action.COMPLETE),
        "cancelled": (Action.CANCEL,),
    }
    made = []
    for name, actions in ends.items():
        body = {"preset": "quickstart", "overrides": {"name": name}}
        study_id = session.post(f"{url}/studies", json=body).json()["id"]
        with database.begin() as begun:
            for action in actions:
                studies.change_state(begun, study_id, action)
        if name != "queued":
            finish(database, study_id, 0, result(Outcome.VALID, 3.0, log="words"))
            finish(database, study_id, 1, result(Outcome.OVER_RETAIN_BUDGET, overrun=0.02, stopped_at_pass=30))
            finish(database, study_id, 2, result(Outcome.ERROR))
            finish(database, study_id, 3, result(Outcome.VALID, 3.5), chosen={"unlearning_rate": 0.1, "fork_every": 7})
        made.append(study_id)
    for scope in ("read", "submit", "admin"):
        token(database, "somebody", scope)
    document = presets.load("quickstart") | {"variants": {"sign": {}, "no_mask": {"method.mask": "none"}}}
    compared = [
        session.post(f"{url}/comparisons", json=document | {"name": name}).json() for name in ("compared", "again")
    ]
    return {
        "study_id": [*made, compared[0]["variants"][0]["study"], "st_AAAAAAAAAAAAAAAA"],
        "comparison_id": [one["id"] for one in compared],
        "ordinal": ["0", "1", "2", "3", "99"],
        "token_id": [one["id"] for one in session.get(f"{url}/tokens?owner=somebody").json()["items"]],
    }


def fuzz(server, there, method: str, path: str, mode: GenerationMode, examples: int) -> int:
    """Cases that were sent."""
    url, session = server
    operation, sent = SCHEMA[path][method.lower()], 0
    ids = there | ({"name": [*presets.names(), "nothing"]} if path == "/presets/{name}" else {})
    parts = {name: st.sampled_from(known) for name, known in ids.items() if f"{{{name}}}" in path}

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), known=st.fixed_dictionaries(parts), real=st.booleans())
    def run(case, known, real):
        nonlocal sent
        if real or mode is GenerationMode.POSITIVE:
            case.path_parameters = {**(case.path_parameters or {}), **known}
        if "event-stream" in str((case.headers or {}).get("accept", "")):
            return  # it would not end
        answer = case.call(base_url=url, session=session, timeout=30)
        case.validate_response(answer, checks=CHECKS)
        sent += 1

    run()
    return sent


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
def test_no_request_breaks_it_or_is_answered_as_nobody_said(server, there, method, path):
    sent = [fuzz(server, there, method, path, mode, 25) for mode in GenerationMode if can(method, path, mode)]
    assert sum(sent) > 0


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
def test_nor_do_very_many(server, there, method, path):
    sent = [fuzz(server, there, method, path, mode, 300) for mode in GenerationMode if can(method, path, mode)]
    assert sum(sent) > 0


def can(method: str, path: str, mode: GenerationMode) -> bool:
    """Whether there is something to be wrong about: whatever stands in a path is text."""
    described = DOCUMENT["paths"][path][method.lower()]
    parameters = described.get("parameters", [])
    texts = [one for one in parameters if one["in"] == "path" and one["schema"].get("type") == "string"]
    return mode is GenerationMode.POSITIVE or len(parameters) > len(texts) or "requestBody" in described
