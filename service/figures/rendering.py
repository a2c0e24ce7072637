"""From a definition to what is shown: JSON, SVG, PNG, or a page that needs nothing else, without a browser."""

import html
import json
import re
from functools import cache
from typing import Literal, NamedTuple

from service.figures.style import Figure

Format = Literal["json", "svg", "png", "html"]
MEDIA_TYPES = {"json": "application/json", "svg": "image/svg+xml", "png": "image/png", "html": "text/html"}
_SCALE = 2.0
"""Pixels of a PNG for each of the figure's: screens are finer than that."""


class Rendered(NamedTuple):
    content: bytes
    media_type: str
    headers: dict[str, str]


def render(figure: Figure, form: Format) -> Rendered:
    return Rendered(_content(figure, form), MEDIA_TYPES[form], _POLICIES.get(form, {}))


# A name may hold anything, and what is drawn from it runs apart from the service: in an origin of its own.
_POLICIES = {
    "svg": {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"},
    "html": {
        "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'unsafe-inline'; img-src data:; sandbox allow-scripts allow-downloads"
    },
}


def _content(figure: Figure, form: Format) -> bytes:
    if form == "json":
        return json.dumps(figure, ensure_ascii=False).encode()
    if form == "html":
        return _page(figure).encode()
    import vl_convert

    # Nothing of a definition is fetched from elsewhere.
    if form == "svg":
        return _numbered(vl_convert.vegalite_to_svg(figure, allowed_base_urls=[])).encode()
    return vl_convert.vegalite_to_png(figure, scale=_SCALE, allowed_base_urls=[])


_IDS = re.compile(r'id="((?:gradient_|clip)\d+)"')


def _numbered(drawing: str) -> str:
    """Vega counts gradients and clips for as long as its process lives; here each drawing counts from 0, so that the
    same definition gives the same bytes."""
    for number, found in enumerate(dict.fromkeys(_IDS.findall(drawing))):
        for form in ('id="{}"', "url(#{})"):
            drawing = drawing.replace(form.format(found), form.format(f"part-{number}"))
    return drawing


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ margin: 1rem; background: white; }}</style>
<script>{scripts}</script>
</head>
<body>
<div id="figure"></div>
<script type="application/json" id="definition">{definition}</script>
<script>
vegaEmbed("#figure", JSON.parse(document.getElementById("definition").textContent),
    {{renderer: "svg", actions: {{export: true, source: false, compiled: false, editor: false}}}});
</script>
</body>
</html>
"""


def _page(figure: Figure) -> str:
    # Text of the definition cannot end the element that holds it: names are anything that somebody chose.
    definition = json.dumps(figure).replace("<", "\\u003c")
    return _PAGE.format(title=html.escape(figure["title"]["text"]), scripts=_scripts(), definition=definition)


@cache
def _scripts() -> str:
    """Vega, Vega-Lite and Vega-Embed in one piece, so that the page needs no other."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
