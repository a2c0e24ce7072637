"""``python tests/benchmarks/products.py``: GFLOPS of matrix products on one thread, by torch's own and by oneDNN."""

import time
from collections.abc import Callable

import torch

from mudman.products import fast_products, has_bfloat16, mkl_is_slow

SHAPES = {"tiny MLP": (1600, 128, 344), "SmolLM2 MLP": (1600, 576, 1536), "pythia head": (80, 128, 50304)}


def gigaflops(product: Callable[[], object], work: int) -> float:
    """Of the best of nine."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        product()
        times.append(time.perf_counter() - began)
    return work / min(times) / 1e9


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"torch's own are replaced here: {mkl_is_slow()}\n")
    print("| shape | torch's own | fast | bfloat16 |\n|---|---|---|---|")
    for name, (rows, inner, columns) in SHAPES.items():
        a, b, work = torch.randn(rows, inner), torch.randn(columns, inner).T, 2 * rows * inner * columns
        found = [gigaflops(lambda a=a, b=b: a @ b, work)]
        with fast_products():
            found.append(gigaflops(lambda a=a, b=b: a @ b, work))
        low_a, low_b = a.bfloat16(), b.bfloat16()
        found.append(gigaflops(lambda a=low_a, b=low_b: a @ b, work) if has_bfloat16() else float("nan"))
        print(f"| {name} {rows} x {inner} x {columns} | " + " | ".join(f"{each:.0f}" for each in found) + " |")
