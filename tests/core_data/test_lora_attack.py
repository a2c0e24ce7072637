"""Relearning with adapters: they alone are trained, evaluation sees them, and the next trial does not."""

import pytest
import torch
from studies import NEOX, SMALL, small

import mudman
from mudman.bench import bench_for, device_for
from mudman.engine import relearn
from mudman.lora import detach_all
from mudman.precision import computing
from mudman.results import Outcome
from mudman.specs import parse

ATTACK = {"rate": 0.1, "passes": 40, "check_every": 10, "lora": {"rank": 4}}


@pytest.fixture(params=[{}, NEOX], ids=["llama", "neox"])
def bench(request):
    spec = small({"attack.passes": 40, **request.param})
    bench = bench_for(spec)
    bench.restore()
    with computing(spec.model, device_for(spec)):  # as the losses of the untouched model were
        yield bench
    bench.restore()


def attacked(bench, retain=None):
    torch.manual_seed(0)
    # On the held-out batch itself, so that forty passes show.
    return relearn(bench.model, bench.evaluation.forget, ATTACK, retain, evaluation=bench.evaluation).record


def test_adapters_alone_are_trained_on_all_linear_layers_but_the_head(bench):
    linear = {name for name, module in bench.model.named_modules() if isinstance(module, torch.nn.Linear)}
    head = next(n for n, m in bench.model.named_modules() if m is bench.model.get_output_embeddings())
    record = attacked(bench)

    assert {name.rsplit(".", 2)[0] for name in record.intervened} == linear - {head}
    assert record.curve.forget_loss[-1] < record.curve.forget_loss[0]
    assert record.passes_booked == record.passes_made == 40
    adapted = bench.evaluation.point(bench.model, 40)
    assert adapted.forget_loss == record.curve.forget_loss[-1]  # they stay, for whatever is measured next
    detach_all(bench.model)
    for mine, untouched in zip(bench.model.parameters(), bench.snapshot, strict=True):
        assert torch.equal(mine, untouched)


def test_the_same_seed_draws_the_same_adapters(bench):
    first = attacked(bench)
    bench.restore()
    assert attacked(bench) == first


def test_restoring_takes_adapters_out(bench):
    attacked(bench)
    bench.restore()
    assert bench.evaluation.point(bench.model, 0) == bench.untouched


def test_retain_steps_can_be_mixed_in(bench):
    record = attacked(bench, retain=list(bench.retain.evaluation))
    assert (record.loops, record.passes_booked) == (10, 40)


def test_it_follows_circuit_breakers_that_have_adapters_themselves():
    method = {
        "type": "circuit_breakers", "lora": {"rank": 2}, "target_modules": ["gate_proj"], "unlearning_rate": 1e-4,
    }  # fmt: skip
    spec = parse({**SMALL, "method": method, "attack": ATTACK | {"passes": 8}})
    first, second = mudman.run_trial(spec, {}), mudman.run_trial(spec, {})
    assert first.outcome is Outcome.VALID
    assert first.unlearning == second.unlearning
    assert first.relearning == second.relearning
