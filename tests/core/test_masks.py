"""Masks: by hand on small tensors, Disruption Masking against A-GEM, and as parts of a run."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from short_runs import FORGET, RETAIN, method, model_of, run
from small_models import MODULES, distance, identical, snapshot

from mudman.components import mask_disruption_
from mudman.faults import SpecError
from mudman.masks import Absolute, Compromise, Percentile, keep_lowest_, keep_percentiles_, project_conflict_
from mudman.specs.components import AbsoluteMask, CompromiseMask, PercentileMask

MASKS = ("none", "sign", "percentile", "agem", "absolute", "compromise")


def tensors(*rows) -> list[torch.Tensor]:
    return [torch.tensor(row, dtype=torch.float32) for row in rows]


def values(found: list[torch.Tensor]) -> list:
    return [tensor.tolist() for tensor in found]


# -------------------------------------------------------------------------------------------------------- A-GEM


def test_agem():
    """u = (1 | 0, 2), r = (−1 | 1, 0) in two tensors: u·r = −1, r·r = 2, so u + r/2 = (½ | ½, 2), at right angles."""
    u, r = tensors([1], [0, 2]), tensors([-1], [1, 0])
    project_conflict_(u, r)
    assert values(u) == [[0.5], [0.5, 2]]


@pytest.mark.parametrize("retain", [([1], [1, 0]), ([0], [5, 0]), ([0], [0, 0])])
def test_agem_leaves_what_does_not_conflict(retain):
    """u·r ≥ 0, or nothing to keep yet."""
    u = tensors([1], [0, 2])
    project_conflict_(u, tensors(*retain))
    assert values(u) == [[1], [0, 2]]


def masked_and_projected(retain: torch.Tensor, forget: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    masked, projected = [forget.clone()], [forget.clone()]
    mask_disruption_(masked, [retain])
    project_conflict_(projected, [retain])
    return masked[0], projected[0]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(2, 10_000))
def test_disruption_masking_disturbs_less_than_agem(seed, size):
    """For u·r < 0: |masked| < |A-GEM| and |masked| ≤ |u| in every coordinate. Where signs agree A-GEM adds κ|r| > 0 to
    |u|, elsewhere masked is 0. No masked entry raises the retain loss.
    """
    generator = torch.Generator().manual_seed(seed)
    retain, forget = torch.randn(2, size, generator=generator)
    conflict = float(retain.double() @ forget.double())
    forget, kappa = -forget if conflict > 0 else forget, abs(conflict) / float(retain.double().square().sum())
    masked, projected = masked_and_projected(retain, forget)
    agree = torch.sign(retain) == torch.sign(forget)
    visible = ~agree | (kappa * retain.abs() > 1e-6 * forget.abs())  # to float32
    assert torch.equal(masked, torch.where(agree, forget, 0))
    assert (masked.abs() < projected.abs())[visible].all()
    assert (masked.abs() <= projected.abs()).all()
    assert (-masked * retain).max() <= 0


def test_agem_grows_entries_and_disturbs_some():
    """What masking never does: an entry above |u|, and entries whose update raises the retain loss."""
    generator = torch.Generator().manual_seed(0)
    retain, forget = torch.randn(2, 10_000, generator=generator)
    forget = forget - 0.5 * retain
    _, projected = masked_and_projected(retain, forget)
    assert (projected.abs() > forget.abs()).any()
    assert (-projected * retain).max() > 0
    assert abs(float(projected.double() @ retain.double())) < 1e-2, "as a whole it leaves the retain loss"


# --------------------------------------------------------------------------------------------------- percentiles


@pytest.mark.parametrize(
    ("forget", "retain", "expected"),
    [
        (0.5, 0.5, [4, 0, 0, 0]),
        (0.5, 1.0, [4, -3, 0, 0]),
        (1.0, 0.5, [4, 0, 2, 0]),
        (1.0, 0.75, [4, 0, 2, -1]),
        (0.25, 0.25, [0, 0, 0, 0]),
        (0.0, 1.0, [0, 0, 0, 0]),
        (1.0, 1.0, [4, -3, 2, -1]),
    ],
)
def test_percentiles(forget, retain, expected):
    """u = (4, −3, 2, −1), r = (1, 3, 2, 0.5): disruption −r · sign(u) = (−1, 3, −2, ½), lowest at 2, 0, 3, 1."""
    u = tensors([4, -3, 2, -1])
    keep_percentiles_(u, tensors([1, 3, 2, 0.5]), forget, retain)
    assert values(u) == [expected]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("global", [[0, 0], [0, 6], [8, 7]]),
        ("tensor", [[0, 2], [0, 6], [8, 0]]),
        ("layer", [[0, 0], [5, 6], [8, 0]]),
    ],
)
def test_scopes(scope, expected):
    """The larger half of all six entries; of each tensor; of each layer (layer 0 has the first two tensors)."""
    names = ["model.layers.0.a.weight", "model.layers.0.b.weight", "model.layers.11.a.weight"]
    spec = PercentileMask(type="percentile", forget_quantile=0.5, retain_quantile=1.0, scope=scope, warm_up=0)
    u = tensors([1, 2], [5, 6], [8, 7])
    Percentile(spec, names).apply_(u, [torch.ones(2)] * 3, 0)
    assert values(u) == expected


def test_warm_up():
    mask = Percentile(PercentileMask(type="percentile", warm_up=2, forget_quantile=1.0, retain_quantile=1.0), ["w"])
    for loop, expected in enumerate([0, 0, 3]):
        u = tensors([3])
        mask.apply_(u, tensors([1]), loop)
        assert values(u) == [[expected]]


def test_shares_of_many_weights():
    """More entries than ``torch.quantile`` takes."""
    size = 2**24 + 2
    gradient, score = [torch.ones(size, dtype=torch.int8)], [torch.arange(size).flip(0).float()]
    keep_lowest_(gradient, score, 0.5)
    assert gradient[0].sum() == size // 2
    assert gradient[0][size // 2 + 1 :].all() and not gradient[0][: size // 2 - 1].any()


# -------------------------------------------------------------------------------------------- absolute, compromise


@pytest.mark.parametrize(
    ("power", "forget_power", "quantile", "expected"),
    [
        (1.0, 1.0, 0.25, [0, 0, 5, 0]),
        (1.0, 1.0, 0.5, [0, 2, 5, 0]),
        (1.0, 0.0, 0.25, [0, 0, 0, -1]),
        (2.0, 1.0, 0.75, [0, 2, 5, -1]),
        (2.0, 1.0, 1.0, [8, 2, 5, -1]),
    ],
)
def test_absolute(power, forget_power, quantile, expected):
    """m = ½, r = (8, 0, 0, 1), then (−8, 2, ... ): averages of |r|^p: (6, 1, 1, ¾) for p = 1, (48, 2, 2, ¾) for p = 2.

    u = (8, 2, 5, −1). Scores for p = 1: (6/8, 1/2, 1/5, 3/4), in order 2, 1, then a tie; for p = 2: (6, 1, 2/5, ¾).
    """
    spec = AbsoluteMask(type="absolute", power=power, forget_power=forget_power, quantile=quantile)
    mask = Absolute(spec, 0.5, tensors([0, 0, 0, 0]))
    mask.saw(tensors([8, 0, 0, 1]))
    mask.saw(tensors([-8, 2, -2, 1]))
    p = [6, 1, 1, 0.75] if power == 1 else [48, 2, 2, 0.75]
    assert values(mask.state) == [pytest.approx(p)]
    u = tensors([8, 2, 5, -1])
    mask.apply_(u, tensors([0, 0, 0, 0]), 0)
    assert values(u) == [expected]


def test_absolute_where_there_is_nothing_to_forget():
    """0/0 is no score: entries without gradient come last."""
    mask = Absolute(AbsoluteMask(type="absolute", quantile=0.5), 0.0, tensors([0, 0]))
    u = tensors([0, 3])
    mask.saw(tensors([0, 9]))
    mask.apply_(u, tensors([0, 0]), 0)
    assert values(u) == [[0, 3]]


@pytest.mark.parametrize(
    ("sign", "settings", "kept"),
    [
        (1, {}, (0, 1, 1)),
        (-1, {}, (1, 0, 0)),
        (1, {"factor": 2.1}, (1, 1, 1)),
        (-1, {"factor": 0.4}, (0, 0, 0)),
        (1, {"factor": -0.2}, (0, 0, 0)),
        (1, {"factor": -0.2, "quantile": 1 / 3}, (0, 1, 0)),
        (1, {"factor": 0.2, "quantile": 1 / 3}, (0, 0, 1)),
        (1, {"factor": 1.5, "power": 0.5}, (1, 1, 1)),
        (1, {"factor": 1.5, "power": 1.0}, (0, 1, 1)),
    ],
)
def test_compromise(sign, settings, kept):
    """Tokens x = (1, 0, 2), (−1, 1, 1) into one output with gradients 2, 4: contributions (2, 0, 4), (−4, 4, 4).

    Rising (2, 4, 8), falling (4, 0, 0): help and harm of u > 0, harm and help of u < 0. With p = ½:
    (√2, 2, 4), (2, 0, 0). With factor ∓0.2 the scores harm − factor · help are (4.4, 0.8, 1.6), (3.6, −0.8, −1.6).
    """
    layer = torch.nn.Linear(3, 1, bias=False)
    spec = CompromiseMask(type="compromise", **settings)
    mask = Compromise(spec, 0.0, [layer])
    with mask.watching():
        output = layer(torch.tensor([[[1.0, 0.0, 2.0], [-1.0, 1.0, 1.0]]]))
        output.backward(torch.tensor([[[2.0], [4.0]]]))
    p = spec.power
    assert mask.rising[0].tolist() == [pytest.approx([2**p, 4**p, 4**p + 4**p])]
    assert mask.falling[0].tolist() == [pytest.approx([4**p, 0, 0])]
    assert not layer._forward_hooks
    u = tensors([[sign, sign, sign]])
    mask.apply_(u, tensors([[0, 0, 0]]), 0)
    assert tuple(u[0][0].abs().tolist()) == kept


def test_compromise_averages_over_loops():
    """m = ¾: a first loop counts ¼, after a second one without any contribution 3/16."""
    layer = torch.nn.Linear(1, 1, bias=False)
    mask = Compromise(CompromiseMask(type="compromise"), 0.75, [layer])
    for size, expected in ((8.0, 2.0), (0.0, 1.5)):
        with mask.watching():
            layer(torch.full((1, 1, 1), size)).sum().backward()
        assert mask.rising[0].item() == pytest.approx(expected)


def test_compromise_needs_linear_layers():
    with pytest.raises(SpecError) as caught:
        run(method(mask="compromise", target_modules=["embed_tokens"]))
    assert [fault.path for fault in caught.value.faults] == ["method.mask"]


# ------------------------------------------------------------------------------------------------------ in a run


def test_compromise_of_equal_parts_is_disruption_masking():
    """Its accumulators' difference is the retain accumulator; what rounding moves is next to nothing."""
    masked, _ = run(method(mask="sign", normalization="none"))
    split, _ = run(method(mask="compromise", normalization="none"))
    assert distance(masked, split) < 1e-4 * distance(masked, snapshot(model_of()))
    harsh, _ = run(method(mask={"type": "compromise", "factor": 0.5}, normalization="none"))
    assert distance(masked, harsh) > 1e-2 * distance(masked, snapshot(model_of()))


@pytest.mark.parametrize(
    "everything",
    [
        {"type": "percentile", "forget_quantile": 1.0, "retain_quantile": 1.0, "warm_up": 0},
        {"type": "absolute", "quantile": 1.0},
    ],
    ids=lambda mask: mask["type"],
)
def test_keeping_all_is_no_mask(everything):
    assert identical(run(method(mask=everything))[0], run(method(mask="none"))[0])


@pytest.mark.parametrize(
    "nothing",
    [
        {"type": "percentile", "warm_up": 3},
        {"type": "percentile", "retain_quantile": 0.0, "warm_up": 0},
        {"type": "absolute", "quantile": 0.0},
        {"type": "compromise", "factor": -0.2},
    ],
    ids=str,
)
def test_keeping_nothing_is_no_update(nothing):
    assert identical(run(method(mask=nothing))[0], run(method(unlearning_rate=0.0))[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ["llama", "neox"])
@pytest.mark.parametrize("mask", MASKS)
def test_each_moves_weights(mask, family, dtype):
    spec = {"type": mask, "warm_up": 1} if mask == "percentile" else mask
    config = method(mask=spec, unlearning_rate=0.1, target_modules=MODULES[family])
    weights, record = run(config, model=model_of(family).to(dtype))
    still, _ = run({**config, "unlearning_rate": 0.0}, model=model_of(family).to(dtype))
    assert all(torch.isfinite(weight).all() and weight.dtype == dtype for weight in weights.values())
    assert {name for name in weights if not torch.equal(weights[name], still[name])} == set(record.intervened)


def test_masks_differ():
    masks = [*MASKS[:2], {"type": "percentile", "warm_up": 0}, *MASKS[3:5], {"type": "compromise", "factor": 0.5}]
    found = [run(method(mask=mask))[0] for mask in masks]
    assert not any(identical(a, b) for i, a in enumerate(found) for b in found[:i])


def test_agem_looks_at_all_weights_as_one_vector():
    """In one loop at m = 0 without a retain step, the whole update is at right angles to the retain gradient."""
    model = model_of()
    names = [name for name, _ in model.named_parameters() if "gate_proj" in name]
    loss = model(input_ids=RETAIN[0], labels=RETAIN[0]).loss
    retain = torch.cat([g.flatten() for g in torch.autograd.grad(loss, [model.get_parameter(n) for n in names])])
    still = {"adversary": {"type": "none"}, "retaining_rate": 0.0, "retain_momentum": 0.0}

    def update(mask: str, batch: torch.Tensor) -> torch.Tensor:
        before = snapshot(model_of())
        after, _ = run(method(mask=mask, unlearning_rate=1e-3, **still), 1, [batch], RETAIN)
        return torch.cat([(after[name] - before[name]).flatten() for name in names]).double()

    conflicting = [batch for batch in (*FORGET, *RETAIN) if update("none", batch) @ retain.double() > 0]
    assert conflicting, "RETAIN[0] itself conflicts"
    for batch in conflicting[:2]:
        plain = update("none", batch)
        projected = update("agem", batch)
        assert abs(projected @ retain.double()) < 1e-3 * (plain @ retain.double()) + 1e-9
