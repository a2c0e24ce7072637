"""How long a trial takes, against the plain published loop: ``python tests/benchmarks/trial.py [--shapes …]``.

Both run on the same random weights, batches (16 x 100 tokens), dtype and threads, by turns. Timed are the pieces that a
trial consists of, medians of several: one loop of unlearning, one of the attack, one check (a forget and a retain
batch). ``hybrid`` is the published gradient, ``exact`` reuses the adversary's, ``fast`` computes in bfloat16 as well. A
trial is their sum at 300 passes of unlearning, 300 of the attack and a check every 30: 60 loops of 5 passes,
150 of 2, and 22 checks. Where a GPU is found it is used, and all shapes are measured; otherwise one thread, and not the
largest shape. ``of peak`` is the share of the device's matmul peak, as measured here in the trial's own type, that the
arithmetic of the attack reaches: two operations per weight and token in a forward, twice as many in a backward, the
embedding counted where it is the head as well.
"""

import argparse
import functools
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import plain
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig

import mudman
from mudman.engine import Evaluation
from mudman.precision import computing
from mudman.specs import ModelSpec

LOOPS, ATTACKS, CHECKS = 60, 150, 22
AT_ONCE = 4
"""Loops, or attack steps, in one call: it begins and ends a phase, as a trial does once."""
SLOW = "SmolLM2-135M"
"""Whose plain loop makes one at once on a CPU: it has nothing that a phase begins with."""
RATES = {
    "unlearning_rate": 1e-4,
    "retaining_rate": 1e-3,
    "retain_momentum": 0.9,
    "adversary_rate": 1e-3,
    "fork_every": 20,
}
PACKAGED = Path(mudman.__file__).parent / "packaged" / "models"
SHAPES: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "tiny-llama": ("gate_proj", lambda: AutoModelForCausalLM.from_pretrained(PACKAGED / "tiny-llama")),
    "tiny-neox": ("dense_h_to_4h", lambda: AutoModelForCausalLM.from_pretrained(PACKAGED / "tiny-neox")),
    "pythia-14m": (
        "dense_h_to_4h",
        lambda: made(
            GPTNeoXConfig(
                vocab_size=50304, hidden_size=128, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4
            )
        ),
    ),
    "SmolLM2-135M": (
        "gate_proj",
        lambda: made(
            LlamaConfig(
                vocab_size=49152,
                hidden_size=576,
                intermediate_size=1536,
                num_hidden_layers=30,
                num_attention_heads=9,
                num_key_value_heads=3,
                tie_word_embeddings=True,
            )
        ),
    ),
    "Llama-3.2-1B": (
        "gate_proj",
        lambda: made(
            LlamaConfig(
                vocab_size=128256,
                hidden_size=2048,
                intermediate_size=8192,
                num_hidden_layers=16,
                num_attention_heads=32,
                num_key_value_heads=8,
                tie_word_embeddings=True,
            )
        ),
    ),
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def made(config) -> nn.Module:
    with torch.device(DEVICE):
        return AutoModelForCausalLM.from_config(config)


def seconds(work: Callable[[], object]) -> float:
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def inside(within: Callable[[], AbstractContextManager], work: Callable[[], object]) -> Callable[[], None]:
    def both() -> None:
        with within():
            work()

    return both


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def by_turns(works: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Medians of so many turns, after one that does not count."""
    taken = {name: [] for name in works}
    for turn in range(times + 1):
        for name, work in works.items():
            took = seconds(work)
            if turn:
                taken[name].append(took)
    return {name: statistics.median(each) for name, each in taken.items()}


def peak(dtype: torch.dtype) -> float:
    """Operations per second of a large product: the best of nine."""
    size = 8192 if DEVICE.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
    a @ b
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(9))


def operations(model: nn.Module) -> float:
    """Of one step of the attack on 1,600 tokens, attention itself left out."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    counted = sum(weight.numel() for weight in model.parameters()) - (0 if embedding is head else embedding.numel())
    return 3 * 2 * 1600 * counted


Works = dict[str, dict[str, Callable[[], object]]]
"""What is timed, by piece and variant."""


def dtype_of(name: str) -> torch.dtype:
    return torch.bfloat16 if name == "Llama-3.2-1B" else torch.float32


def prepared_model(name: str) -> tuple[nn.Module, Callable[[], None]]:
    """A model, and what puts all its weights back."""
    torch.manual_seed(0)
    model = SHAPES[name][1]().to(DEVICE, dtype_of(name))
    start = [parameter.detach().clone() for parameter in model.parameters()]

    @torch.no_grad()
    def restore() -> None:
        torch._foreach_copy_(list(model.parameters()), start)

    return model, restore


def prepared(name: str, modes: list[str]) -> tuple[nn.Module, Works, dict[str, int], Callable[[], None]]:
    """A model, the pieces, how many loops or attack steps each variant makes, and what puts all weights back."""
    dtype, target = dtype_of(name), SHAPES[name][0]
    model, restore = prepared_model(name)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    forget, retain = (torch.randint(2, vocabulary, (16, 100), device=DEVICE) for _ in range(2))
    held_out = Evaluation([forget], [retain])
    loop = plain.Unlearning(model, target, RATES)

    at_once = dict.fromkeys(modes, AT_ONCE) | {"plain": 1 if DEVICE.type == "cpu" and name == SLOW else AT_ONCE}
    pieces = {
        "loop": {"plain": lambda: [loop.step(forget, retain) for _ in range(at_once["plain"])]},
        "attack": {"plain": lambda: plain.attack(model, [forget] * at_once["plain"], 1e-4)},
        "check": {"plain": lambda: (plain.check(model, [forget]), plain.check(model, [retain]))},
    }
    for mode in modes:
        gradient = "hybrid" if mode == "hybrid" else "reuse"
        method = {"type": "mudman", "target_modules": [target], "adversary": {"type": "fork", "gradient": gradient}}
        compute = "bfloat16" if mode == "fast" and dtype == torch.float32 else None
        within = functools.partial(computing, ModelSpec(id=name, compute=compute), DEVICE)
        steps = functools.partial(mudman.unlearn, model, [forget], [retain], method | RATES, 5 * AT_ONCE)
        attack = functools.partial(mudman.relearn, model, [forget], {"rate": 1e-4, "passes": 2 * AT_ONCE})
        pieces["loop"][mode] = inside(within, steps)
        pieces["attack"][mode] = inside(within, attack)
        pieces["check"][mode] = inside(within, functools.partial(held_out.point, model, 0))
    return model, pieces, at_once, restore


def measure(name: str, times: int, modes: list[str]) -> None:
    dtype, (model, pieces, at_once, restore) = dtype_of(name), prepared(name, modes)
    took = {}
    for piece, works in pieces.items():
        if piece != "loop":  # the plain loop leaves its own tensors behind
            restore()
        took[piece] = by_turns(works, times)
        if piece != "check":
            took[piece] = {variant: took[piece][variant] / at_once[variant] for variant in works}
    with computing(ModelSpec(id=name), DEVICE):
        peaks = {each: peak(each) for each in {dtype, torch.bfloat16}}
    for mode in ("plain", *modes):
        loop_s, attack_s, check_s = (took[piece][mode] for piece in ("loop", "attack", "check"))
        whole = LOOPS * loop_s + ATTACKS * attack_s + CHECKS * check_s
        if mode == "plain":
            reference = whole
        share = operations(model) / attack_s / peaks[torch.bfloat16 if mode == "fast" else dtype]
        ratios = " | ".join(f"{took[piece]['plain'] / took[piece][mode]:.2f}" for piece in took)
        print(
            f"| {name} | {mode} | {1000 * loop_s:.0f} | {1000 * attack_s:.0f} | {1000 * check_s:.0f} | {whole:.1f} | "
            f"{ratios} | **{reference / whole:.2f}** | {share:.0%} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    everything = [name for name in SHAPES if DEVICE.type == "cuda" or name != "Llama-3.2-1B"]
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=everything)
    parser.add_argument("--modes", nargs="+", choices=["hybrid", "exact", "fast"], default=["hybrid", "exact", "fast"])
    parser.add_argument("--quick", action="store_true", help="3 turns instead of 9")
    asked = parser.parse_args()
    if DEVICE.type == "cpu":
        torch.set_num_threads(1)
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"one thread of {os.cpu_count()}"
    print(f"# {device}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, torch {torch.__version__}\n")
    columns = ("shape", "variant", "ms a loop", "an attack step", "a check", "s a trial")
    columns += ("loop x", "attack x", "check x", "trial x", "of peak")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for name in asked.shapes:
        measure(name, 3 if asked.quick else 9, asked.modes)


if __name__ == "__main__":
    sys.exit(main())
