"""What the two phases refuse says which argument is wrong, and the model stays as it was."""

import re

import pytest
import torch
from short_runs import FORGET, RETAIN, method, model_of
from small_models import VOCABULARY, identical, snapshot

import mudman
from mudman.faults import FieldFault, SpecError

STRANGE = FORGET[0].clone()
STRANGE[1, 2] = VOCABULARY
NEGATIVE = FORGET[0].clone()
NEGATIVE[0, 0] = -100

BATCHES = {
    "nothing": (None, "is of type NoneType"),
    "a number": (3, "is of type int"),
    "one batch alone": (FORGET[0], r"batch 0 is a int64 tensor of shape \[9\]"),
    "texts": (["a text"], "batch 0 is of type str"),
    "no rows": ([FORGET[0][:0]], r"batch 0 is a int64 tensor of shape \[0, 9\]"),
    "one token": ([FORGET[0][:, :1]], r"shape \[3, 1\]"),
    "floats": ([FORGET[0].float()], "batch 0 is a float32 tensor"),
    "an unknown token": ([STRANGE], f"batch 0 holds token {VOCABULARY}, and the model knows {VOCABULARY} tokens"),
    "a negative token": ([NEGATIVE], "batch 0 holds token -100"),
}


def refusal(call) -> FieldFault:
    """The one fault of ``call(model)``, which has left the model alone."""
    model = model_of()
    with pytest.raises(SpecError) as caught:
        call(model)
    (fault,) = caught.value.faults
    assert fault.remedy
    assert identical(snapshot(model), snapshot(model_of()))
    return fault


@pytest.mark.parametrize("argument", ["forget", "retain"])
@pytest.mark.parametrize("case", BATCHES)
def test_batches_that_are_none(case, argument):
    given, words = BATCHES[case]
    batches = {"forget": FORGET, "retain": RETAIN, argument: given}
    attack = {"rate": 0.1, "passes": 4, "retain": True}
    calls = [lambda model: mudman.unlearn(model, **batches, method=method(), passes=10)]
    if not (argument == "retain" and given is None):  # the attack has an own word for it
        calls.append(lambda model: mudman.relearn(model, **batches, attack=attack))
    for call in calls:
        fault = refusal(call)
        assert fault.path == argument
        assert re.search(words, fault.message)


def test_a_later_batch_is_looked_at_too():
    with pytest.raises(SpecError, match="forget: batch 1 holds token 48"):
        mudman.unlearn(model_of(), [FORGET[0], STRANGE], RETAIN, method(), 10)


@pytest.mark.parametrize("passes", [-5, 10.0, "10", None])
def test_a_budget_that_is_none(passes):
    fault = refusal(lambda model: mudman.unlearn(model, FORGET, RETAIN, method(), passes))
    assert (fault.path, fault.remedy) == ("passes", "give a number from 0 on")


@pytest.mark.parametrize("often", [0, -1, 1.5])
def test_checks_that_never_come(often):
    fault = refusal(lambda model: mudman.unlearn(model, FORGET, RETAIN, method(), 10, check_every=often))
    assert (fault.path, fault.remedy) == ("check_every", "give a number from 1 on")


def test_a_model_that_hides_its_embedding_is_served():
    model = model_of()
    model.get_input_embeddings = lambda: (_ for _ in ()).throw(NotImplementedError)
    _, record = mudman.unlearn(model, FORGET, RETAIN, method(), 10)
    assert record.passes_booked == 10
    assert torch.isfinite(next(model.parameters())).all()
