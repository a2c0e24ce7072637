"""The smallest study, and what is wrong with it once it is changed."""

import pytest

from mudman.faults import FieldFault, SpecError
from mudman.presets import merged
from mudman.specs import StudySpec, parse

SMALL = {
    "name": "small",
    "model": {"id": "tiny-llama"},
    "forget": {"corpus": "python-functions"},
    "retain": {"corpus": "wikipedia"},
    "method": {"type": "mudman", "target_modules": ["gate_proj"], "unlearning_rate": 0.01},
    "attack": {"rate": 0.01, "passes": 4},
    "budget": {"unlearn_passes": 10, "trials": 2},
}


def small(**overrides) -> StudySpec:
    return parse(merged(SMALL, {key.replace("__", "."): value for key, value in overrides.items()}))


def faults_of(overrides: dict) -> list[FieldFault]:
    with pytest.raises(SpecError) as caught:
        parse(merged(SMALL, overrides))
    return caught.value.faults
