"""When a phase is checked, what its curve says, and that looking changes nothing."""

import pytest
import reference
import torch
from small_models import identical, small_model, snapshot, token_batches

import mudman
from mudman.engine import Evaluation
from mudman.results import Point

FORGET, RETAIN = token_batches(1, 3, size=1), token_batches(2, 3, size=1)
HELD_OUT = Evaluation(forget=token_batches(3, 2), retain=token_batches(4, 1))


def tiny():
    return small_model("llama", num_hidden_layers=1)


def method(**adversary) -> dict:
    return {
        "type": "mudman",
        "target_modules": ["gate_proj"],
        "unlearning_rate": 0.02,
        "adversary": adversary,
    }


def held_out_loss(model, batches) -> float:
    with torch.no_grad():
        return sum(float(reference.cross_entropy(model(input_ids=b).logits, b)) for b in batches) / len(batches)


@pytest.mark.parametrize(
    ("adversary", "passes", "checks"),
    [
        ({"type": "fork"}, 120, (0, 30, 60, 90, 120)),
        ({"type": "none"}, 120, (0, 32, 60, 92, 120)),
        ({"type": "fork"}, 40, (0, 30, 40)),
    ],
)
def test_checks_fall_on_the_first_loop_past_each_thirty_passes(adversary, passes, checks):
    _, record = mudman.unlearn(tiny(), FORGET, RETAIN, method(**adversary), passes, evaluation=HELD_OUT)
    assert record.curve.passes == checks
    assert len(record.curve.forget_loss) == len(record.curve.retain_loss) == len(checks)


def test_curve_is_the_held_out_loss_of_the_model_itself():
    """Not of the adversary, and in nats per token."""
    model = tiny()
    before = held_out_loss(model, HELD_OUT.forget), held_out_loss(model, HELD_OUT.retain)
    _, record = mudman.unlearn(model, FORGET, RETAIN, method(), 30, evaluation=HELD_OUT)
    after = held_out_loss(model, HELD_OUT.forget), held_out_loss(model, HELD_OUT.retain)
    curve = record.curve
    assert (curve.forget_loss[0], curve.retain_loss[0]) == pytest.approx(before, rel=1e-5)
    assert (curve.forget_loss[-1], curve.retain_loss[-1]) == pytest.approx(after, rel=1e-5)
    assert abs(before[0] - after[0]) > 1e-3


@pytest.mark.parametrize("gradient", ["hybrid", "reuse", "fresh"])
def test_looking_changes_nothing(gradient):
    looked_at, alone = tiny(), tiny()
    mudman.unlearn(looked_at, FORGET, RETAIN, method(gradient=gradient), 40, evaluation=HELD_OUT, check_every=5)
    mudman.unlearn(alone, FORGET, RETAIN, method(gradient=gradient), 40)
    assert identical(snapshot(looked_at), snapshot(alone))
    mudman.relearn(looked_at, FORGET, {"rate": 0.01, "passes": 8, "check_every": 2}, evaluation=HELD_OUT)
    mudman.relearn(alone, FORGET, {"rate": 0.01, "passes": 8})
    assert identical(snapshot(looked_at), snapshot(alone))


def test_every_pass_is_reported():
    seen = []
    mudman.unlearn(tiny(), FORGET, RETAIN, method(), 10, on_pass=lambda passes, point: seen.append((passes, point)))
    assert [passes for passes, point in seen if point is None] == list(range(1, 11))
    assert [passes for passes, point in seen if point is not None] == [10]


def test_a_check_can_end_the_phase():
    _, record = mudman.unlearn(
        tiny(), FORGET, RETAIN, method(), 120, evaluation=HELD_OUT, stop_when=lambda point: point.passes >= 60
    )
    assert (record.stopped_at_pass, record.passes_booked, record.loops, record.diverged) == (60, 60, 12, False)


def test_divergence_is_told_and_ends_the_phase():
    settings = {**method(), "unlearning_rate": 3e38}
    _, record = mudman.unlearn(tiny(), FORGET, RETAIN, settings, 120, evaluation=HELD_OUT)
    assert record.diverged
    assert record.passes_booked < 120


@pytest.mark.parametrize("phase", ["unlearn", "relearn"])
def test_an_order_to_stop_leaves_a_tidy_model(phase):
    """``on_pass`` raises between two passes, where the model may hold the adversary's weights."""

    class Stop(Exception):
        pass

    for at in range(1, 6):

        def stop(passes, point, at=at):
            if passes == at:
                raise Stop

        model = tiny().requires_grad_(False).eval()
        places = {name: p.data_ptr() for name, p in model.named_parameters()}
        with pytest.raises(Stop):
            if phase == "unlearn":
                mudman.unlearn(model, FORGET, RETAIN, method(), 10, on_pass=stop)
            else:
                mudman.relearn(model, FORGET, {"rate": 0.01, "passes": 10}, on_pass=stop)
        assert {name: p.data_ptr() for name, p in model.named_parameters()} == places
        assert not any(p.requires_grad for p in model.parameters())
        assert not model.training


def test_a_start_that_is_known_is_not_looked_at_again(monkeypatch):
    """And makes the same curve."""
    looked = []
    point = Evaluation.point
    monkeypatch.setattr(Evaluation, "point", lambda self, *given: looked.append(given) or point(self, *given))

    def curves(known: bool) -> list:
        model = tiny()
        before = HELD_OUT.point(model, 0) if known else None
        looked.clear()
        unlearned = mudman.unlearn(model, FORGET, RETAIN, method(), 30, evaluation=HELD_OUT, start=before).record.curve
        end = Point(passes=30, forget_loss=unlearned.forget_loss[-1], retain_loss=unlearned.retain_loss[-1])
        attack, start = {"rate": 0.01, "passes": 30}, end if known else None
        return [unlearned, mudman.relearn(model, FORGET, attack, evaluation=HELD_OUT, start=start).record.curve]

    found = curves(known=False)
    assert len(looked) == 4
    assert curves(known=True) == found
    assert len(looked) == 2
