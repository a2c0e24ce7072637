"""Models of one transformer layer and a few weights, whose gradients can be worked by hand.

Tokens 0 and 1 are read as (1, 0) and (0, 1); the layer's output is taken for the logits. The norm multiplies by
``scale``: its Jacobian is ``scale`` times the identity. Attention is a linear layer, and it is off at the start.
"""

from types import SimpleNamespace

import torch
from torch import nn


def linear(rows) -> nn.Linear:
    matrix = torch.tensor(rows, dtype=torch.float32)
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
    layer.weight.data = matrix
    return layer


class Scale(nn.Module):
    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, states):
        return states * self.scale


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = linear([[0, 0], [0, 0]])

    def forward(self, hidden_states):
        return self.dense(hidden_states)


class PlainMlp(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.dense_h_to_4h, self.dense_4h_to_h = linear(first), linear(second)

    def forward(self, states):
        return self.dense_4h_to_h(self.dense_h_to_4h(states))


class Square(nn.Module):
    def forward(self, x):
        return x * x


class GatedMlp(nn.Module):
    """act(z) = z², so that act′(z) = 2 z."""

    def __init__(self, gate, up, down):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = linear(gate), linear(up), linear(down)
        self.act_fn = Square()

    def forward(self, states):
        return self.down_proj(self.act_fn(self.gate_proj(states)) * self.up_proj(states))


class Layer(nn.Module):
    def __init__(self, mlp: nn.Module, scale: float):
        super().__init__()
        self.attention = self.self_attn = Attention()
        self.post_attention_layernorm, self.mlp = Scale(scale), mlp

    def forward(self, hidden_states):
        attended = self.attention(hidden_states=hidden_states)
        return hidden_states + attended + self.mlp(self.post_attention_layernorm(hidden_states))


class ToyModel(nn.Module):
    """GPT-NeoX with a plain MLP, Llama with a gated one, as far as the names of their parts go."""

    def __init__(self, mlp: nn.Module, scale: float = 1.0):
        super().__init__()
        self.config = SimpleNamespace(model_type="llama" if isinstance(mlp, GatedMlp) else "gpt_neox")
        self.layers = nn.ModuleList([Layer(mlp, scale)])

    @property
    def base_model(self):
        return self

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.layers[0](nn.functional.one_hot(input_ids, 2).float()))
