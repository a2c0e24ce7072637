"""Where a trial's time goes: ``python tests/benchmarks/shares.py``.

Shares of the processor's own time by kind of operator, by torch's profiler, over the pieces that ``trial.py`` times, on
one thread. The softmax of the head is most of what counts as softmax; where attention is formed from plain products
(``fast``), its own is among it.
"""

import sys

import torch
from torch.profiler import ProfilerActivity, profile
from trial import prepared

ROWS = [
    ("tiny-llama", "loop", "exact"),
    ("tiny-llama", "loop", "fast"),
    ("pythia-14m", "loop", "exact"),
    ("pythia-14m", "attack", "exact"),
    ("pythia-14m", "attack", "fast"),
    ("SmolLM2-135M", "attack", "exact"),
    ("SmolLM2-135M", "attack", "fast"),
]
KINDS = {
    "products": ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm"),
    "softmax": ("aten::_softmax",),
    "attention": ("aten::_scaled_dot_product", "aten::bmm", "aten::_softmax_backward"),
    "casts and copies": ("aten::copy_",),
    "sweeps over weights": ("aten::_foreach", "aten::add_", "aten::mul_", "aten::sign"),
}


def kind_of(operator: str) -> str:
    # The longest name first: a softmax's backward is another operator than it.
    known = sorted(((name, kind) for kind, names in KINDS.items() for name in names), reverse=True)
    return next((kind for name, kind in known if operator.startswith(name)), "the rest")


def shares(name: str, piece: str, mode: str) -> dict[str, float]:
    _, pieces, _, restore = prepared(name, [mode])
    restore()
    work = pieces[piece][mode]
    work()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    found = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for operator in seen.key_averages():
        found[kind_of(operator.key)] += operator.self_cpu_time_total
    whole = sum(found.values())
    return {kind: spent / whole for kind, spent in found.items()}


def main() -> None:
    torch.set_num_threads(1)
    columns = [*KINDS, "the rest"]
    print(f"| of | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}", flush=True)
    for name, piece, mode in ROWS:
        found = shares(name, piece, mode)
        what = {"loop": "a loop", "attack": "an attack step"}[piece]
        print(f"| {what} of {name}, `{mode}` | {' | '.join(f'{found[one]:.0%}' for one in columns)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
