"""Whether what is stated agrees with what comes out when it is computed again."""

import math
from collections.abc import Iterator
from typing import Any

_RELATIVE = 1e-9
"""Part of a number by which other machines may add up differently."""


def differing(stated: Any, computed: Any, path: str) -> Iterator[str]:
    """Where two documents do not agree, by path; floats may differ by rounding."""
    if isinstance(stated, dict) and isinstance(computed, dict):
        for key in sorted(stated.keys() | computed.keys()):
            yield from differing(stated.get(key), computed.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(stated, list) and isinstance(computed, list) and len(stated) == len(computed):
        for index, pair in enumerate(zip(stated, computed, strict=True)):
            yield from differing(*pair, f"{path}.{index}".lstrip("."))
    elif not agree(stated, computed):
        yield f"{path}: {stated!r} is stated, {computed!r} comes out"


def agree(stated: Any, computed: Any) -> bool:
    """Whole numbers, such as seeds, to the last digit."""
    numbers = isinstance(stated, int | float) and isinstance(computed, int | float)
    if numbers and (isinstance(stated, float) or isinstance(computed, float)):
        return math.isclose(stated, computed, rel_tol=_RELATIVE, abs_tol=1e-12)
    return stated == computed
