"""Small twins run offline as they are packaged; here with budgets of a few loops."""

import pytest

from mudman import presets, run_trial
from mudman.results import Outcome
from mudman.specs import parse

FEW = {"budget.unlearn_passes": 12, "attack.passes": 4, "attack.check_every": 2, "batch.evaluation": 1}


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("ablations-pythia-python-small:tar", {}),
        ("wmdp-llama-small:mudman", {"budget.unlearn_passes": 10, "evaluations": [{"type": "cloze", "limit": 8}]}),
    ],
)
def test_one_trial(name, overrides):
    spec = parse(presets.load(name, {**FEW, **overrides}))
    middle = {path: number.middle() for path, number in spec.search_space().items()}

    result = run_trial(spec, middle | {"unlearning_rate": spec.search_space()["unlearning_rate"].low})

    assert result.outcome is Outcome.VALID, result.fault
    assert result.passes_booked == spec.budget.unlearn_passes + 4
    assert result.value is not None
