"""Examples of figures in the OpenAPI document: definitions and drawings in short."""

from typing import Any

from service.figures.style import SCHEMA

_HISTORY = {
    "$schema": SCHEMA,
    "title": {"text": "quickstart: history", "subtitle": "2 valid trials"},
    "data": {"values": [{"trial": 0, "value": 2.63}, {"trial": 1, "value": 3.1}]},
    "mark": "circle",
    "encoding": {"x": {"field": "trial", "type": "quantitative"}, "y": {"field": "value", "type": "quantitative"}},
}
_BARS = {
    "$schema": SCHEMA,
    "title": {"text": "masks", "subtitle": "mean ± SEM of the last valid trials, higher is better"},
    "data": {"values": [{"variant": "sign", "mean": 3.5}, {"variant": "no_mask", "mean": 2.6}]},
    "mark": "bar",
    "encoding": {"x": {"field": "variant", "type": "nominal"}, "y": {"field": "mean", "type": "quantitative"}},
}


def _figure(definition: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": "The figure, in the form that was asked for",
        "content": {
            "application/json": {
                "schema": {"type": "object", "description": "Vega-Lite definition with its data"},
                "example": definition,
            },
            "image/svg+xml": {"schema": {"type": "string"}, "example": "<svg>…</svg>"},
            "image/png": {"schema": {"type": "string", "format": "binary"}, "example": "…"},
            "text/html": {"schema": {"type": "string"}, "example": "<!doctype html>…"},
        },
    }


STUDY, COMPARISON = _figure(_HISTORY), _figure(_BARS)
