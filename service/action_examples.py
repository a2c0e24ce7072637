"""Examples of what is done to a study, in the OpenAPI document."""

from typing import Any

from service.bodies import JSON, YAML
from service.examples import STUDY

_ID = STUDY["id"]


def study(state: str) -> dict[str, Any]:
    """The example study, in this state."""
    ended = "2026-11-21T09:02:00Z" if state == "cancelled" else None
    return STUDY | {"state": state, "finished_at": ended}


def body(kind: str, required: bool, **examples: Any) -> dict[str, Any]:
    described = {
        "schema": {"$ref": f"#/components/schemas/{kind}"},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"required": required, "content": {JSON[0]: described, YAML[0]: described}}


EXTENSION = body("Extension", True, to_twenty={"trials": 20})
RETRY = body("Retry", False, whatever_failed={}, errors={"outcomes": ["error"]}, two_of_them={"ordinals": [3, 7]})
ENQUEUE = body(
    "Enqueue",
    True,
    one={"hyperparameters": {"unlearning_rate": 0.01, "fork_every": 12}},
    several={"trials": [{"unlearning_rate": 0.01}, {"unlearning_rate": 0.02}]},
)
WIDEN = body(
    "Widening",
    False,
    what_is_saturated={},
    one_range={
        "ranges": {"unlearning_rate": {"low": 1e-3, "high": 1.0, "log": True}},
        "trials": 40,
        "warm_start": 5,
    },
)
WIDENED = study("queued") | {"name": "quickstart-widened", "labels": {"preset": "quickstart", "widened_from": _ID}}
ENQUEUED = {
    "study": _ID,
    "waiting": [
        {
            "sequence": 1,
            "hyperparameters": {"unlearning_rate": 0.01, "fork_every": 12},
            "created_at": "2026-11-21T09:00:40Z",
        }
    ],
}
