"""What is left of the best on fresh seeds, as `mudman best` and `mudman stats` print it."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

Document = Mapping[str, Any]


def confirmation(found: Document) -> Group:
    return Group(*map(Text, _head(found)), _table(found), *map(Text, _verdict(found)))


def _head(found: Document) -> Iterator[str]:
    ended = sum(sum(one["outcomes"].values()) for one in found["configurations"])
    so_far = "" if found["complete"] else f" so far ({ended} of {found['runs']} runs, {found['state']})"
    yield f"confirmed on {len(found['seeds'])} fresh seeds and other held-out batches{so_far}, study {found['study']}:"


def _table(found: Document) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("trial")
    for column in ("search", "confirmed", "shrinkage", "95 %", "of the gain", "95 %", "valid"):
        table.add_column(column, justify="right")
    for one in found["configurations"]:
        cells = (str(one["ordinal"]), f"{one['searched']:.4f}", _mean(one["mean"], ".4f"))
        for change in (one["shrinkage"], one["gain_shrinkage"]):
            cells += (_mean(change, "+.4f"), _interval(change))
        table.add_row(*map(Text, (*cells, f"{one['outcomes'].get('valid', 0)}/{one['seeds']}")))
    return table


def _verdict(found: Document) -> Iterator[str]:
    if found["confirmed_best"] is None:
        yield "no run is valid yet" if not found["complete"] else "no run is valid"
    elif found["confirmed_best"] == found["best_of_search"]:
        yield f"the best of the search, trial {found['best_of_search']}, is the best confirmed one too"
    else:
        difference = found["difference"]
        by = f", by {_mean(difference, '+.4f')} (95 % {_interval(difference)})" if difference else ""
        yield f"confirmed best: trial {found['confirmed_best']}, not {found['best_of_search']}{by}"


def _mean(mean: Document | None, form: str) -> str:
    if mean is None:
        return "–"
    error = "" if mean["standard_error"] is None else f" ± {mean['standard_error']:.4f}"
    return f"{mean['value']:{form}}{error}"


def _interval(mean: Document | None) -> str:
    return "–" if mean is None or mean["low"] is None else f"{mean['low']:+.4f} to {mean['high']:+.4f}"
