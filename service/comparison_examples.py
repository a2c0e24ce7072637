"""Examples in the OpenAPI document: the quickstart study as a comparison. Its numbers are made up."""

from typing import Any

from mudman import presets
from mudman.specs.comparison import parse_comparison
from service import table_formats
from service.bodies import JSON, YAML
from service.comparison_table import TableView
from service.cost import comparison_dry_run
from service.figures.names import OfComparison
from service.statistics_examples import BUNDLE, STUDY_EXPORT

_ID = "cp_pV3nW8sYc0aQk7Lm"
_HERE = f"/comparisons/{_ID}"
_DOCUMENT = presets.load("quickstart") | {
    "name": "masks",
    "variants": {"sign": {}, "no_mask": {"method.mask": "none"}, "hot": {"method.unlearning_rate": 100.0}},
    "baseline": True,
}
_DRY_RUN = comparison_dry_run(parse_comparison(_DOCUMENT)).model_dump()
_STUDIES = {
    "sign": "st_Jb2kSxq0V9tLw3aZ",
    "no_mask": "st_a81Zt0pQwXy5eRfD",
    "hot": "st_5tGb7Yhn2Ujm9Ikl",
    "baseline": "st_0kLm9sTq3VbNc7Gh",
}

_YAML_TEXT = """name: masks
model: {id: tiny-llama}
forget: {corpus: python-functions}
retain: {corpus: wikipedia}
method:
  type: mudman
  target_modules: [gate_proj]
  unlearning_rate: {low: 1e-3, high: 2e-2, log: true}
attack: {rate: 1e-2, passes: 60, check_every: 10}
budget: {unlearn_passes: 150, trials: 8}
variants:
  sign: {}
  no_mask: {method.mask: none}
"""


def _submission() -> dict[str, Any]:
    preset = {"$ref": "#/components/schemas/ComparisonPresetRequest"}
    whole = {
        "type": "object",
        "description": "A StudySpec with `variants` (dotted overrides by name) and, optionally, `baseline`.",
        "required": ["name", "variants"],
        "properties": {
            "variants": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object"}},
            "baseline": {"type": "boolean", "default": True, "description": "Add a study without unlearning."},
        },
    }
    either = {"anyOf": [whole, preset]}
    return {
        "required": True,
        "description": "A study spec with variants, or the name of a preset that is a comparison, with overrides.",
        "content": {
            JSON[0]: {
                "schema": either,
                "examples": {"comparison": {"summary": "A whole comparison", "value": _DOCUMENT}},
            },
            YAML[0]: {
                "schema": either,
                "examples": {"comparison": {"summary": "A comparison in YAML", "value": _YAML_TEXT}},
            },
        },
    }


SUBMISSION = _submission()

_HEAD = {
    "id": _ID,
    "name": "masks",
    "owner": "default",
    "preset": None,
    "labels": {"preset": "quickstart"},
    "state": "running",
    "created_at": "2026-11-21T09:00:00Z",
    "links": {
        "self": _HERE,
        "table": f"{_HERE}/table",
        "export": f"{_HERE}/export",
        "figures": {str(name): f"{_HERE}/figures/{name}" for name in OfComparison},
    },
}


def _variant(name: str, state: str, trials: int, budget: int, best: float | None) -> dict[str, Any]:
    return {
        "variant": name,
        "study": _STUDIES[name],
        "state": state,
        "progress": {"trials": trials, "budget": budget, "running": int(state == "running"), "best_value": best},
        "problem": None,
        "link": f"/studies/{_STUDIES[name]}",
    }


_VARIANTS = [
    _variant("sign", "running", 6, 10, 3.91),
    _variant("no_mask", "running", 5, 10, 2.9),
    _variant("hot", "running", 5, 10, None),
    _variant("baseline", "completed", 1, 1, 2.02),
]
_PROGRESS = {"trials": 17, "budget": 31, "running": 3, "finished": 1, "studies": 4, "eta_seconds": 45.5}
COMPARISON = _HEAD | {"document": _DOCUMENT, "progress": _PROGRESS, "variants": _VARIANTS}
PAGE = {"items": [_HEAD | {"studies": 4, "progress": {"trials": 17, "budget": 31}}], "next": None}


def changed(state: str) -> dict[str, Any]:
    """The example comparison after all its studies but the baseline, which had completed, came into this state."""
    variants = [one if one["variant"] == "baseline" else one | {"state": state} for one in _VARIANTS]
    reason = f"Study {_STUDIES['baseline']} is completed: it is left as it is."
    changes = [
        {"variant": one["variant"], "study": one["study"], "changed": True, "reason": None} for one in variants[:-1]
    ]
    changes.append({"variant": "baseline", "study": _STUDIES["baseline"], "changed": False, "reason": reason})
    whole = "running" if state == "queued" else state
    return COMPARISON | {"state": whole, "variants": variants, "changes": changes}


_ADDED = {"no_adversary": {"method.adversary": {"type": "none"}}}
VARIANTS = {
    "required": True,
    "description": "Variants by name, each as dotted overrides of the comparison's base.",
    "content": {
        JSON[0]: {
            "schema": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object"}},
            "examples": {"one": {"value": _ADDED}},
        },
        YAML[0]: {
            "schema": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object"}},
            "examples": {"one": {"value": "no_adversary: {method.adversary: {type: none}}\n"}},
        },
    },
}
ADDED = {
    200: {
        "description": "All of them were there already",
        "content": {
            JSON[0]: {"schema": {"$ref": "#/components/schemas/ComparisonView"}, "example": COMPARISON},
        },
    },
    201: {"description": "Added", "content": {JSON[0]: {"example": COMPARISON}}},
}
RETRY = {
    "required": False,
    "content": {
        kind: {
            "schema": {"$ref": "#/components/schemas/ComparisonRetry"},
            "examples": {"whatever_failed": {"value": {}}, "errors": {"value": {"outcomes": ["error"]}}},
        }
        for kind in (JSON[0], YAML[0])
    },
}
CREATED = {
    200: {
        "description": "The same comparison was there already, and studies of it that failed or were cancelled are "
        "queued again; or, with `dry_run`, it is valid",
        "content": {
            JSON[0]: {
                "schema": {
                    "anyOf": [
                        {"$ref": "#/components/schemas/ComparisonView"},
                        {"$ref": "#/components/schemas/ComparisonDryRun"},
                    ]
                },
                "examples": {"repeated": {"value": COMPARISON}, "dry_run": {"value": _DRY_RUN}},
            }
        },
    },
    201: {
        "description": "Created",
        "headers": {"Location": {"description": "Address of the comparison", "schema": {"type": "string"}}},
        "content": {JSON[0]: {"example": COMPARISON}},
    },
}


def _row(variant: str, state: str, asked: int, outcomes: dict[str, int], **found: Any) -> dict[str, Any]:
    empty = ("result", "reason", "to_reference", "to_baseline", "per_cent_of_reference", "reference_lead", "verdict")
    nothing = dict.fromkeys(empty)
    count = sum(outcomes.values())
    seconds, passes = 6.3 * count, 140 * count
    return {
        "variant": variant,
        "study": _STUDIES[variant],
        "state": state,
        **nothing,
        "published": None,
        "outcomes": outcomes,
        "trials": asked,
        "spent": {
            "gpu_seconds": 0.0,
            "cpu_seconds": seconds,
            "passes_booked": passes,
            "passes_made": passes,
            "passes_skipped": 0,
        },
        **found,
    }


def _result(n: int, mean: float, error: float | None, published: float, best: float) -> dict[str, Any]:
    middle = {"median": mean, "best": best, "top10_mean": mean}
    errors = {"standard_error": error, "effective_n": float(n), "standard_error_published": published}
    return {"n": n, "last": 5, "mean": mean, **errors, **middle}


_TABLE = {
    "comparison": _ID,
    "name": "masks",
    "metric": "forget_loss",
    "direction": "maximize",
    "reference": "sign",
    "rows": [
        _row(
            "sign",
            "running",
            10,
            {"valid": 5, "over_retain_budget": 1},
            result=_result(5, 3.5, 0.1, 0.09, 3.91),
            to_baseline={"value": 1.5, "standard_error": 0.1},
            per_cent_of_reference=100.0,
            verdict="reference",
        ),
        _row(
            "no_mask",
            "running",
            10,
            {"valid": 5},
            result=_result(5, 2.6, 0.2, 0.18, 2.9),
            to_reference={
                "value": -0.9,
                "standard_error": 0.22,
                "per_cent": -25.7,
                "low": -1.5,
                "high": -0.3,
                "per_cent_low": -42.9,
                "per_cent_high": -8.6,
                "p_value": 0.012,
                "p_adjusted": 0.012,
            },
            to_baseline={"value": 0.6, "standard_error": 0.2},
            per_cent_of_reference=40.0,
            reference_lead=34.6,
            verdict="worse",
        ),
        _row(
            "hot",
            "running",
            10,
            {"diverged": 5},
            reason="no trial is valid; the study is running, finished trials: 5 diverged",
        ),
    ],
    "baseline": _row("baseline", "completed", 1, {"valid": 1}, result=_result(1, 2.0, None, 0.0, 2.0)),
    "original": {"value": 2.34, "forget_loss": 2.34, "retain_loss": 3.74},
    "bootstrap": {"seed": 0, "resamples": 10000, "confidence": 0.95},
    "equal_compute": None,
}
_READ = TableView.model_validate(_TABLE)
TABLE = {
    JSON[0]: {"example": _TABLE},
    table_formats.MARKDOWN: {"schema": {"type": "string"}, "example": table_formats.markdown(_READ)},
    table_formats.CSV: {"schema": {"type": "string"}, "example": table_formats.as_csv(_READ)},
}
EXPORT = {
    JSON[0]: {
        "example": {
            "format": "mudman-comparison",
            "version": 1,
            "comparison": {
                **{name: _HEAD[name] for name in ("id", "name", "owner", "preset", "created_at")},
                "document": _DOCUMENT,
            },
            "table": _TABLE,
            "studies": [STUDY_EXPORT | {"study": STUDY_EXPORT["study"] | {"name": "masks/sign", "variant": "sign"}}],
        }
    },
    **BUNDLE,
}
