"""What the objective comes to on the model as it came."""

import pytest

from mudman import presets
from mudman.specs import parse
from service.original import original

MEASUREMENTS = [
    {"name": "kl", "protocol": "kl", "when": "untouched", "value": 0.0},
    {"name": "gene-ontology-cloze", "protocol": "cloze", "when": "attacked", "value": 0.5},
    {"name": "gene-ontology-cloze", "protocol": "cloze", "when": "untouched", "value": 0.75},
    {"name": "wmdp-bio", "protocol": "lm-evaluation-harness", "when": "untouched", "value": 0.1},
    {"name": "mmlu", "protocol": "published", "when": "untouched", "value": 0.2},
    {"name": "wmdp-bio", "protocol": "published", "when": "untouched", "value": 0.472},
]
PREPARED = {"initial_forget_loss": 2.5, "initial_retain_loss": 3.5, "baseline": {"measurements": MEASUREMENTS}}
CLOZE = {
    "evaluations": ["cloze"],
    "objective": {"metric": "cloze_accuracy", "reduce": "final", "direction": "minimize"},
}


@pytest.mark.parametrize(
    ("document", "value"),
    [
        (presets.load("quickstart"), 2.5),
        (presets.load("quickstart", CLOZE), 0.75),
        (presets.load("wmdp-llama", variant=presets.about("wmdp-llama").variants[0]), 0.472),
    ],
)
def test_by_the_measurement_that_the_objective_is_taken_from(document: dict, value: float):
    spec = parse(document)
    assert original(spec, PREPARED) == value
    assert original(spec, None) is None
    assert original(spec, {"baseline": None}) is None
