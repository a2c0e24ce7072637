"""A few loops on a small model: what the property tests run."""

import torch
from small_models import MODULES, small_model, snapshot, token_batches

import mudman

FORGET, RETAIN = token_batches(1, 4), token_batches(2, 4)
GRADIENTS = ("hybrid", "reuse", "fresh")
ADVERSARIES = [{"type": "none"}, *({"gradient": gradient} for gradient in GRADIENTS)]


def model_of(family: str = "llama", **shape) -> torch.nn.Module:
    return small_model(family, **shape)


def method(**changes) -> dict:
    return {
        "type": "mudman",
        "target_modules": MODULES["llama"],
        "unlearning_rate": 0.02,
        "retaining_rate": 0.05,
        "adversary_rate": 0.1,
        "fork_every": 2,
        **changes,
    }


def loop_passes(config: dict) -> int:
    has_adversary = config.get("adversary", {}).get("type", "fork") == "fork"
    return 4 + has_adversary + ("representation_loss" in config)


def run(config: dict, loops: int = 3, forget=FORGET, retain=RETAIN, model=None):
    model = model_of() if model is None else model
    model, record = mudman.unlearn(model, forget, retain, config, loops * loop_passes(config))
    return snapshot(model), record
