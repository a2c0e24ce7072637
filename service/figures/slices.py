"""Each hyper-parameter against the objective, with the order of trials as colour."""

from collections.abc import Mapping, Sequence

from mudman.specs import Range
from service.figures.style import ORANGE, Figure, figure, thinned, unit
from service.statistics.compute import Attempt

_COLUMNS = 3


def slices(
    name: str, metric: str, space: Mapping[str, Range], valid: Sequence[Attempt], best: Attempt | None
) -> Figure:
    """``valid``: valid trials by ordinal with their hyper-parameters; ``best``: ringed."""
    shown = thinned(valid, lambda one: one is best)
    # Names may have dots, which would lead into the data: columns have numbers.
    columns = {path: f"h{place}" for place, path in enumerate(space)}
    rows = [
        {"trial": one.ordinal, "value": one.value, "best": one is best}
        | {column: one.hyperparameters.get(path) for path, column in columns.items()}
        for one in shown
    ]
    panels = [_panel(path, columns[path], searched, metric, first=not place % _COLUMNS)
              for place, (path, searched) in enumerate(space.items())]  # fmt: skip
    many = f"{len(shown)} of {len(valid)}" if len(shown) < len(valid) else f"{len(valid)}"
    return figure(
        f"{name}: slices",
        f"{many} valid trials over each range that is searched; the best is ringed",
        data={"values": rows},
        columns=_COLUMNS,
        concat=panels,
        resolve={"scale": {"color": "shared"}},
    )


def _panel(path: str, column: str, searched: Range, metric: str, *, first: bool) -> Figure:
    scale = {"type": "log" if searched.log else "linear", "domain": [searched.low, searched.high], "nice": False}
    axis = {"format": "~g", "tickCount": 5, "labelOverlap": True}
    x = {"field": column, "type": "quantitative", "title": path, "scale": scale, "axis": axis}
    y = {"field": "value", "type": "quantitative", "title": unit(metric) if first else None, "scale": {"zero": False}}
    colour = {"field": "trial", "type": "quantitative", "scale": {"scheme": "viridis"}, "title": "trial"}
    circle = {"type": "circle", "opacity": 0.75, "tooltip": True}
    ring = {"type": "point", "size": 120, "strokeWidth": 2, "color": ORANGE, "filled": False}
    return {
        "width": 190,
        "height": 190,
        "layer": [
            {"mark": circle, "encoding": {"x": x, "y": y, "color": colour}},
            {"transform": [{"filter": "datum.best"}], "mark": ring, "encoding": {"x": x, "y": y}},
        ],
    }
