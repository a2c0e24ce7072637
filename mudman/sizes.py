"""Sizes in bytes that must be known where trials compute and where their memory is only estimated. No torch."""

LARGE = 2**30
"""Of weights: from here a copy of all of them is too much to have beside them. The attack then spends each gradient as
it is formed, where smaller models take all in one sweep, and a card holds no snapshot of them."""
STATES = 512 * 2**20
"""Of the original model's hidden states that a process keeps for its next trials."""
GROUP = {"cpu": 64 * 2**20, "cuda": 256 * 2**20}
"""Of logits that exist at once, by device: rows enough for products, and for gathering the head's gradient seldom."""


def is_large(weights: int) -> bool:
    """Of the bytes of all weights."""
    return weights >= LARGE
