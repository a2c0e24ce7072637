"""Peak memory of both phases: ``python tests/benchmarks/memory.py [--shapes …]``, each shape in a process of its own.

Random weights in the shape of the model, bfloat16, batches of 16 x 100 tokens: one loop of unlearning with a fork as
the adversary, one of the attack. On a CPU it is what the process holds at most (VmHWM) less what it held before the
model was there, on a GPU what torch has allocated at most. A study's process holds one more copy of the weights, to
begin its trials from: on a GPU, of a large model, in the host's memory.
"""

import argparse
import multiprocessing
import re
from pathlib import Path

import torch
from trial import DEVICE, RATES, SHAPES

import mudman
from mudman.heap import large_tensors_kept

GB = 1e9


def held(field: str) -> float:
    """GB of this process: ``VmRSS`` now, ``VmHWM`` at most since ``forget``."""
    if DEVICE.type == "cuda":
        now = field == "VmRSS"
        return (torch.cuda.memory_allocated() if now else torch.cuda.max_memory_allocated()) / GB
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) / GB


def forget() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def measure(name: str) -> None:
    torch.set_num_threads(1)
    target, make = SHAPES[name]
    mudman.unlearn, mudman.relearn  # noqa: B018 - their imports are no part of it
    before = held("VmRSS")
    torch.set_default_dtype(torch.bfloat16)
    model = make().to(DEVICE, torch.bfloat16)
    torch.set_default_dtype(torch.float32)
    weights = sum(weight.nbytes for weight in model.parameters()) / GB
    intervened = sum(weight.nbytes for key, weight in model.named_parameters() if f"{target}.weight" in key) / GB
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = [torch.randint(2, vocabulary, (16, 100), device=DEVICE) for _ in range(2)]
    method = {"type": "mudman", "target_modules": [target], "adversary": {"type": "fork", "gradient": "reuse"}} | RATES
    peaks = []
    with large_tensors_kept():
        forget()
        mudman.unlearn(model, tokens[:1], tokens[1:], method, 5)
        peaks.append(held("VmHWM") - before)
        forget()
        mudman.relearn(model, tokens[:1], {"rate": 1e-4, "passes": 2})
        peaks.append(held("VmHWM") - before)
    print(f"| {name} | {weights:.2f} | {intervened:.2f} | {peaks[0]:.2f} | {peaks[1]:.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["pythia-14m", "SmolLM2-135M", "Llama-3.2-1B"])
    print(
        "| shape | weights, GB | intervened | peak of unlearning | peak of the attack |\n|---|---|---|---|---|",
        flush=True,
    )
    for each in parser.parse_args().shapes:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(each,))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)
