"""The model is left as it was found, streams are read as promised, wrong input is refused before anything changes."""

import pytest
import torch
from short_runs import ADVERSARIES, FORGET, GRADIENTS, RETAIN, method, model_of, run
from small_models import identical, snapshot

import mudman
from mudman.faults import SpecError

# ------------------------------------------------------------------------------------------------ a tidy model


@pytest.mark.parametrize("adversary", ADVERSARIES, ids=str)
def test_only_intervened_weights_move(adversary):
    before = snapshot(model_of())
    weights, record = run(method(adversary=adversary, representation_loss={}))
    moved = {name for name in before if not torch.equal(weights[name], before[name])}
    assert moved == set(record.intervened)


def state(model) -> dict:
    return {
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "gradient": {name: p.grad is None for name, p in model.named_parameters()},
        "training": {name: m.training for name, m in model.named_modules()},
        "use_cache": model.config.use_cache,
        "storage": {name: p.data_ptr() for name, p in model.named_parameters()},
        "keys": list(model.state_dict()),
        "grad_enabled": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("call", ["none", *GRADIENTS, "relearn"])
def test_flags_are_as_before(call, training):
    model = model_of()
    model.train(training)
    model.config.use_cache = True
    model.lm_head.requires_grad_(False)
    model.model.layers[0].mlp.gate_proj.requires_grad_(False)
    before = state(model)
    if call == "relearn":
        mudman.relearn(model, FORGET, {"rate": 0.01, "passes": 4})
    else:
        adversary = {"type": "none"} if call == "none" else {"gradient": call}
        run(method(adversary=adversary, representation_loss={}), model=model)
    assert state(model) == before


def test_flags_are_as_before_when_a_batch_fails():
    def broken():
        yield FORGET[0]
        raise OSError("the disk is gone")

    model = model_of()
    model.requires_grad_(False).eval()
    before = state(model)
    with pytest.raises(OSError, match="the disk is gone"):
        mudman.unlearn(model, broken(), RETAIN, method(), 15)
    assert state(model) == before


def test_mixed_training_modes_are_as_before():
    """A module that was put into evaluation mode on its own stays there."""
    model = model_of().train()
    model.model.layers[0].eval()
    before = state(model)
    run(method(), model=model)
    assert state(model) == before


@pytest.mark.parametrize("loss", ["neg_cross_entropy", "neg_entropy"])
@pytest.mark.parametrize("adversary", ADVERSARIES, ids=str)
def test_gradients_left_by_others_have_no_influence(adversary, loss):
    config = method(adversary=adversary, loss=loss)
    used = model_of()
    used(input_ids=FORGET[0], labels=FORGET[0]).loss.backward()
    assert identical(run(config, model=used)[0], run(config)[0])


def test_no_grad_outside_does_not_matter():
    with torch.no_grad():
        inside, _ = run(method())
        assert not torch.is_grad_enabled()
    assert identical(inside, run(method())[0])


def test_bfloat16_stays_bfloat16():
    weights, record = run(method(unlearning_rate=0.1), model=model_of().to(torch.bfloat16))
    before = snapshot(model_of().to(torch.bfloat16))
    assert all(w.dtype == torch.bfloat16 and torch.isfinite(w).all() for w in weights.values())
    assert {name for name in before if not torch.equal(weights[name], before[name])} == set(record.intervened)


# --------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("adversary", ADVERSARIES, ids=str)
def test_generators_start_over_like_lists(adversary):
    config = method(adversary=adversary)
    from_lists, _ = run(config, 5, FORGET[:2], RETAIN[:3])
    from_generators, _ = run(config, 5, (b for b in FORGET[:2]), iter(RETAIN[:3]))
    written_out, _ = run(config, 5, [FORGET[i % 2] for i in range(5)], [RETAIN[i % 3] for i in range(5)])
    assert identical(from_lists, from_generators)
    assert identical(from_lists, written_out)


def test_endless_streams_are_read_only_as_far_as_needed():
    def endless():
        while True:
            taken.append(1)
            yield FORGET[0]

    taken: list[int] = []
    run(method(), 3, endless(), RETAIN)
    assert len(taken) == 3


def test_relearning_takes_generators():
    attack = {"rate": 0.01, "passes": 12, "retain": True}
    weights = [
        snapshot(mudman.relearn(model_of(), forget, attack, retain)[0])
        for forget, retain in ((FORGET[:2], RETAIN[:2]), (iter(FORGET[:2]), (b for b in RETAIN[:2])))
    ]
    assert identical(*weights)


# ------------------------------------------------------------------------------------------------ wrong input

WRONG = {
    "no module": ({"target_modules": ["no_such_proj"]}, 10, FORGET, RETAIN),
    "part of a name": ({"target_modules": ["proj"]}, 10, FORGET, RETAIN),
    "not divisible": ({}, 12, FORGET, RETAIN),
    "not divisible by four": ({"adversary": {"type": "none"}}, 10, FORGET, RETAIN),
    "a range": ({"unlearning_rate": {"low": 0.1, "high": 0.2}}, 10, FORGET, RETAIN),
    "a nested range": ({"adversary": {"decay": {"low": 0.1, "high": 0.2}}}, 10, FORGET, RETAIN),
    "unknown field": ({"maks": "sign"}, 10, FORGET, RETAIN),
    "no forget batch": ({}, 10, [], RETAIN),
    "no retain batch": ({}, 10, FORGET, iter(())),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_before_anything_changes(case):
    changes, passes, forget, retain = WRONG[case]
    model = model_of()
    before, flags = snapshot(model), state(model)
    with pytest.raises(SpecError):
        mudman.unlearn(model, forget, retain, method(**changes), passes)
    assert identical(snapshot(model), before)
    assert state(model) == flags


@pytest.mark.parametrize(
    ("attack", "forget", "retain"),
    [
        ({"rate": 0.1, "passes": 3}, FORGET, None),
        ({"rate": 0.1, "passes": 6, "retain": True}, FORGET, RETAIN),
        ({"rate": 0.0, "passes": 4}, FORGET, None),
        ({"rate": 0.1, "passes": 4}, [], None),
        ({"rate": 0.1, "passes": 4, "retain": True}, FORGET, []),
    ],
)
def test_wrong_attack_is_refused(attack, forget, retain):
    model = model_of()
    with pytest.raises(SpecError):
        mudman.relearn(model, forget, attack, retain)
    assert identical(snapshot(model), snapshot(model_of()))
