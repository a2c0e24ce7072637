"""Relearning curves of several variants in one figure: of each the median of its last valid trials, with quartiles."""

from collections.abc import Mapping, Sequence

from mudman.results import Curve
from service.figures.curves import by_pass, quartiles
from service.figures.style import Figure, figure

MOST = 12
"""Variants that can be told apart."""


def overlaid(name: str, last: Mapping[str, Sequence[Curve]]) -> Figure:
    """``last``: curves of the last valid trials by variant, at least one of each."""
    shown = dict(list(last.items())[:MOST])
    panels = [_panel(field, shown, first) for field, first in (("forget_loss", True), ("retain_loss", False))]
    some = f"; {MOST} of {len(last)} variants" if len(last) > MOST else ""
    return figure(f"{name}: relearning", f"median and quartiles of the last valid trials{some}", hconcat=panels)


def _panel(field: str, last: Mapping[str, Sequence[Curve]], first: bool) -> Figure:
    band = [
        {"passes": passes, "variant": variant, **quartiles(losses)}
        for variant, curves in last.items()
        for passes, losses in by_pass(field, curves).items()
    ]
    x = {"field": "passes", "type": "quantitative", "title": "passes of the attack", "scale": {"nice": False}}
    title = f"{field.replace('_', ' ')} (nats per token)"
    y = {"type": "quantitative", "title": title, "scale": {"zero": False}}
    legend = {"orient": "right", "title": None, "labelLimit": 200, "symbolOpacity": 1} if first else None
    colour = {"field": "variant", "type": "nominal", "sort": list(last), "legend": legend,
              "scale": {"domain": list(last), "scheme": "tableau20" if len(last) > 10 else "tableau10"}}  # fmt: skip
    return {
        "width": 320,
        "height": 260,
        "data": {"values": band},
        "layer": [
            {"mark": {"type": "area", "opacity": 0.15},
             "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}, "color": colour}},
            {"mark": {"type": "line", "point": {"size": 20}, "tooltip": True},
             "encoding": {"x": x, "y": {"field": "median", **y}, "color": colour}},
        ],
    }  # fmt: skip
