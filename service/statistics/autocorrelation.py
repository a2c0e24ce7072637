"""How much a series knows: consecutive trials of a search resemble each other, and count for fewer than they are."""

from collections.abc import Sequence

FEWEST = 4
"""Values below which no correlation can be estimated."""


def autocorrelations(values: Sequence[float]) -> list[float]:
    """ρ_k for k = 0 … n − 1: Σ_t (x_t − m)(x_{t+k} − m) / Σ_t (x_t − m)², by a Fourier transform.

    Zero at every k > 0 where all values are equal.
    """
    import numpy as np

    n = len(values)
    centred = np.asarray(values, float)
    centred = centred - centred.mean()
    spectrum = np.fft.rfft(centred, 2 * n)  # as many zeros behind it: the series is no circle
    covariances = np.fft.irfft(spectrum * spectrum.conj(), 2 * n)[:n]
    if not np.ptp(values) > 0:
        return [1.0] + [0.0] * (n - 1)
    return (covariances / covariances[0]).tolist()


def correlation_time(values: Sequence[float]) -> float:
    """τ = 1 + 2 Σ_k ρ_k, from 1 to n: so many consecutive values say what one independent value would.

    The sum ends before the first pair ρ_{2m} + ρ_{2m+1} that is not positive (Geyer 1992, initial positive sequence):
    beyond it there is noise. Never below 1: that neighbours repel each other is no credit. 1 where fewer than
    ``FEWEST`` values are known.
    """
    n = len(values)
    if n < FEWEST:
        return 1.0
    rho, total = autocorrelations(values), 0.0
    for lag in range(0, n - 1, 2):
        pair = rho[lag] + rho[lag + 1]
        if pair <= 0:
            break
        total += pair
    return min(max(2 * total - 1, 1.0), float(n))


def effective_size(values: Sequence[float]) -> float:
    """Independent values that would give the mean the same standard error: n / τ."""
    return len(values) / correlation_time(values)
