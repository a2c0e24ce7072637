"""What the attack brings back: relearning curves of the last valid trials as a band, of the best and of the untouched
model."""

import statistics
from collections.abc import Mapping, Sequence

from mudman.results import Curve
from service.figures.style import BLUE, GREY, ORANGE, Figure, figure

_PANELS = {"forget_loss": "forget loss (nats per token)", "retain_loss": "retain loss (nats per token)"}
BAND, BEST, NONE = "last valid trials (median, quartiles)", "best trial", "without unlearning"


def curves(name: str, last: Sequence[Curve], best: Curve | None, untouched: Curve | None) -> Figure:
    """``last``: relearning curves of the last valid trials, at least one."""
    panels = [_panel(field, title, last, {BEST: best, NONE: untouched}) for field, title in _PANELS.items()]
    return figure(f"{name}: relearning", f"attacks on the last {len(last)} valid trials", hconcat=panels)


def _panel(field: str, title: str, last: Sequence[Curve], others: Mapping[str, Curve | None]) -> Figure:
    band = [{"passes": passes, "curve": BAND, **quartiles(losses)} for passes, losses in by_pass(field, last).items()]
    single = [
        {"passes": passes, "loss": loss, "curve": label}
        for label, curve in others.items()
        if curve is not None
        for passes, loss in zip(curve.passes, getattr(curve, field), strict=True)
        if loss is not None
    ]
    x = {"field": "passes", "type": "quantitative", "title": "passes of the attack", "scale": {"nice": False}}
    y = {"type": "quantitative", "title": title, "scale": {"zero": False}}
    labels = [BAND, *(label for label, curve in others.items() if curve is not None)]
    colours = {BAND: BLUE, BEST: ORANGE, NONE: GREY}
    scale = {"domain": labels, "range": [colours[label] for label in labels]}
    colour = {
        "field": "curve",
        "type": "nominal",
        "title": None,
        "scale": scale,
        "legend": {"orient": "bottom", "labelLimit": 300},
    }
    line = {"type": "line", "point": {"size": 20}, "tooltip": True}
    return {
        "width": 320,
        "height": 260,
        "layer": [
            {"data": {"values": band}, "mark": {"type": "area", "opacity": 0.2},
             "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}, "color": colour}},
            {"data": {"values": band}, "mark": line,
             "encoding": {"x": x, "y": {"field": "median", **y}, "color": colour}},
            {"data": {"values": single}, "mark": line,
             "encoding": {"x": x, "y": {"field": "loss", **y}, "color": colour}},
        ],
    }  # fmt: skip


def by_pass(field: str, last: Sequence[Curve]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for curve in last:
        for passes, loss in zip(curve.passes, getattr(curve, field), strict=True):
            if loss is not None:
                found.setdefault(passes, []).append(loss)
    return dict(sorted(found.items()))


def quartiles(losses: Sequence[float]) -> dict[str, float]:
    if len(losses) == 1:
        return dict.fromkeys(("low", "median", "high"), losses[0])
    low, median, high = statistics.quantiles(losses, n=4, method="inclusive")
    return {"low": low, "median": median, "high": high}
