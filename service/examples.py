"""Examples in the OpenAPI document: the packaged quickstart study as the API shows it. Its numbers are made up."""

from typing import Any

from mudman import presets
from mudman.specs import SPEC_VERSION, parse
from service.bodies import JSON, YAML
from service.confirmation_example import CONFIRMATION
from service.cost import cost_of
from service.figures.names import OfStudy

_ID = "st_Jb2kSxq0V9tLw3aZ"
_HERE = f"/studies/{_ID}"
_DOCUMENT = presets.load("quickstart")
_SPEC = parse(_DOCUMENT)
_FULL = _SPEC.model_dump(mode="json")
_HYPERPARAMETERS = {
    "unlearning_rate": 0.0043,
    "retaining_rate": 0.021,
    "retain_momentum": 0.81,
    "adversary_rate": 0.0087,
    "fork_every": 12,
}

_PRESET_REQUEST = {"preset": "quickstart", "overrides": {"name": "quickstart-8", "budget.trials": 8}}
_YAML_TEXT = """name: quickstart-8
model: {id: tiny-llama}
forget: {corpus: python-functions}
retain: {corpus: wikipedia}
method:
  type: mudman
  target_modules: [gate_proj]
  unlearning_rate: {low: 1e-3, high: 2e-2, log: true}
attack: {rate: 1e-2, passes: 60, check_every: 10}
budget: {unlearn_passes: 150, trials: 8}
"""


def _submission() -> dict[str, Any]:
    either = {"anyOf": [{"$ref": "#/components/schemas/StudySpec"}, {"$ref": "#/components/schemas/PresetRequest"}]}
    examples = {
        "spec": {"summary": "A whole spec", "value": _DOCUMENT},
        "preset": {"summary": "A preset with overrides", "value": _PRESET_REQUEST},
    }
    return {
        "required": True,
        "description": "A study spec, or the name of a preset with overrides.",
        "content": {
            JSON[0]: {"schema": either, "examples": examples},
            YAML[0]: {"schema": either, "examples": {"spec": {"summary": "A spec in YAML", "value": _YAML_TEXT}}},
        },
    }


SUBMISSION = _submission()
COST = cost_of(_SPEC).model_dump()
DRY_RUN = {"valid": True, "spec": _FULL, "unused": [], "cost": COST}
READY = {"ready": True, "checks": {"database": "ok", "migrations": "ok", "dispatcher": "ok"}}
NOT_READY = {
    "ready": False,
    "checks": {"database": "ok", "migrations": "ok", "dispatcher": "none seen for 10 s: start one"},
}

_HEAD = {
    "id": _ID,
    "name": "quickstart",
    "owner": "default",
    "preset": "quickstart",
    "labels": {"preset": "quickstart"},
    "state": "running",
    "created_at": "2026-11-21T09:00:00Z",
    "started_at": "2026-11-21T09:00:02Z",
    "finished_at": None,
    "links": {
        "self": _HERE,
        **{name: f"{_HERE}/{name}" for name in ("best", "trials", "statistics", "export", "events")},
        "figures": {str(name): f"{_HERE}/figures/{name}" for name in OfStudy},
        "comparison": None,
    },
}
_LIVE = {"ordinal": 5, "attempt": 1, "phase": "unlearn", "passes": 60, "of": 150}
STUDY = _HEAD | {
    "spec": _FULL,
    "unused": [],
    "progress": {
        "trials": 5,
        "budget": 10,
        "running": 1,
        "outcomes": {"valid": 4, "over_retain_budget": 1},
        "eta_seconds": 31.5,
        "best_value": 3.91,
        "live": [_LIVE],
    },
    "lease": {"owner": "dispatcher-1", "epoch": 1, "expires_at": "2026-11-21T09:01:20Z"},
    "problem": None,
    "preparation": None,
}
STUDY_PAGE = {
    "items": [
        _HEAD
        | {
            "model": "tiny-llama",
            "method": "mudman",
            "progress": {"trials": 5, "budget": 10, "running": 1, "best_value": 3.91},
        }
    ],
    "next": None,
}
EVENT_PAGE = {
    "items": [
        {
            "sequence": 1,
            "at": "2026-11-21T09:00:00Z",
            "kind": "created",
            "data": {"name": "quickstart", "owner": "ann"},
        },
        {"sequence": 2, "at": "2026-11-21T09:00:01Z", "kind": "claimed", "data": {"owner": "dispatcher-1", "epoch": 1}},
    ],
    "next": None,
}

_TRIAL = {
    "ordinal": 3,
    "attempt": 1,
    "outcome": "valid",
    "value": 3.91,
    "hyperparameters": _HYPERPARAMETERS,
    "overrun": None,
    "stopped_at_pass": None,
    "seconds": 6.3,
    "started_at": "2026-11-21T09:00:30Z",
    "finished_at": "2026-11-21T09:00:36Z",
}
_RESULT = {
    "outcome": "valid",
    "value": 3.91,
    "unlearning": {"passes": [0, 30], "forget_loss": [2.11, 4.02], "retain_loss": [3.3, 3.34]},
    "relearning": {"passes": [0, 10, 20], "forget_loss": [4.4, 4.1, 3.91], "retain_loss": [3.36, 3.37, 3.39]},
    "passes_booked": 210,
    "seconds": 6.3,
}
_WORKER = {"node": "gpu-node-1", "pid": 4711, "device": "cpu"}
TRIAL_PAGE = {"items": [_TRIAL], "next": None}
TRIAL = _TRIAL | {
    "study": _ID,
    "result": _RESULT,
    "log": "unlearning: 30 loops of 5 passes",
    "progress": None,
    "worker": _WORKER,
    "attempts": [_TRIAL],
}
BEST = {
    "study": _ID,
    "ordinal": 3,
    "attempt": 1,
    "value": 3.91,
    "hyperparameters": _HYPERPARAMETERS,
    "result": _RESULT,
    "baseline": {"outcome": "valid", "value": 2.02, "forget_loss_min": 2.02},
    "initial": {"forget_loss": 2.11, "retain_loss": 3.3},
    "provenance": {
        "spec_hash": _SPEC.identity(),
        "spec_version": SPEC_VERSION,
        "preset": "quickstart",
        "worker": _WORKER,
        "epoch": 1,
    },
    "checkpoint": None,
    "confirmation": CONFIRMATION,
}

_ABOUT = presets.about("quickstart")
_SUMMARY = {
    "name": "quickstart",
    "kind": "study",
    "description": _ABOUT.description,
    "source": None,
    "aliases": [],
    "variants": [],
    "model": "tiny-llama",
    "cost": COST,
}
PRESET_LIST = {"items": [_SUMMARY]}
PRESET = _SUMMARY | {"code_commit": None, "expected": {}, "spec": _DOCUMENT}
