"""What all figures have in common."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Figure = dict[str, Any]
"""A Vega-Lite definition with its data."""
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#6b6b6b"
"""Colours that can be told apart without seeing them as others do (Okabe and Ito)."""
MOST_POINTS = 2000
"""Points of one figure: more cannot be told apart, and every one of them travels."""
_CONFIG = {
    "background": "white",
    "font": "Helvetica, Arial, sans-serif",
    "axis": {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "gridColor": "#e5e5e5"},
    "title": {"fontSize": 14, "anchor": "start", "subtitleColor": GREY, "subtitleFontSize": 11},
    "legend": {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"},
    "view": {"stroke": None},
}
T = TypeVar("T")


def figure(title: str, subtitle: str, **definition: Any) -> Figure:
    """``subtitle``: what is shown, in words; also the description for those who cannot see it."""
    about = {"text": title, "subtitle": subtitle}
    return {"$schema": SCHEMA, "description": f"{title}: {subtitle}", "title": about, "config": _CONFIG, **definition}


def thinned(points: Sequence[T], keep: Callable[[T], bool] = lambda point: False) -> list[T]:
    """``MOST_POINTS`` of them at even distances, and those that must stay."""
    if len(points) <= MOST_POINTS:
        return list(points)
    step = len(points) / MOST_POINTS
    evenly = {int(step * place) for place in range(MOST_POINTS)}
    return [point for place, point in enumerate(points) if place in evenly or keep(point)]


def unit(metric: str) -> str:
    """Of an objective, for an axis."""
    return "forget loss after the attack (nats per token)" if metric == "forget_loss" else metric.replace("_", " ")


def level(value: float, label: str, *, below: bool = False) -> list[Figure]:
    """Layers of a dashed line across the figure, with its name at the left end, above or below it."""
    place = {"baseline": "top", "dy": 4} if below else {"baseline": "bottom", "dy": -2}
    text = {"type": "text", "text": label, "align": "left", "dx": 4, "color": GREY, **place}
    rule = {"type": "rule", "strokeDash": [5, 4], "color": GREY}
    at = {"y": {"datum": value}}
    return [
        {"data": {"values": [{}]}, "mark": rule, "encoding": at},
        {"data": {"values": [{}]}, "mark": text, "encoding": at | {"x": {"value": 0}}},
    ]
