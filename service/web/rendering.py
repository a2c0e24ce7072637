"""From values to a page. Every value is escaped; a name that is misspelt in a template is an error."""

import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from service.access.caller import current
from service.web import charts

_ENVIRONMENT = Environment(
    loader=PackageLoader("service.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    # What a page shows is of this moment.
    headers = {"Cache-Control": "no-cache"}
    return HTMLResponse(_ENVIRONMENT.get_template(template).render(caller=current.get(), **values), status, headers)


def number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def mean(found: Any, signed: bool = False) -> str:
    """``3.1422 ± 0.0203``."""
    if found is None:
        return "–"
    error = "" if found.standard_error is None else f" ± {found.standard_error:.4f}"
    return (f"{found.value:+.4f}" if signed else f"{found.value:.4f}") + error


def size(value: float) -> str:
    """``5.3 MB``."""
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def share(value: float) -> str:
    return f"{value:.2%}"


def short(value: float | None) -> str:
    """``0.00345``, ``1e-07``: four figures of a hyper-parameter."""
    return "–" if value is None else f"{value:.4g}"


def words(value: str | None) -> str:
    """``over retain budget``."""
    return (value or "running").replace("_", " ")


def moment(value: datetime.datetime | None) -> str:
    return "–" if value is None else value.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def took(value: float | None) -> str:
    """``8.5 s``, ``1 min 5 s``, ``2 h 10 min``."""
    if value is None:
        return "–"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{value:.1f} s"


def given(values: dict[str, str]) -> dict[str, str]:
    """Parameters of an address that say something."""
    return {name: value for name, value in values.items() if value}


_ENVIRONMENT.filters |= {
    "number": number,
    "signed": signed,
    "size": size,
    "share": share,
    "mean": mean,
    "short": short,
    "words": words,
    "moment": moment,
    "took": took,
    "given": given,
}
_ENVIRONMENT.globals |= {"curve_chart": charts.curves, "bar_chart": charts.bars}
