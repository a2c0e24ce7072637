"""Logits that are never formed against their slow twin: every loss, every gradient, chunk by chunk."""

import pytest
import torch
from small_models import MODULES, small_model, snapshot, token_batches
from torch import nn
from transformers import LlamaForCausalLM

import mudman
from mudman import head, losses
from mudman.evals.loss import mean_loss
from mudman.head import Logits, has_plain_head, unformed

ROWS, WIDTH, VOCABULARY = (3, 9), 16, 48
SETTINGS = {
    "neg_cross_entropy": {},
    "neg_entropy": {},
    "correct_logit": {"clip": 0.1},
    "biased_entropy": {"bias": 1.5},
    "flipped_probability": {"bias": 0.5, "only_correct": False},
    "soft_cross_entropy": {"scale": 2.0},
    "soft_logit": {"scale": 0.7},
}
EVERY = [("cross_entropy", losses.cross_entropy, {})] + [
    (name, loss, SETTINGS[name]) for name, loss in losses.ON_LOGITS.items()
]


@pytest.fixture(params=[(1, 1), (5, 2), (27, 4), (10**6, 10**6)], ids=lambda rows: f"{rows[0]} by {rows[1]} rows")
def grouped(request, monkeypatch):
    """As many rows of logits at once, and so many of those; 27 are all, and 5 do not divide them, nor 2 those 5."""
    for limit, rows in zip((head.GROUP, head.BLOCK), request.param, strict=True):
        monkeypatch.setitem(limit, "cpu", 4 * VOCABULARY * rows)


def parts(bias: bool = False, dtype=torch.float32) -> tuple:
    generator = torch.Generator().manual_seed(3)
    made = [torch.randn(*shape, generator=generator) for shape in ((*ROWS, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,))]
    hidden, weight, shift = (part.to(dtype).requires_grad_(True) for part in made)
    return hidden, weight, shift if bias else None


def value_and_gradients(form, loss, settings, given, tokens):
    value = loss(form(*given), tokens, **settings)
    wanted = [part for part in given if part is not None]
    return value, torch.autograd.grad(-2.5 * value, wanted)


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize(("name", "loss", "settings"), EVERY, ids=[name for name, *_ in EVERY])
def test_value_and_every_gradient_are_those_of_formed_logits(grouped, name, loss, settings, bias):
    given, tokens = parts(bias), token_batches(1, 1)[0]
    value, gradients = value_and_gradients(Logits, loss, settings, given, tokens)
    expected, slow = value_and_gradients(lambda *p: Logits(*p).formed(), loss, settings, given, tokens)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(gradients, slow, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_loss_by_hand():
    """Two tokens, width 1: z = (h, 0), so −log p(first) = log(1 + exp(−h)), with gradient −1 / (1 + exp(h))."""
    hidden = torch.tensor([[[2.0], [7.0]]], requires_grad=True)
    logits = Logits(hidden, torch.tensor([[1.0], [0.0]]), None)
    loss = losses.cross_entropy(logits, torch.tensor([[1, 0]]))
    loss.backward()
    assert loss.item() == pytest.approx(0.126928, abs=1e-6)
    assert hidden.grad.flatten().tolist() == pytest.approx([-0.119203, 0.0], abs=1e-6)


def test_a_token_that_has_become_impossible_keeps_its_loss_and_its_gradient():
    """exp(−200) is 0 in float32."""
    hidden = torch.tensor([[[200.0], [0.0]]], requires_grad=True)
    loss = losses.cross_entropy(Logits(hidden, torch.tensor([[1.0], [0.0]]), None), torch.tensor([[0, 1]]))
    loss.backward()
    assert loss.item() == 200
    assert hidden.grad[0, 0].item() == 1


def test_one_graph_serves_two_losses_and_two_backwards():
    hidden, weight, _ = parts()
    logits, tokens = Logits(hidden, weight.detach(), None), token_batches(1, 1)[0]
    adversary = losses.cross_entropy(logits, tokens)
    unlearning = losses.neg_cross_entropy(logits, tokens)
    [up] = torch.autograd.grad(adversary, hidden, retain_graph=True)
    [down] = torch.autograd.grad(unlearning, hidden)
    assert torch.equal(up, -down) and up.abs().sum() > 0
    assert logits.cross_entropy(tokens) is adversary
    assert logits.cross_entropy(tokens.clone()) is not adversary, "other tokens, another loss"


def test_there_is_no_second_derivative():
    hidden, weight, _ = parts()
    loss = losses.cross_entropy(Logits(hidden, weight, None), token_batches(1, 1)[0])
    [gradient] = torch.autograd.grad(loss, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad(gradient.sum(), hidden)


@pytest.mark.parametrize("family", MODULES)
def test_a_model_gives_unformed_logits_only_inside(family):
    model, tokens = small_model(family), token_batches(1, 1)[0]
    formed = model(input_ids=tokens).logits
    with unformed(model):
        logits = model(input_ids=tokens).logits
    torch.testing.assert_close(logits.formed(), formed)
    assert torch.equal(model(input_ids=tokens).logits, formed)
    assert mean_loss(model, [tokens]) == pytest.approx(losses.cross_entropy(formed, tokens).item(), rel=1e-6)


def test_a_head_whose_logits_are_changed_afterwards_is_left_alone():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    shape = {"vocab_size": 48, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    shape |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    assert not has_plain_head(Gemma2ForCausalLM(Gemma2Config(final_logit_softcapping=30.0, **shape)))
    assert has_plain_head(small_model("llama")) and has_plain_head(small_model("neox"))
    assert not has_plain_head(nn.Linear(2, 2))


def test_a_head_whose_logits_are_changed_in_place_is_left_alone():
    def forward(self, *args, **settings):
        output = LlamaForCausalLM.forward(self, *args, **settings)
        output.logits.mul_(2)
        return output

    model = small_model("llama")
    model.__class__ = type("Scaled", (LlamaForCausalLM,), {"forward": forward})
    assert not has_plain_head(model)


def test_a_head_that_somebody_watches_is_left_alone():
    model = small_model("llama")
    hook = model.lm_head.register_forward_hook(lambda module, args, output: output + 1)
    assert not has_plain_head(model)
    hook.remove()
    assert has_plain_head(model)


@pytest.mark.parametrize("family", MODULES)
def test_an_attack_is_the_same_with_formed_logits(family, monkeypatch):
    """Eight steps of everything, the head and its tied embedding included."""
    batches = token_batches(5, 8)
    ours, slow = (small_model(family, tie_word_embeddings=True) for _ in range(2))
    before = snapshot(ours)
    mudman.relearn(ours, batches, {"rate": 0.05, "passes": 16})
    monkeypatch.setattr("mudman.passes.has_plain_head", lambda model: False)
    mudman.relearn(slow, batches, {"rate": 0.05, "passes": 16})
    moved = sum((snapshot(slow)[name] - w).square().sum().item() for name, w in before.items()) ** 0.5
    apart = sum((snapshot(slow)[name] - w).square().sum().item() for name, w in snapshot(ours).items()) ** 0.5
    assert moved > 0.1 and apart < 1e-4 * moved
