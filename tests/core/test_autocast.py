"""What a card makes of ``compute: bfloat16``, on the CPU: every method runs where torch picks the types of products."""

from collections.abc import Iterator

import pytest
import torch
from method_samples import SAMPLES
from short_runs import FORGET, RETAIN
from small_models import identical, small_model, snapshot

import mudman
from mudman.engine import Evaluation
from mudman.evals.loss import token_losses
from mudman.lora import attach, folded
from mudman.specs import MethodSpec, parse_as
from mudman.specs.components import LoraSpec

LOOPS = 4


@pytest.fixture(autouse=True)
def _as_on_a_card() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        yield


def changed(model, before: dict[str, torch.Tensor]) -> bool:
    """Whether the model has other weights, all of them numbers of the same type."""
    after = snapshot(model)
    assert all(weight.isfinite().all() and weight.dtype == torch.float32 for weight in after.values())
    return not identical(after, before)


@pytest.mark.parametrize(
    ("name", "family"), [(name, family) for name, sample in SAMPLES.items() for family in sample.families]
)
def test_every_method(name, family):
    config = SAMPLES[name].spec()
    model = small_model(family)
    before = snapshot(model)
    passes = LOOPS * parse_as(MethodSpec, config).passes_per_loop()
    evaluation = Evaluation(FORGET[:1], RETAIN[:1])
    record = mudman.unlearn(model, FORGET, RETAIN, config, passes, evaluation=evaluation, trace=True).record
    assert not record.diverged
    assert changed(model, before)


@pytest.mark.parametrize("family", ["llama", "neox"])
@pytest.mark.parametrize("more", [{}, {"retain": True}, {"lora": {"rank": 2}}], ids=str)
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_an_attack(family, more, large, monkeypatch):
    if large:
        monkeypatch.setattr("mudman.sizes.LARGE", 0)
    model = small_model(family)
    before = snapshot(model)
    evaluation = Evaluation(FORGET[:1], RETAIN[:1])
    retain = RETAIN if "retain" in more else None
    attack = {"rate": 0.05, "passes": 8, **more}
    assert not mudman.relearn(model, FORGET, attack, retain, evaluation=evaluation).record.diverged
    assert changed(model, before)


def test_losses_of_tokens():
    assert torch.tensor(token_losses(small_model("llama"), FORGET[:1])).isfinite().all()


def test_adapters_are_folded_in_the_type_of_the_weights():
    model = small_model("llama")
    adapters = attach(model, ["lm_head"], LoraSpec(rank=2), seed=0)
    torch.nn.init.normal_(adapters.adapters[0].b)
    weight = folded(model)["lm_head.weight"]
    adapters.merge()
    assert torch.equal(weight, model.lm_head.weight)
