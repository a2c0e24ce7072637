"""Several comparisons at once: Holm's step-down correction."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def adjusted(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """p-values that may each be held against one level, the chance of any false finding staying below it (Holm 1979).

    With p_(1) ≤ … ≤ p_(m): max over j ≤ i of (m − j + 1)·p_(j), 1 at most.
    """
    found, highest, many = {}, 0.0, len(p_values)
    for place, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        highest = max(highest, min((many - place) * p_values[key], 1.0))
        found[key] = highest
    return found
