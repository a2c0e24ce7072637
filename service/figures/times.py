"""What it took: trials, passes and time of each variant, as Table 2 of arXiv 2506.12484 has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mudman.specs import StudySpec
from service.figures.style import BLUE, GREY, ORANGE, Figure, figure
from service.statistics.compute import Tally


@dataclass(frozen=True)
class Published:
    """One study of the paper, on one L40."""

    trials: int
    passes: int
    """Of one trial."""
    hours: float


_PUBLISHED: Mapping[tuple[str, str], Published] = {
    ("meta-llama/Llama-3.2-1B", "forget_loss"): Published(500, 240, 7),
    ("HuggingFaceTB/SmolLM-135M", "forget_loss"): Published(500, 600, 9),
    ("EleutherAI/pythia-14m", "forget_loss"): Published(800, 600, 4),
    ("meta-llama/Llama-3.2-1B", "wmdp_accuracy"): Published(300, 720, 20),
}
"""By model and objective."""


def published(spec: StudySpec) -> Published | None:
    return _PUBLISHED.get((spec.model.id, spec.objective.metric))


def times(name: str, entries: Sequence[tuple[str, StudySpec, Tally]]) -> Figure:
    """``entries``: name, spec and what was spent of each study, one at least with a finished trial."""
    order = [label for label, _, _ in entries]
    rows = [_row(label, spec, spent) for label, spec, spent in entries]
    theirs = [row for row in rows if row["published seconds"] is not None]
    columns = ["trials", "passes", "time", "per trial"] + ["published"] * bool(theirs)
    cells = [{"variant": row["variant"], "column": column, "text": row[column]} for row in rows for column in columns]
    y = {"field": "variant", "type": "nominal", "sort": order, "title": None, "axis": {"labelLimit": 200}}
    bare = {"domain": False, "ticks": False, "labelAngle": 0, "orient": "top"}
    x = {"field": "seconds", "type": "quantitative", "title": "seconds per trial"}
    layers = [{"mark": {"type": "bar", "color": BLUE, "tooltip": True}, "encoding": {"y": y, "x": x}}]
    if theirs:
        diamond = {"type": "point", "shape": "diamond", "filled": True, "size": 70, "color": ORANGE, "tooltip": True}
        layers.append({"mark": diamond, "encoding": {"y": y, "x": {**x, "field": "published seconds"}}})
    return figure(
        f"{name}: times",
        "finished trials, booked passes, seconds of trials added up"
        + "; diamonds: published, on one L40" * bool(theirs),
        hconcat=[
            {
                "width": {"step": 96},
                "height": {"step": 24},
                "data": {"values": cells},
                "mark": {"type": "text", "color": GREY},
                "encoding": {
                    "y": y,
                    "x": {"field": "column", "type": "nominal", "sort": columns, "title": None, "axis": bare},
                    "text": {"field": "text"},
                },
            },
            {"width": 220, "height": {"step": 24}, "data": {"values": rows}, "layer": layers},
        ],
    )


def _row(label: str, spec: StudySpec, spent: Tally) -> dict[str, str | float | None]:
    trials, theirs = sum(spent.outcomes.values()), published(spec)
    each = spent.seconds / trials if trials else None
    return {
        "variant": label,
        "trials": f"{trials:,}",
        "passes": f"{spent.passes_booked:,}",
        "time": _took(spent.seconds),
        "per trial": "–" if each is None else _took(each),
        "published": "–" if theirs is None else f"{theirs.trials} in {theirs.hours:g} h",
        "seconds": each,
        "published seconds": theirs and theirs.hours * 3600 / theirs.trials,
    }


def _took(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"
