"""Series whose neighbours resemble each other."""

import math

import numpy as np


def autoregressive(n: int, phi: float, generator: np.random.Generator) -> tuple[float, ...]:
    """x_t = φ x_{t−1} + e_t with e_t standard normal, from its stationary distribution; mean 0."""
    values = [generator.normal() / math.sqrt(1 - phi**2)]
    for noise in generator.normal(size=n - 1):
        values.append(phi * values[-1] + noise)
    return tuple(values)
