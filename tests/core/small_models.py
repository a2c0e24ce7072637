"""Randomly initialised models of both architectures, small enough that a loop takes milliseconds, and token batches."""

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

VOCABULARY = 48
MODULES = {"llama": ["gate_proj"], "neox": ["dense_h_to_4h"]}

# Weights far larger than usual at birth: gradients of different loops and variants then differ visibly.
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.25,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def small_model(family: str, seed: int = 0, **changes) -> torch.nn.Module:
    torch.manual_seed(seed)
    shape = {**_SHAPE, **changes}
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(num_key_value_heads=1, **shape))
    return GPTNeoXForCausalLM(GPTNeoXConfig(**shape))


def token_batches(seed: int, count: int, size: int = 3, length: int = 9) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCABULARY, (size, length), generator=generator) for _ in range(count)]


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """L2 norm of the difference, over the names in ``b``."""
    return sum(float((a[name].double() - w.double()).square().sum()) for name, w in b.items()) ** 0.5
