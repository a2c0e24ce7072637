"""Results that were published, as presets quote them, beside ours."""

import re
from collections.abc import Mapping

from service.view import View

_PUBLISHED = re.compile(r"\s*([0-9]*\.?[0-9]+)(?:\s*±\s*([0-9]*\.?[0-9]+))?\s*")


class PublishedView(View):
    """A published result, in the unit of the objective."""

    value: float
    standard_error: float | None
    """Null where none was published."""


def by_variant(expected: Mapping[str, str]) -> dict[str, PublishedView]:
    """``expected``: as ``presets.published`` has them; those that are numbers."""
    found = {variant: read(said) for variant, said in expected.items()}
    return {
        variant: PublishedView(value=one[0], standard_error=one[1] or None) for variant, one in found.items() if one
    }


def read(published: str) -> tuple[float, float] | None:
    """``11.30 ± .95`` → (11.3, 0.95); an error that is not given is 0; None for anything else."""
    found = _PUBLISHED.fullmatch(published)
    return (float(found[1]), float(found[2] or 0)) if found else None
