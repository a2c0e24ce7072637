"""How a search went: every trial's value, the best so far, and what became of the others."""

from collections.abc import Sequence

from service.figures.style import BLUE, GREEN, ORANGE, Figure, figure, level, thinned, unit
from service.statistics.compute import Attempt
from service.statistics.means import Summary


def history(
    name: str, metric: str, attempts: Sequence[Attempt], summary: Summary, baseline: float | None, *, minimise: bool
) -> Figure:
    """``attempts``: finished ones by ordinal, at least one of them valid; ``summary``: of the last valid ones."""
    valid = [one for one in attempts if one.outcome == "valid" and one.value is not None]
    best, so_far = None, []
    for one in valid:
        if best is None or (one.value < best if minimise else one.value > best):
            best = one.value
            so_far.append({"trial": one.ordinal, "best": best})
    so_far.append({"trial": attempts[-1].ordinal, "best": best})
    records = {point["trial"] for point in so_far}
    points = thinned(valid, lambda one: one.ordinal in records)
    others = thinned([one for one in attempts if one.outcome != "valid"])
    first, last = valid[-summary.n].ordinal, valid[-1].ordinal
    error = summary.standard_error or 0.0
    window = {"first": first, "last": last, "mean": summary.mean}
    window |= {"low": summary.mean - error, "high": summary.mean + error}
    x = {"field": "trial", "type": "quantitative", "title": "trial", "axis": {"tickMinStep": 1}}
    across = {"x": {"field": "first", "type": "quantitative"}, "x2": {"field": "last"}}
    y = {"type": "quantitative", "title": unit(metric), "scale": {"zero": False}}
    shown = f"{len(points)} of {len(valid)} valid trials" if len(points) < len(valid) else f"{len(valid)} valid trials"
    layers = [
        {"data": {"values": [{"trial": one.ordinal, "value": one.value} for one in points]},
         "mark": {"type": "circle", "color": BLUE, "opacity": 0.55, "tooltip": True},
         "encoding": {"x": x, "y": {"field": "value", **y}}},
        {"data": {"values": so_far},
         "mark": {"type": "line", "interpolate": "step-after", "color": ORANGE},
         "encoding": {"x": x, "y": {"field": "best", **y}}},
        {"data": {"values": [window]},
         "mark": {"type": "rect", "color": GREEN, "opacity": 0.25},
         "encoding": across | {"y": {"field": "low", **y}, "y2": {"field": "high"}}},
        {"data": {"values": [window]},
         "mark": {"type": "rule", "color": GREEN, "strokeWidth": 2, "tooltip": True},
         "encoding": across | {"y": {"field": "mean", **y}}},
        {"data": {"values": [{"trial": one.ordinal, "outcome": one.outcome.replace("_", " ")} for one in others]},
         "mark": {"type": "tick", "thickness": 1, "tooltip": True},
         "encoding": {"x": x, "y": {"value": "height"},
                      "color": {"field": "outcome", "type": "nominal", "title": "without a value",
                                "scale": {"scheme": "dark2"}}}},
    ]  # fmt: skip
    if baseline is not None:
        layers += level(baseline, "without unlearning")
    subtitle = f"{shown}; orange: best so far; green: mean ± SEM of the last {summary.n}"
    return figure(f"{name}: history", subtitle, width=560, height=320, layer=layers)
