"""Documents that were changed somewhere, drawn by hypothesis."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

_GONE = object()
_OTHERS = st.sampled_from([_GONE, None, [], {}, "", "x", True, -1, 0, 3, 0.5, -1e300, [1], [None], {"a": [1]}])


@st.composite
def mutations(draw) -> Callable[[Any], None]:
    """Puts something else at a place of a document, or takes it away."""
    steps, other = draw(st.lists(st.integers(0, 2**16), min_size=1, max_size=7)), draw(_OTHERS)

    def change(document: Any) -> None:
        place = document
        for number, step in enumerate(steps, 1):
            key = list(place)[step % len(place)] if isinstance(place, dict) else step % len(place)
            if number == len(steps) or not (isinstance(place[key], dict | list) and place[key]):
                break
            place = place[key]
        if other is _GONE:
            del place[key]
        else:
            place[key] = other

    return change
