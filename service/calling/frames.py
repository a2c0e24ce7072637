"""What the API answers as tables of pandas, which is loaded only here."""

from typing import TYPE_CHECKING, Any

from mudman.faults import MudmanError
from service.calling.calls import Document

if TYPE_CHECKING:
    import pandas


class NoPandas(MudmanError):
    """Tables need pandas, which is not installed."""


def trials(export: Document) -> "pandas.DataFrame":
    """Of ``Client.export``: a row for each finished attempt, indexed by ordinal and attempt; a column for each
    hyper-parameter, ``hyperparameters.NAME``."""
    pandas = _pandas()
    rows = [
        {name: value for name, value in one.items() if name != "hyperparameters"}
        | {f"hyperparameters.{name}": value for name, value in one["hyperparameters"].items()}
        for one in export["trials"]
    ]
    if not rows:
        return pandas.DataFrame(columns=["ordinal", "attempt", "outcome", "value"]).set_index(["ordinal", "attempt"])
    frame = pandas.DataFrame(rows).set_index(["ordinal", "attempt"])
    for name in ("started_at", "finished_at"):
        frame[name] = pandas.to_datetime(frame[name], format="ISO8601", utc=True)
    return frame


def table(answer: Document) -> "pandas.DataFrame":
    """Of ``Client.table``: a row for each variant, the baseline last; nested numbers as ``result.mean``."""
    rows = [*answer["rows"], *filter(None, [answer["baseline"]])]
    return _pandas().DataFrame([_flat(row) for row in rows]).set_index("variant")


def curves(trial: Document) -> "pandas.DataFrame":
    """Of ``Client.trial`` or ``Client.best``: both losses of both phases (``unlearning``, ``relearning``) by passes."""
    pandas, result = _pandas(), trial["result"] or {}
    parts = [
        pandas.DataFrame(result[phase]).assign(phase=phase)
        for phase in ("unlearning", "relearning")
        if result.get(phase)
    ]
    empty = pandas.DataFrame(columns=["passes", "forget_loss", "retain_loss", "phase"])
    return (pandas.concat(parts) if parts else empty).set_index(["phase", "passes"])


def _flat(row: Document, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise NoPandas("tables need pandas. Remedy: pip install 'mudman[frames]'") from None
    return pandas
