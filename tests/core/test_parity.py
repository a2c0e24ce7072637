"""Core against reference: after eight loops the weights differ by at most 1e-4 of how far they moved (fp32)."""

import copy
import itertools
import json
from functools import lru_cache

import pytest
import reference
import torch
from small_models import MODULES, distance, identical, small_model, snapshot, token_batches

import mudman
from mudman.specs import AttackSpec, MudmanSpec

LOOPS = 8
TOLERANCE = 1e-4
VISIBLE = 1e-2
"""Variants that should differ do so by at least this share of the update: 100 times the tolerance."""

FORGET, RETAIN = token_batches(1, 5), token_batches(2, 7)  # fewer than loops: both streams start over, out of step

NONE = {"type": "none"}
HYBRID, REUSE, FRESH = ({"type": "fork", "gradient": gradient} for gradient in ("hybrid", "reuse", "fresh"))
ADVERSARIES = {"none": NONE, "hybrid": HYBRID, "reuse": REUSE, "fresh": FRESH}

# Rates at which each normalisation moves the weights by 10 to 100 % of their own norm within eight loops.
RATES = {
    ("none", "rms"): 0.5,
    ("per_parameter", "rms"): 0.02,
    ("per_parameter", "l2"): 0.5,
    ("global_post_mask", "rms"): 0.02,
    ("global_post_mask", "l2"): 0.8,
    ("global_pre_mask", "rms"): 0.02,
    ("global_pre_mask", "l2"): 0.8,
}
PASSES = {"none": 4, "fork": 5}


def method(family: str, **changes) -> dict:
    """A mapping as it stands in a spec under ``method``."""
    settings = {
        "type": "mudman",
        "target_modules": MODULES[family],
        "retaining_rate": 0.05,
        "adversary_rate": 0.15,
        "fork_every": 3,
        **changes,
    }
    variant = settings.get("normalization", "global_pre_mask"), settings.get("rate_unit", "rms")
    settings.setdefault("unlearning_rate", RATES[variant])
    return settings


def passes(settings: dict, loops: int = LOOPS) -> int:
    per_loop = PASSES[settings.get("adversary", {}).get("type", "fork")]
    return loops * (per_loop + ("representation_loss" in settings))


def displacement(weights: dict, before: dict) -> float:
    return distance(before, weights)


def assert_parity(family: str, settings: dict, *, given=None, **shape) -> dict:
    """Run both, compare, return the reference's weights."""
    model = small_model(family, **shape)
    before = snapshot(model)
    expected = expected_weights(family, json.dumps(settings), **shape)

    returned, record = mudman.unlearn(model, FORGET, RETAIN, given or settings, passes(settings))

    assert returned is model
    assert set(record.intervened) == set(expected)
    assert record.loops == LOOPS
    assert record.passes_booked == passes(settings)
    after = snapshot(model)
    moved = displacement(expected, before)
    size = reference.norm({name: before[name] for name in expected})
    assert 0.02 < moved / size < 20, "rates must make the update visible and keep it finite"
    assert distance(after, expected) <= TOLERANCE * moved
    assert identical(_others(after, expected), _others(before, expected)), "only intervened weights may move"
    return expected


def _others(weights: dict, intervened: dict) -> dict:
    return {name: w for name, w in weights.items() if name not in intervened}


@lru_cache
def expected_weights(family: str, settings: str, **shape) -> dict:
    """What the reference says; cached, as many tests compare with the same variant."""
    model = small_model(family, **shape)
    before = snapshot(model)
    weights = reference.unlearn(model, FORGET, RETAIN, json.loads(settings), LOOPS)
    assert identical(snapshot(model), before), "the reference must leave the model alone"
    return weights


def plain(family: str, adversary: str, loss: str = "neg_cross_entropy") -> tuple[dict, dict]:
    """Reference weights of the variant that an option is compared with, and the weights before."""
    settings = method(family, adversary=ADVERSARIES[adversary], loss=loss)
    weights = expected_weights(family, json.dumps(settings))
    return weights, {name: w for name, w in snapshot(small_model(family)).items() if name in weights}


# ------------------------------------------------------------------------- mask × normalisation × adversary × loss

MASKS = ("sign", "none")
NORMALIZATIONS = ("global_pre_mask", "global_post_mask", "per_parameter", "none")
LOSSES = ("neg_cross_entropy", "neg_entropy")
FAMILIES = ("llama", "neox")


def _cross():
    """All 32 combinations; family, loss and unit are dealt out so that each pair of settings occurs at least once."""
    for (a, mask), (b, normalization), (c, adversary) in itertools.product(
        enumerate(MASKS), enumerate(NORMALIZATIONS), enumerate(ADVERSARIES)
    ):
        unit = ("rms", "l2")[(a + b // 2 + c) % 2] if normalization != "none" else "rms"
        yield FAMILIES[(a + b + c) % 2], mask, normalization, unit, adversary, LOSSES[(b + c // 2) % 2]


@pytest.mark.parametrize(("family", "mask", "normalization", "unit", "adversary", "loss"), _cross())
def test_cross(family, mask, normalization, unit, adversary, loss):
    assert_parity(
        family,
        method(
            family,
            mask=mask,
            normalization=normalization,
            rate_unit=unit,
            adversary=ADVERSARIES[adversary],
            loss=loss,
        ),
    )


# --------------------------------------------------------------------------------------------- both architectures


@pytest.mark.parametrize("adversary", ADVERSARIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_published_variant_on_both_architectures(family, adversary):
    assert_parity(family, method(family, adversary=ADVERSARIES[adversary]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_variants_differ(family, loss):
    """Or parity with one would be parity with any."""
    runs = {adversary: plain(family, adversary, loss) for adversary in ADVERSARIES}
    for a, b in itertools.combinations(runs, 2):
        (weights, before), (others, _) = runs[a], runs[b]
        assert distance(weights, others) > VISIBLE * displacement(weights, before), (a, b)


SETS = [
    ("llama", ("gate_proj", "v_proj", "mlp.down_proj"), 6),
    ("llama", ("model.layers.1.mlp.up_proj",), 1),
    ("neox", ("dense",), 2),  # attention.dense only: dense_h_to_4h does not end in it
    ("neox", ("dense_4h_to_h", "query_key_value"), 4),
]


@pytest.mark.parametrize(("family", "targets", "count"), SETS)
@pytest.mark.parametrize("adversary", ["hybrid", "fresh"])
def test_module_sets(family, targets, count, adversary):
    settings = method(family, target_modules=targets, adversary=ADVERSARIES[adversary], normalization="per_parameter")
    assert len(assert_parity(family, settings)) == count


def test_tied_embeddings():
    assert_parity("llama", method("llama"), tie_word_embeddings=True)


# --------------------------------------------------------------------------------------- one option at a time

OPTIONS = {
    "no retain momentum": {"retain_momentum": 0.0},
    "no retain step": {"retaining_rate": 0.0},
    "adversary decay": {"adversary": {"decay": 0.6}},
    "adversary decays to the model": {"adversary": {"decay": 0.0}},
    "adversary update": {"adversary": {"update": 0.7}},
    "decay and update": {"adversary": {"decay": 0.8, "update": 0.4}},
    "forget momentum": {"forget_momentum": 0.6},
    "forget momentum, post": {"forget_momentum": 0.6, "normalization": "global_post_mask"},
    "forget momentum, unmasked": {"forget_momentum": 0.6, "mask": "none"},
    "only shrink": {"growing_weights": 0.0},
    "half growth": {"growing_weights": 0.5},
    "double growth, unmasked": {"growing_weights": 2.0, "mask": "none"},
    "representation loss": {"representation_loss": {"coefficient": 1.5}},
    "squared representation loss": {"representation_loss": {"coefficient": 0.7, "squared": True}},
    "a fraction in fork_every is cut off": {"fork_every": 2.9},
    "fork every loop": {"fork_every": 1},
    "all at once": {
        "adversary": {"decay": 0.7, "update": 0.5},
        "forget_momentum": 0.4,
        "growing_weights": 0.3,
        "representation_loss": {"coefficient": 1.0, "squared": True},
        "normalization": "per_parameter",
        "retain_momentum": 0.5,
    },
}
NEEDS_ADVERSARY = {
    "adversary decay",
    "adversary decays to the model",
    "adversary update",
    "decay and update",
    "a fraction in fork_every is cut off",
    "fork every loop",
    "all at once",
}
_CASES = [
    (option, adversary, family)
    for index, option in enumerate(OPTIONS)
    for adversary, family in (
        (("hybrid", "reuse", "fresh")[index % 3], FAMILIES[index % 2]),
        (("reuse", "fresh", "hybrid")[index % 3] if option in NEEDS_ADVERSARY else "none", FAMILIES[1 - index % 2]),
    )
]


@pytest.mark.parametrize(("option", "adversary", "family"), _CASES)
def test_option(option, adversary, family):
    changes = copy.deepcopy(OPTIONS[option])
    changes["adversary"] = {**ADVERSARIES[adversary], **changes.get("adversary", {})}
    weights = assert_parity(family, method(family, **changes))

    without, before = plain(family, adversary)
    assert distance(weights, without) > VISIBLE * displacement(without, before), "an ignored option would pass"


# ------------------------------------------------------------------------------------------- forms of the same spec


@pytest.mark.parametrize("adversary", ["none", "hybrid"])
def test_typed_config(adversary):
    settings = method("llama", adversary=ADVERSARIES[adversary], representation_loss={"coefficient": 0.5})
    assert_parity("llama", settings, given=MudmanSpec(**settings))


def test_published_gradient_is_what_torch_computes():
    """The reference's hybrid gradient, spelt out layer by layer, against the in-place change that was published."""
    model = small_model("llama")
    names = reference.matched(model, ("gate_proj",))
    old = {name: model.get_parameter(name).detach().clone() for name in names}
    new = {name: w + 0.1 * torch.randn_like(w) for name, w in old.items()}
    loss = reference.neg_entropy(model(input_ids=FORGET[0]).logits, FORGET[0])
    for name in names:
        model.get_parameter(name).data.copy_(new[name])  # autograd's version counter does not see this
    published = reference.gradients_of(loss, {name: model.get_parameter(name) for name in names})

    spelt_out = reference.hybrid_gradient(model, old, new, FORGET[0], reference.neg_entropy)

    at_old = reference.gradient(model, old, FORGET[0], reference.neg_entropy)
    assert distance(published, spelt_out) < 1e-5 * reference.norm(published)
    assert distance(published, at_old) > VISIBLE * reference.norm(published)
    last = names[-1]
    assert torch.allclose(published[last], at_old[last]), "nothing lies between the last layer and the loss"


# -------------------------------------------------------------------------------------------------------- relearn


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mixed", [False, True], ids=["forget only", "with retain"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_relearning_is_plain_sgd_on_all_weights(family, mixed, tied):
    model = small_model(family, tie_word_embeddings=tied)
    before = snapshot(model)
    expected = reference.relearn(model, FORGET, 0.1, LOOPS, RETAIN if mixed else None)
    attack = {"rate": 0.1, "passes": LOOPS * (4 if mixed else 2), "check_every": 4, "retain": mixed}

    returned, record = mudman.relearn(
        model, FORGET, attack if tied else AttackSpec(**attack), RETAIN if mixed else None
    )

    assert returned is model
    assert (record.passes_booked, record.loops) == (attack["passes"], LOOPS)
    after = snapshot(model)
    assert after.keys() == expected.keys()
    assert all(not torch.equal(after[name], before[name]) for name in after), "every parameter is trained"
    assert distance(after, expected) <= TOLERANCE * displacement(expected, before)
