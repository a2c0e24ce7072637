"""``python tests/benchmarks/sampling.py``: seconds of one ask, and of a whole take-over, by sampler and trials told.

Our part is what the other rows have in common; TPE's estimators and the Gaussian process cost what Optuna's do.
"""

import statistics
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "service" / "store"))

from sampled import ending, spec

from mudman import pruning
from mudman.pruning import Told
from service.store.mirror import Mirror

NINE = {
    name: {"low": 1e-5, "high": 1.0, "log": True}
    for name in ("unlearning_rate", "retaining_rate", "adversary_rate", "growing_weights", "revert_below")
} | {
    "retain_momentum": {"low": 0.0, "high": 0.99},
    "forget_momentum": {"low": 0.1, "high": 0.99},
    "consensus_power": {"low": 0.5, "high": 2.0},
    "fork_every": {"low": 6, "high": 42, "int": True},
}


def measured(name: str, trials: int, asks: int) -> tuple[float, float]:
    """Seconds of a restore of so many trials, and the median of the asks behind it."""
    settings = {"points": 4} if name == "grid" else {}
    study, random = spec(name, ranges=NINE, **settings), Random(0)
    rows, space = [], study.search_space()
    for _ in range(trials):
        point = {path: range_.low + random.random() * (range_.high - range_.low) for path, range_ in space.items()}
        rows.append((point, ending(study, point, bound=-0.5)))
    began = time.perf_counter()
    mirror = Mirror(study)
    for ordinal, (point, end) in enumerate(rows):
        mirror.restore(ordinal, point, end)
    mirror.ask()
    restored = time.perf_counter() - began
    seconds = []
    for _ in range(asks):
        began = time.perf_counter()
        suggestion = mirror.ask()
        mirror.tell(suggestion.ordinal, ending(study, suggestion.hyperparameters))
        seconds.append(time.perf_counter() - began)
    return restored, statistics.median(seconds)


def cut(trials: int) -> float:
    random = Random(0)
    study = spec("random", pruner="median")
    told = [Told(True, {2 * step: random.random() for step in range(1, 11)}) for _ in range(trials)]
    began = time.perf_counter()
    pruning.cuts(study, told)
    return time.perf_counter() - began


if __name__ == "__main__":
    print(f"{'sampler':10} {'trials':>8} {'restore and first ask, s':>26} {'ask and tell, ms':>18}")
    for name, sizes in {
        **dict.fromkeys(("random", "grid", "cmaes", "tpe"), (10, 1_000, 50_000)),
        "gp": (10, 100, 300),
    }.items():
        for trials in sizes:
            restored, asked = measured(name, trials, 3 if name == "gp" else 15)
            print(f"{name:10} {trials:8} {restored:26.2f} {1000 * asked:18.1f}", flush=True)
    for trials in (10, 1_000, 50_000):
        print(f"{'cuts':10} {trials:8} {'':26} {1000 * cut(trials):18.1f}")
