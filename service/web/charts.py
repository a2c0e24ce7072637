"""Charts as geometry: numbers in, coordinates of an SVG out. Templates draw them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
_LABELS = 190
"""Width of the bars' names."""
_ROW = 34
_TICKS = 5


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Line:
    name: str
    kind: str
    """``forget`` or ``retain``."""
    path: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class CurveChart:
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    attack: float | None
    """Where the attack begins."""
    said: str
    """The chart in a sentence, for those who do not see it."""


def curves(
    unlearning: Mapping[str, Any] | None, relearning: Mapping[str, Any] | None, of: int = 0
) -> CurveChart | None:
    """Both losses over the passes of unlearning and then of the attack; nothing of curves without a number. ``of``:
    passes of the phase that goes on, for which there is room."""
    first, second = unlearning or {}, relearning or {}
    begins = max(first.get("passes") or [0])
    passes = [*(first.get("passes") or ()), *(begins + each for each in second.get("passes") or ())]
    losses = {
        kind: [*(first.get(f"{kind}_loss") or ()), *(second.get(f"{kind}_loss") or ())] for kind in ("forget", "retain")
    }
    known = [loss for series in losses.values() for loss in series if loss is not None]
    if not known:
        return None
    low, high = _padded(min(known), max(known))
    reached = max(passes)
    last = max(reached, of + begins * bool(second.get("passes")), 1)

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * value / last, 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    lines = []
    for kind, series in losses.items():
        points = [None if loss is None else (x(at), y(loss)) for at, loss in zip(passes, series, strict=False)]
        if any(points):
            lines.append(Line(f"{kind} loss", kind, _path(points), [point for point in points if point]))
    ends = []
    for kind, series in losses.items():
        if numbers := [loss for loss in series if loss is not None]:
            ends.append(f"{kind} loss from {numbers[0]:.4f} to {numbers[-1]:.4f}")
    return CurveChart(
        lines=lines,
        x_ticks=[Tick(x(value), f"{value:g}") for value in ticks(0, last)],
        y_ticks=[Tick(y(value), f"{value:g}") for value in ticks(low, high)],
        attack=x(begins) if second.get("passes") else None,
        said=f"{'; '.join(ends)}, in nats per token, after {reached} passes",
    )


@dataclass(frozen=True)
class Bar:
    name: str
    y: float
    x: float
    width: float
    label: str
    label_x: float
    whisker: tuple[float, float] | None
    """One standard error to either side."""


@dataclass(frozen=True)
class Level:
    """A dashed line across all bars."""

    kind: str
    """``baseline`` or ``original``."""
    at: float
    label: str


@dataclass(frozen=True)
class BarChart:
    bars: list[Bar]
    height: int
    ticks: list[Tick]
    levels: list[Level]
    said: str


def bars(
    rows: Sequence[tuple[str, float | None, float | None]], baseline: float | None, original: float | None = None
) -> BarChart | None:
    """(name, mean, standard error) of each; those without a mean have no bar. Nothing where none has one.

    ``baseline``: after the attack without unlearning; ``original``: of the model as it came.
    """
    means = [(mean, error or 0.0) for _, mean, error in rows if mean is not None]
    if not means:
        return None
    ends = [0.0, *(mean + error for mean, error in means), *(mean - error for mean, error in means if mean < 0)]
    levels = [("baseline", "no unlearning", baseline), ("original", "original model, not attacked", original)]
    levels = [level for level in levels if level[2] is not None]
    ends += [value for _, _, value in levels]
    low, high = min(ends), max(ends)
    high = high if high > low else low + 1.0
    right = WIDTH - RIGHT - 60  # room for the numbers

    def x(value: float) -> float:
        return round(_LABELS + (right - _LABELS) * (value - low) / (high - low), 1)

    made, said = [], []
    for index, (name, mean, error) in enumerate(rows):
        y = TOP + index * _ROW
        if mean is None:
            made.append(Bar(name, y, x(0), 0, "no valid trial", x(0) + 6, None))
            said.append(f"{name}: no valid trial")
            continue
        whisker = (x(mean - error), x(mean + error)) if error is not None else None
        label_x = max(x(mean), whisker[1] if whisker else 0) + 6
        made.append(Bar(name, y, min(x(0), x(mean)), abs(x(mean) - x(0)), f"{mean:.3f}", label_x, whisker))
        said.append(f"{name}: {mean:.4f}" + (f" ± {error:.4f}" if error is not None else ""))
    return BarChart(
        bars=made,
        height=TOP + len(rows) * _ROW + BOTTOM + 8,
        ticks=[Tick(x(value), f"{value:g}") for value in ticks(low, high)],
        levels=[Level(kind, x(value), f"{name}: {value:.3f}") for kind, name, value in levels],
        said="; ".join([*said, *(f"{name}: {value:.4f}" for _, name, value in levels)]),
    )


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between the two, about five."""
    step = 10 ** math.floor(math.log10((high - low) / _TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= _TICKS)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or max(abs(high) * 0.05, 0.5)
    return low - room, high + room


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """Broken where a loss is no number."""
    parts, broken = [], True
    for point in points:
        if point is not None:
            parts.append(f"{'M' if broken else 'L'}{point[0]:g} {point[1]:g}")
        broken = point is None
    return " ".join(parts)
