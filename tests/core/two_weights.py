"""A model of two weights whose gradients can be worked by hand.

The model reads token 0 or 1 and gives the logits (0, w₀) or (0, w₁): token t is followed by 1 with p = σ(w_t). For
two-token sequences (s₀, s₁) the cross-entropy counts the one position s₀ → s₁, so that ∂CE/∂w is, averaged over the
sequences, p − 1[s₁ = 1] at w_{s₀}: ±1/2 at w = 0; σ(ln 3) = 3/4, σ(−ln 3) = 1/4, σ(2 ln 3) = 9/10. The unlearning
gradient g_u of ``neg_cross_entropy`` is its negative.
"""

from math import log
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import mudman

LN3 = log(3)
PLAIN = {"normalization": "none", "mask": "none", "adversary": {"type": "none"}}


class TwoWeights(nn.Module):
    """One weight tensor (``probe``) of two numbers. Its hidden states: one-hot tokens, logits of 1, logits of 1."""

    def __init__(self, *weights: float):
        super().__init__()
        self.probe = nn.Linear(2, 1, bias=False)
        self.probe.weight.data = torch.tensor([weights], dtype=torch.float32)

    def logit(self, one_hot):
        return self.probe(one_hot)

    def forward(self, input_ids, **_):
        one_hot = nn.functional.one_hot(input_ids, 2).float()
        z = self.logit(one_hot)
        return SimpleNamespace(logits=torch.cat([torch.zeros_like(z), z], -1), hidden_states=(one_hot, z, z))

    def values(self) -> list[float]:
        return [float(w) for p in self.parameters() for w in p.detach().flatten()]


class TwoTensors(TwoWeights):
    """The same with each weight in a tensor of its own."""

    def __init__(self, *weights: float):
        nn.Module.__init__(self)
        self.first, self.second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        self.first.weight.data, self.second.weight.data = torch.tensor([[[w]] for w in weights], dtype=torch.float32)

    def logit(self, one_hot):
        return self.first(one_hot[..., :1]) + self.second(one_hot[..., 1:])


def unlearned(model: TwoWeights, forget: list, retain: list, loops: int = 1, **changes) -> list[float]:
    """Weights after ``loops`` loops. ``forget`` and ``retain``: one list of sequences per loop."""
    settings = {
        "type": "mudman",
        "target_modules": ["first", "second"] if isinstance(model, TwoTensors) else ["probe"],
        "retaining_rate": 0.0,
        "retain_momentum": 0.0,
        "adversary_rate": 0.0,
        **changes,
    }
    per_loop = 4 + (settings.get("adversary", {}).get("type") != "none") + ("representation_loss" in settings)
    batches = ([torch.tensor(sequences) for sequences in stream] for stream in (forget, retain))
    mudman.unlearn(model, *batches, settings, loops * per_loop)
    return model.values()


def close(*expected: float):
    return pytest.approx(list(expected), rel=1e-5, abs=1e-6)
