"""A comparison as bars: what each variant keeps from coming back, with error bars, beside the published numbers."""

from collections.abc import Mapping

from mudman.specs.comparison import BASELINE
from service.comparison_table import Row, TableView
from service.figures.style import BLUE, GREEN, ORANGE, Figure, figure, level, unit
from service.published import read


def bars(table: TableView, expected: Mapping[str, str]) -> Figure:
    """``expected``: published results by variant, as ``presets.About`` has them. At least one variant has a result.

    Bars rise from the model without unlearning, so that their length is the gain; without a baseline from zero.
    """
    order = [row.variant for row in table.rows]
    baseline = table.baseline.result.mean if table.baseline and table.baseline.result else None
    start = 0.0 if baseline is None else baseline
    measured = [_measured(row, start) for row in table.rows if row.result]
    published = [
        {"variant": variant, "published": found[0], "low": found[0] - found[1], "high": found[0] + found[1]}
        for variant in order
        if (found := read(expected.get(variant, "")))
    ]
    x = {"field": "variant", "type": "nominal", "sort": order, "title": None, "scale": {"domain": order},
         "axis": {"labelAngle": -35, "labelLimit": 160}}  # fmt: skip
    zero = {"zero": baseline is None}
    y = {"type": "quantitative", "title": unit(table.metric), "scale": zero}
    told = {"field": "verdict", "type": "nominal", "title": f"against {table.reference}",
            "scale": {"domain": ["reference", "better", "worse", "not distinguishable"],
                      "range": ["#1b3a57", "#009e73", BLUE, "#a6c4dd"]}}  # fmt: skip
    layers = [
        {"data": {"values": measured}, "mark": {"type": "bar", "tooltip": True},
         "encoding": {"x": x, "y": {"field": "mean", **y}, "y2": {"field": "start"}, "color": told}},
        {"data": {"values": measured}, "mark": {"type": "rule", "strokeWidth": 1.5},
         "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}}},
    ]  # fmt: skip
    if published:
        layers += [
            {"data": {"values": published}, "mark": {"type": "rule", "color": ORANGE, "xOffset": 8},
             "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}}},
            {"data": {"values": published},
             "mark": {"type": "point", "shape": "diamond", "filled": True, "size": 70, "color": ORANGE, "xOffset": 8,
                      "tooltip": True},
             "encoding": {"x": x, "y": {"field": "published", **y}}},
        ]  # fmt: skip
    upwards = table.direction == "maximize"
    if baseline is not None:
        layers += level(baseline, "without unlearning", below=upwards)
    if table.original is not None:
        dotted = {"type": "rule", "strokeDash": [2, 3], "strokeWidth": 1.5, "color": GREEN}
        layers.append({"data": {"values": [{}]}, "mark": dotted, "encoding": {"y": {"datum": table.original.value}}})
    if theirs := read(expected.get(BASELINE, "")):
        line = {"type": "rule", "strokeDash": [8, 4], "color": ORANGE, "tooltip": True}
        layers.append(
            {"data": {"values": [{"published without unlearning": theirs[0]}]}, "mark": line,
             "encoding": {"y": {"field": "published without unlearning", **y}}}
        )  # fmt: skip
    better = "higher" if upwards else "lower"
    subtitle = f"mean ± SEM of the last valid trials, {better} is better"
    subtitle += "; dotted: original model, not attacked" * bool(table.original)
    subtitle += _told(bool(published), theirs is not None)
    return figure(table.name, subtitle, width={"step": 44}, height=320, layer=layers)


def _told(variants: bool, baseline: bool) -> str:
    """How published numbers are shown, for the subtitle."""
    shown = ["diamonds"] * variants + ["dashed line"] * baseline
    return f"; {' and '.join(shown)}: published" if shown else ""


def _measured(row: Row, start: float) -> dict[str, str | float | int | None]:
    error = row.result.standard_error or 0.0
    return {
        "variant": row.variant,
        "mean": row.result.mean,
        "low": row.result.mean - error,
        "high": row.result.mean + error,
        "n": row.result.n,
        "start": start,
        "verdict": row.verdict,
    }
