"""What must hold whatever the numbers are: bookkeeping, neutral settings, size and sign, zero gradients."""

from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from short_runs import ADVERSARIES, FORGET, GRADIENTS, RETAIN, method, model_of, run
from small_models import MODULES, distance, identical, snapshot, token_batches

import mudman

NORMALIZATIONS = ("none", "per_parameter", "global_post_mask", "global_pre_mask")

few_examples = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


# ----------------------------------------------------------------------------------------------- bookkeeping


@pytest.mark.parametrize(
    ("changes", "booked", "made"),
    [
        ({"adversary": {"type": "none"}}, 4, 4),
        ({"adversary": {"gradient": "hybrid"}}, 5, 5),
        ({"adversary": {"gradient": "fresh"}}, 5, 6),
        ({"adversary": {"gradient": "reuse"}, "loss": "neg_entropy"}, 5, 5),
        ({"adversary": {"gradient": "reuse"}, "loss": "neg_cross_entropy"}, 5, None),  # 4 are enough, 5 are allowed
        ({"adversary": {"type": "none"}, "representation_loss": {}}, 5, None),
        ({"representation_loss": {}}, 6, None),
    ],
)
def test_passes(changes, booked, made):
    _, record = mudman.unlearn(model_of(), FORGET, RETAIN, method(**changes), 3 * booked)
    assert (record.loops, record.passes_booked) == (3, 3 * booked)
    if made:
        assert record.passes_made == 3 * made
    else:
        assert 3 * 4 <= record.passes_made <= 3 * (booked + 1)


@pytest.mark.parametrize(("retain", "per_loop"), [(None, 2), (RETAIN, 4)])
def test_passes_of_relearning(retain, per_loop):
    attack = {"rate": 0.01, "passes": 12, "retain": retain is not None}
    _, record = mudman.relearn(model_of(), FORGET, attack, retain)
    assert (record.passes_booked, record.passes_made, record.loops) == (12, 12, 12 // per_loop)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["gate_proj"], {"mlp.gate_proj"}),
        (["mlp.gate_proj", "self_attn.v_proj"], {"mlp.gate_proj", "self_attn.v_proj"}),
        (["gate_proj", "mlp.gate_proj"], {"mlp.gate_proj"}),
    ],
)
def test_matched_names(targets, expected):
    _, record = run(method(target_modules=targets), loops=1)
    names = [f"model.layers.{layer}.{name}.weight" for layer in range(2) for name in expected]
    assert sorted(record.intervened) == sorted(names)


def test_only_whole_parts_of_a_name_match():
    config = {**method(), "target_modules": ["dense"]}
    _, record = mudman.unlearn(model_of("neox"), FORGET, RETAIN, config, 5)
    assert record.intervened == tuple(f"gpt_neox.layers.{layer}.attention.dense.weight" for layer in range(2))


# ------------------------------------------------------------------------------------------ neutral settings


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(
    "nearly_neutral",
    [
        {"forget_momentum": 1e-30},
        {"growing_weights": 1 - 1e-16},
        {"adversary": {"decay": 1 - 1e-16}},
        {"adversary": {"update": 1e-30}},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("family", MODULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_neutral_settings_change_no_bit(nearly_neutral, gradient, family, dtype):
    """Numbers that these types cannot tell from the neutral ones, though they switch the component on."""
    adversary = {"gradient": gradient, **nearly_neutral.get("adversary", {})}
    config = method(**{**nearly_neutral, "adversary": adversary, "target_modules": MODULES[family]})
    weights, _ = run(config, model=model_of(family).to(dtype))
    assert identical(weights, plain_weights(gradient, family, dtype))


@cache
def plain_weights(gradient: str, family: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    config = method(adversary={"gradient": gradient}, target_modules=MODULES[family])
    return run(config, model=model_of(family).to(dtype))[0]


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_an_adversary_that_never_leaves_the_model_is_none(gradient):
    """Rate 0, a fork every loop and no retain step (which would put the model one step ahead)."""
    still = {"adversary_rate": 0.0, "fork_every": 1}
    adversary = {"adversary": {"gradient": gradient}}
    without = {"adversary": {"type": "none"}}
    assert identical(
        run(method(**still, **adversary, retaining_rate=0.0))[0], run(method(**without, retaining_rate=0.0))[0]
    )
    assert not identical(run(method(**still, **adversary))[0], run(method(**without))[0])


@pytest.mark.parametrize("adversary", ADVERSARIES, ids=str)
def test_zero_rates_change_nothing(adversary):
    weights, _ = run(method(adversary=adversary, unlearning_rate=0.0, retaining_rate=0.0))
    assert identical(weights, snapshot(model_of()))


@pytest.mark.parametrize("adversary", ADVERSARIES, ids=str)
def test_same_start_same_weights(adversary):
    config = method(adversary=adversary, representation_loss={"squared": True})
    assert identical(run(config)[0], run(config)[0])


def test_adversary_settings_are_idle_without_adversary():
    plain, _ = run(method(adversary={"type": "none"}))
    idle = {"adversary": {"type": "none", "gradient": "fresh", "decay": 0.5, "update": 0.5}}
    weights, _ = run(method(**idle, adversary_rate=3.0, fork_every=1))
    assert identical(weights, plain)


# ----------------------------------------------------------------------------------------------- size and sign


def first_step(seed: int, **changes) -> tuple[dict, dict, dict]:
    """Update of the first loop at rate 1e-3, and the gradients of forget and retain cross-entropy at the start.

    No retain step and no adversary: all three are taken at the same weights.
    """
    batches = token_batches(seed, 2)
    model = model_of(seed=seed)
    config = {"adversary": {"type": "none"}, "retaining_rate": 0.0, "retain_momentum": 0.0, "unlearning_rate": 1e-3}
    before, names = snapshot(model), [name for name, _ in model.named_parameters() if "gate_proj" in name]
    gradients = []
    for batch in batches:
        loss = model(input_ids=batch, labels=batch).loss
        gradients.append(
            dict(zip(names, torch.autograd.grad(loss, [model.get_parameter(n) for n in names]), strict=True))
        )
    after, _ = run(method(**{**config, **changes}), 1, [batches[0]], [batches[1]], model)
    return {name: after[name] - before[name] for name in names}, *gradients


def flat(tensors: dict) -> torch.Tensor:
    return torch.cat([t.flatten() for t in tensors.values()]).double()


@few_examples
@given(st.integers(0, 10_000), st.sampled_from(NORMALIZATIONS))
def test_masked_step_never_raises_retain_loss_to_first_order(seed, normalization):
    """Every single term of ∇L_retain · Δw is at most 0; unmasked, some are not."""
    masked, _, retain = first_step(seed, normalization=normalization)
    assert masked and flat(masked).norm() > 0
    assert (flat(masked) * flat(retain)).max() <= 0
    unmasked, _, _ = first_step(seed, normalization=normalization, mask="none")
    assert (flat(unmasked) * flat(retain)).max() > 0


@few_examples
@given(st.integers(0, 10_000))
def test_masked_step_is_the_unmasked_one_where_it_is_not_zero(seed):
    masked, unmasked = flat(first_step(seed)[0]), flat(first_step(seed, mask="none")[0])
    kept = masked != 0
    assert 0.1 < kept.double().mean() < 0.9
    torch.testing.assert_close(masked[kept], unmasked[kept])


@few_examples
@given(st.integers(0, 10_000), st.sampled_from(NORMALIZATIONS[1:]))
def test_unmasked_update_has_the_size_of_the_rate(seed, normalization):
    rms, l2 = (
        first_step(seed, normalization=normalization, rate_unit=unit, mask="none", unlearning_rate=rate)[0]
        for unit, rate in (("rms", 0.01), ("l2", 0.5))
    )
    assert flat(rms).square().mean().sqrt() == pytest.approx(0.01, rel=1e-3)
    tensors = len(l2) if normalization == "per_parameter" else 1
    assert flat(l2).norm() == pytest.approx(0.5 * tensors**0.5, rel=1e-3)


@few_examples
@given(st.integers(0, 10_000))
def test_negative_cross_entropy_ascends_the_forget_loss(seed):
    """The update points along +∇CE(forget)."""
    update, forget, _ = first_step(seed, mask="none")
    assert torch.cosine_similarity(flat(update), flat(forget), dim=0) > 0.999


def test_negative_cross_entropy_reuses_the_adversarys_gradient():
    """g_u = −g_a: at equal rates and without normalisation the adversary's descent undoes the model's ascent exactly.

    The adversary is w − η g_a and the model w − η g_u, so that their mean is the start. One loop shows the model's
    half; a second loop with update 1 gives the adversary the model's step too, which takes it back to the start.
    """
    rate = 2.0**-4  # a power of two: scaling by it rounds nothing
    config = method(
        adversary={"gradient": "reuse", "update": 1.0},
        normalization="none",
        mask="none",
        retaining_rate=0.0,
        unlearning_rate=rate,
        adversary_rate=rate,
        fork_every=10,
    )
    start = snapshot(model_of())
    one, _ = run(config, 1, FORGET[:1])
    two, _ = run(config, 2, FORGET[:1])
    first = {name: w - start[name] for name, w in one.items()}
    second = {name: w - one[name] for name, w in two.items()}
    assert distance(one, start) > 0.01
    assert distance(first, second) < 1e-5 * distance(one, start), "the adversary stood at the start in both loops"


# --------------------------------------------------------------------------------------------- zero gradients


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("adversary", ADVERSARIES[:2], ids=str)
def test_zero_gradients_move_nothing(adversary, normalization):
    """With an output head of zeros no gradient reaches the intervened weights: 0/0 must be 0."""
    model = model_of()
    torch.nn.init.zeros_(model.lm_head.weight)
    before = snapshot(model)
    config = method(adversary=adversary, normalization=normalization, loss="neg_entropy", forget_momentum=0.5)
    weights, record = run(config, 3, model=model)
    assert identical(weights, before)
    if normalization != "none":
        assert record.zero_norm_loops == 3


def test_zero_norm_loops_are_the_exception():
    assert run(method())[1].zero_norm_loops == 0


@pytest.mark.parametrize("squared", [False, True])
def test_zero_representation_distance_has_gradient_zero(squared):
    """In loop 0 the model is the original: the extra loss is 0 and so is its gradient, not NaN."""
    plain, _ = run(method(), 1)
    weights, _ = run(method(representation_loss={"coefficient": 5.0, "squared": squared}), 1)
    assert all(torch.isfinite(w).all() for w in weights.values())
    assert distance(weights, plain) <= 1e-5 * distance(plain, snapshot(model_of()))
