"""Small studies, models and corpora that the tests share."""

import json
from pathlib import Path

from mudman.presets import merged
from mudman.specs import StudySpec, parse

SMALL = {
    "name": "small",
    "model": {"id": "tiny-llama"},
    "forget": {"corpus": "python-functions"},
    "retain": {"corpus": "wikipedia"},
    "batch": {"size": 2, "length": 16},
    "method": {
        "type": "mudman",
        "target_modules": ["gate_proj"],
        "unlearning_rate": {"low": 1e-5, "high": 1.0, "log": True},
        "retaining_rate": 1e-2,
    },
    "attack": {"rate": 0.01, "passes": 8, "check_every": 4},
    "budget": {"unlearn_passes": 20, "trials": 2},
    "constraint": {"retain_loss_increase": 0.5, "check_every": 10},
}
NEOX = {"model.id": "tiny-neox", "method.target_modules": ["dense_h_to_4h"]}


def small(overrides: dict | None = None) -> StudySpec:
    return parse(merged(SMALL, overrides or {}))


def write_lines(path: Path, texts: list[str], column: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({column: text}) + "\n" for text in texts))
    return path


def sentences(count: int, words: int = 40) -> list[str]:
    """Different texts of whole words, in no language."""
    return [" ".join(f"w{(7 * i + j * j) % 97}" for j in range(words)) for i in range(count)]
