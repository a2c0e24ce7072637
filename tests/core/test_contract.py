"""What every method promises, checked for each entry of ``METHODS``: a new one needs a sample (method_samples.py)."""

import contextlib
import functools
import io
import itertools
from typing import get_args

import pytest
import torch
from method_samples import SAMPLES
from short_runs import FORGET, RETAIN
from small_models import identical, small_model, snapshot

import mudman
from mudman.methods import METHODS
from mudman.passes import Passes
from mudman.specs import MethodSpec, parse_as

LOOPS = 4
F32, BF16 = torch.float32, torch.bfloat16
every_case = pytest.mark.parametrize(
    ("name", "family"), [(name, family) for name, sample in SAMPLES.items() for family in sample.families]
)
every_sample = pytest.mark.parametrize("name", SAMPLES)
both_types = pytest.mark.parametrize("dtype", [F32, BF16], ids=["float32", "bfloat16"])


def model_of(family: str, dtype=F32, seed: int = 0) -> torch.nn.Module:
    model = small_model(family, seed).to(dtype)
    model(input_ids=FORGET[0], output_hidden_states=True)  # transformers hangs its own recorders on a model here
    return model


@functools.cache
def start(family: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Weights of ``model_of`` before anything is done to it."""
    return snapshot(model_of(family, dtype))


def per_loop(settings: dict) -> int:
    return parse_as(MethodSpec, settings, "method").passes_per_loop()


def run(name: str, model: torch.nn.Module, loops: int = LOOPS, on_pass=None, trace: bool = False, **changes):
    settings = SAMPLES[name].spec(**changes)
    passes = loops * per_loop(settings)
    record = mudman.unlearn(model, FORGET, RETAIN, settings, passes, on_pass=on_pass, trace=trace).record
    return snapshot(model), record


@functools.cache
def plain_run(name: str, family: str, dtype: torch.dtype):
    """Weights and record of one run as the sample has it."""
    return run(name, model_of(family, dtype))


@functools.cache
def traced_run(name: str):
    """Likewise, with a trace."""
    return run(name, model_of(SAMPLES[name].families[0]), trace=True)


def started(name: str, model: torch.nn.Module, **changes):
    """The method on the model, which is made ready as a phase does it."""
    spec = parse_as(MethodSpec, SAMPLES[name].spec(**changes), "method")
    method = METHODS[spec.type](model, spec, Passes(model))
    model.train().requires_grad_(False)
    for weight in method.weights:
        weight.requires_grad_(True)
    return method


def fittings(model: torch.nn.Module) -> dict[str, list]:
    """Everything that could have been left hanging on a model."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    parameters = model.named_parameters
    return {
        "hooks": [(name, kind, len(getattr(m, kind))) for name, m in model.named_modules() for kind in hooks],
        "forwards": [name for name, m in model.named_modules() if "forward" in vars(m)],
        "gradient hooks": [name for name, p in parameters() if p._backward_hooks or p._post_accumulate_grad_hooks],
        "modules": [name for name, _ in model.named_modules()],
        "storage": [p.data_ptr() for p in model.parameters()],
    }


def finite(weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.isfinite(w).all() for w in weights.values())


def unchanged(model: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    """Bit for bit, adapters apart."""
    after = snapshot(model)
    return identical({name: after[name] for name in before}, before)


# ------------------------------------------------------------------------------------------------- the registry


def test_every_method_has_a_sample():
    assert {sample.settings["type"] for sample in SAMPLES.values()} == set(METHODS)


def test_every_spec_has_its_method():
    union, *_ = get_args(MethodSpec)
    types = {get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(union)}
    assert types == {*METHODS, "none"}


# --------------------------------------------------------------------------------------------------- the contract


@both_types
@every_case
def test_matched_parameters_alone_move(name, family, dtype):
    before = start(family, dtype)
    weights, record = plain_run(name, family, dtype)
    moved = {name for name, w in weights.items() if name not in before or not torch.equal(w, before[name])}
    assert moved, "the sample unlearns something"
    assert moved <= set(record.intervened)
    assert finite(weights)
    assert {w.dtype for w in weights.values()} == {dtype}


@both_types
@every_sample
def test_neutral_settings_change_nothing(name, dtype):
    sample = SAMPLES[name]
    model = model_of(sample.families[-1], dtype)
    run(name, model, **sample.neutral)
    assert unchanged(model, start(sample.families[-1], dtype))


@every_sample
def test_same_seed_same_weights(name):
    family = SAMPLES[name].families[0]
    model = model_of(family)
    torch.manual_seed(99)  # what else draws from the global generator has no say
    assert identical(run(name, model)[0], plain_run(name, family, F32)[0])


@every_sample
def test_a_trace_changes_nothing(name):
    family = SAMPLES[name].families[0]
    weights, record = traced_run(name)
    assert identical(weights, plain_run(name, family, F32)[0])
    assert record.trace.loop == tuple(range(LOOPS))


@every_sample
def test_a_trace_tells_of_every_loop_what_the_method_has(name):
    sample = SAMPLES[name]
    _, record = traced_run(name)
    start_up = parse_as(MethodSpec, sample.spec(), "method").start_up_loops()
    for loop in range(LOOPS):
        told = {field for field, column in record.trace if field != "loop" and column[loop] is not None}
        at_start = sample.traced_at_start is not None and loop < start_up
        assert told == set(sample.traced_at_start if at_start else sample.traced), loop


@both_types
@every_sample
def test_state_survives_save_and_load(name, dtype):
    """After every loop all is saved, and goes on with new objects on a model of other weights."""
    family = SAMPLES[name].families[0]
    streams = itertools.cycle(FORGET), itertools.cycle(RETAIN)
    model = model_of(family, dtype)
    method = started(name, model)
    for loop in range(LOOPS):
        method.step(*streams)
        file = io.BytesIO()
        torch.save({"weights": model.state_dict(), "method": method.state()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        model = model_of(family, dtype, seed=1 + loop)
        method = started(name, model)
        model.load_state_dict(saved["weights"])
        method.load(saved["method"])
    method.finish()
    assert identical(snapshot(model), plain_run(name, family, dtype)[0])


@every_sample
def test_passes_are_booked_as_stated(name):
    sample = SAMPLES[name]
    _, record = plain_run(name, sample.families[0], F32)
    booked = LOOPS * sample.booked
    assert (record.loops, record.passes_booked) == (LOOPS, booked)
    assert record.passes_made == (booked if sample.made is None else sample.made)


@every_case
def test_nothing_is_left_behind(name, family):
    model = model_of(family)
    before = fittings(model)
    run(name, model, 2)
    if not SAMPLES[name].adapters_stay:
        assert fittings(model) == before


class Stopped(Exception):
    pass


@every_sample
def test_a_stop_in_any_pass_leaves_the_model_its_own_weights(name):
    """With neutral settings nothing but a foreign weight could differ: an adversary's, say."""
    sample, model = SAMPLES[name], model_of(SAMPLES[name].families[0])
    weights, left = snapshot(model), fittings(model)
    loops, last, made = 2, 0, None
    while made is None:
        last += 1
        calls = itertools.count(1)

        def stop(passes, point, calls=calls, last=last):
            if point is None and next(calls) == last:
                raise Stopped

        with contextlib.suppress(Stopped):
            made = run(name, model, loops, stop, **sample.neutral)[1].passes_made
        assert unchanged(model, weights), last
        if sample.adapters_stay:
            model = model_of(sample.families[0])
        else:
            assert fittings(model) == left, last
    assert last == made + 1


@every_sample
def test_vanished_gradients_are_no_nan(name):
    """With an output head of zeros nothing that is taken from the logits has a gradient."""
    model = model_of(SAMPLES[name].families[0])
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    weights, _ = run(name, model, 3)
    assert finite(weights)


@both_types
@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if sample.no_retaining is not None])
def test_paused_without_a_retain_step_changes_nothing(name, dtype):
    sample = SAMPLES[name]
    model = model_of(sample.families[0], dtype)
    before = snapshot(model)
    method = started(name, model, **sample.no_retaining)
    streams = itertools.cycle(FORGET), itertools.cycle(RETAIN)
    for _ in range(4):
        method.step(*streams, paused=True)
    assert unchanged(model, before)
    assert method.passes.made <= 4 * sample.booked
