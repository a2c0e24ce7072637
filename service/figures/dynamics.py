"""How unlearning goes, loop by loop, and which part of its updates harms what is to be kept: with a mask and without,
for example, which is the argument of arXiv 2506.12484 for masking."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mudman.results import Trace
from service.figures.style import BLUE, GREEN, ORANGE, Figure, figure, thinned

FORGET, RETAIN = "forget loss", "retain loss"
HARMFUL, HARMLESS = "raises the retain loss", "the rest"


@dataclass(frozen=True)
class Traced:
    """One trial."""

    label: str
    ordinal: int
    trace: Trace


def dynamics(name: str, traced: Sequence[Traced]) -> Figure:
    """``traced``: the best trial of each variant, or of the one study; at least one. Panels share their scales."""
    bounds = _bounds(one.trace.forget_loss + one.trace.retain_loss for one in traced)
    largest = _bounds(one.trace.update_norm for one in traced)[1]
    panels = [_panels(one, bounds, (0.0, largest), first=not place) for place, one in enumerate(traced)]
    return figure(
        f"{name}: dynamics",
        "best trial with a trace; below: the norm of each update, split as its first-order effect on the retain loss",
        hconcat=panels,
    )


def _bounds(columns: Iterable[Sequence[float | None]]) -> tuple[float, float]:
    """Of the scale of all panels in a row."""
    known = [value for column in columns for value in column if value is not None]
    return (min(known), max(known)) if known else (0.0, 1.0)


def _panels(one: Traced, losses_in: tuple[float, float], norms_in: tuple[float, float], *, first: bool) -> Figure:
    trace = one.trace
    loops = thinned(range(len(trace.loop)))
    losses = [
        {"loop": trace.loop[at], "loss": column[at], "of": label}
        for label, column in ((FORGET, trace.forget_loss), (RETAIN, trace.retain_loss))
        for at in loops
        if at < len(column) and column[at] is not None
    ]
    parts = [
        {"loop": trace.loop[at], "norm": part, "part": label}
        for at in loops
        if None not in (norm := trace.update_norm[at], share := trace.harmful[at])
        for label, part in ((HARMLESS, norm * (1 - share)), (HARMFUL, norm * share))
    ]
    x = {"field": "loop", "type": "quantitative", "title": None, "scale": {"nice": False}, "axis": {"tickMinStep": 1}}
    legend = {"orient": "bottom", "title": None}
    return {
        "title": {"text": f"{one.label}, trial {one.ordinal}", "fontSize": 12, "anchor": "middle"},
        "vconcat": [
            {
                "width": 240,
                "height": 150,
                "data": {"values": losses},
                "mark": {"type": "line", "tooltip": True},
                "encoding": {
                    "x": x,
                    "y": _axis("loss", "loss (nats per token)", losses_in, first),
                    "color": _colours("of", {FORGET: BLUE, RETAIN: GREEN}, legend),
                },
            },
            {
                "width": 240,
                "height": 120,
                "data": {"values": parts},
                "mark": {"type": "area", "tooltip": True, "interpolate": "step-after"},
                "encoding": {
                    "x": {**x, "title": "loop of unlearning"},
                    "y": {**_axis("norm", "norm of the update", norms_in, first), "stack": "zero"},
                    "color": _colours("part", {HARMFUL: ORANGE, HARMLESS: "#a6c4dd"}, legend),
                    "order": {"field": "part", "sort": "descending"},
                },
            },
        ],
        "resolve": {"scale": {"y": "independent", "color": "independent"}},
    }


def _axis(field: str, title: str, bounds: tuple[float, float], first: bool) -> dict:
    scale = {"domain": list(bounds), "zero": False, "nice": True}
    return {"field": field, "type": "quantitative", "title": title if first else None, "scale": scale}


def _colours(field: str, colours: dict[str, str], legend: dict) -> dict:
    scale = {"domain": list(colours), "range": list(colours.values())}
    return {"field": field, "type": "nominal", "scale": scale, "legend": legend}
