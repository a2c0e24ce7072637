"""A comparison's table as Markdown for people and as CSV for programs."""

import csv
import io
from typing import Any

from service.comparison_table import Row, TableView
from service.statistics_views import ComparedView, DifferenceView, SummaryView

MARKDOWN, CSV = "text/markdown", "text/csv"


def markdown(table: TableView) -> str:
    """Rounded. Standard errors of as many trials as they are worth; in brackets by the published convention."""
    head = ["variant", "mean ± SEM (published)"] + ["published result"] * _has_published(table)
    head += ["n", "best", "median", "top 10"]
    head += [f"− {table.reference}", "in %", "95 %", "p (Holm)", "verdict", "its lead", "− baseline", "% of its gain"]
    head += ["trials", "GPU s", "CPU s", "passes"]
    lines = [[_cell(cell) for cell in _cells(row, _has_published(table))] for row in _rows(table)]
    if table.original:
        lines.append(["original model, not attacked", f"{table.original.value:.4f}", *["–"] * (len(head) - 2)])
    body = [[_cell(cell) for cell in head], ["---"] * len(head), *lines]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in body)
    reasons = [f"* {_cell(row.variant)}: {_cell(row.reason)}" for row in _rows(table) if row.reason]
    title = f"{_cell(table.name)}: {table.metric}, to {table.direction}"
    notes = [f"Intervals: block bootstrap, {table.bootstrap.resamples} resamples, seed {table.bootstrap.seed}."]
    if cut := table.equal_compute:
        notes.append(
            f"At equal compute: {cut.budget:g} {cut.measure.replace('_', ' ')}, as much as {cut.set_by} spent."
        )
    return "\n\n".join([title, text, _cell(" ".join(notes)), *(["\n".join(reasons)] if reasons else [])]) + "\n"


def as_csv(table: TableView) -> str:
    """Unrounded; an empty field where there is no number."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    original = {"original": table.original.value if table.original else None}
    writer.writerows(_flat(row) | original for row in _rows(table))
    return file.getvalue()


def _rows(table: TableView) -> list[Row]:
    return table.rows + ([table.baseline] if table.baseline else [])


def _has_published(table: TableView) -> bool:
    return any(row.published for row in _rows(table))


def _cells(row: Row, with_published: bool) -> list[str]:
    return [
        row.variant,
        mean(row),
        *[published(row)] * with_published,
        str(row.result.n) if row.result else "–",
        *([f"{getattr(row.result, name):.4f}" if row.result else "–" for name in ("best", "median", "top10_mean")]),
        signed(row.to_reference),
        *_told_apart(row.to_reference),
        row.verdict or "–",
        "–" if row.reference_lead is None else f"{row.reference_lead:+.1f} %",
        signed(row.to_baseline),
        "–" if row.per_cent_of_reference is None else f"{row.per_cent_of_reference:.1f} %",
        outcomes(row),
        f"{row.spent.gpu_seconds:.0f}",
        f"{row.spent.cpu_seconds:.0f}",
        str(row.spent.passes_booked),
    ]


def mean(row: Row) -> str:
    """``3.4121 ± 0.0120 (0.0118)``."""
    if row.result is None:
        return "–"
    error = "" if row.result.standard_error is None else f" ± {row.result.standard_error:.4f}"
    return f"{row.result.mean:.4f}{error} ({row.result.standard_error_published:.4f})"


def published(row: Row) -> str:
    """``11.3 ± 0.95``, with as many digits as were printed."""
    if row.published is None:
        return "–"
    error = "" if row.published.standard_error is None else f" ± {row.published.standard_error:g}"
    return f"{row.published.value:g}{error}"


def signed(difference: DifferenceView | None) -> str:
    if difference is None:
        return "–"
    error = "" if difference.standard_error is None else f" ± {difference.standard_error:.4f}"
    return f"{difference.value:+.4f}{error}"


def _told_apart(found: ComparedView | None) -> list[str]:
    """Per cent, interval and corrected p-value."""
    if found is None:
        return ["–"] * 3
    return [
        "–" if found.per_cent is None else f"{found.per_cent:+.1f} %",
        "–" if found.low is None else f"{found.low:+.4f} to {found.high:+.4f}",
        "–" if found.p_adjusted is None else f"{found.p_adjusted:.4f}",
    ]


def outcomes(row: Row) -> str:
    return ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(row.outcomes.items())) or "–"


def _cell(text: str | None) -> str:
    return (text or "").replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


_RESULT = tuple(SummaryView.model_fields)
_TOLD_APART = ("per_cent", "low", "high", "per_cent_low", "per_cent_high", "p_value", "p_adjusted")
_OWN = ("variant", "study", "state", "trials", "reason", "reference_lead", "verdict")
_SPENT = ("gpu_seconds", "cpu_seconds", "passes_booked", "passes_made", "passes_skipped")
_COLUMNS = (
    *("variant", "study", "state", *_RESULT),
    *("to_reference", "to_reference_standard_error", *_TOLD_APART, "to_baseline", "to_baseline_standard_error"),
    *("per_cent_of_reference", "reference_lead", "verdict", "trials", "outcomes", *_SPENT, "reason", "original"),
    *("published", "published_standard_error"),
)


def _flat(row: Row) -> dict[str, Any]:
    result = row.result.model_dump() if row.result else {}
    fields = {name: getattr(row, name) for name in _OWN}
    fields |= {name: result.get(name) for name in _RESULT} | {name: getattr(row.spent, name) for name in _SPENT}
    for name in ("to_reference", "to_baseline", "published"):
        found = getattr(row, name)
        fields[name] = found.value if found else None
        fields[f"{name}_standard_error"] = found.standard_error if found else None
    fields |= {name: getattr(row.to_reference, name, None) for name in _TOLD_APART}
    counted = ";".join(f"{outcome}={count}" for outcome, count in sorted(row.outcomes.items()))
    return fields | {"per_cent_of_reference": row.per_cent_of_reference, "outcomes": counted}
