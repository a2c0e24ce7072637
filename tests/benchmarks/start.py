"""How soon work begins: ``python tests/benchmarks/start.py``.

Inside a worker that has run a trial: from one trial's result to the end of the next one's first forward, medians of
nine, and the copying of weights within it. Then the imports of the API and of the command line, and the start of an API
that serves, each in a process of its own, medians of five.
"""

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import httpx
import torch

import mudman
from mudman import presets
from mudman.bench import bench_for
from mudman.results import Decision, Progress
from mudman.specs import StudySpec, parse

MODELS = {"tiny-llama": "gate_proj", "tiny-neox": "dense_h_to_4h"}
RATES = {"unlearning_rate": 0.003, "retaining_rate": 0.01, "retain_momentum": 0.9, "adversary_rate": 0.01}


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median(work: Callable[[], float], times: int) -> float:
    """After one that does not count."""
    return statistics.median([work() for _ in range(times + 1)][1:])


def next_trial(spec: StudySpec) -> float:
    """Seconds until the first pass is made, which is a forward."""
    made = []

    def stop(progress: Progress) -> Decision:
        if not progress.passes:
            return Decision.CONTINUE
        made.append(time.perf_counter())
        return Decision.STOP

    began = time.perf_counter()
    mudman.run_trial(spec, RATES | {"fork_every": 10}, stop)
    return made[0] - began


def api() -> float:
    """Seconds until a new process answers over HTTP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # It starts also while Postgres is away, and this measures the API alone.
    environment = os.environ | {"MUDMAN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/away"}
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "service", "--port", str(port)], env=environment, stderr=-3)
    try:
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz")
            except httpx.TransportError:
                time.sleep(0.005)
            else:
                return time.perf_counter() - began
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| what | ms |\n|---|---|")
    for name, module in MODELS.items():
        document = presets.load("quickstart", {"model": {"id": name}, "method": {"target_modules": [module]}})
        spec = parse(document)
        whole = median(partial(next_trial, spec), 9)
        restore = median(partial(seconds, bench_for(spec).restore), 9)
        print(f"| {name}: from a result to the end of the next trial's first forward | {1000 * whole:.1f} |")
        print(f"| {name}: of these, copying weights | {1000 * restore:.1f} |", flush=True)
    for module in ("service.cli", "service.app"):
        run = partial(subprocess.run, [sys.executable, "-c", f"import {module}"], check=True)
        print(f"| import of {module} | {1000 * median(partial(seconds, run), 5):.0f} |", flush=True)
    print(f"| API, from nothing to its first answer | {1000 * median(api, 5):.0f} |")
