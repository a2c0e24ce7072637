"""What `mudman stats` prints."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from service.cli.confirmation_display import confirmation

Document = Mapping[str, Any]


def statistics(found: Document) -> Group:
    better = "higher" if found["direction"] == "maximize" else "lower"
    head = Text(f"Study {found['name']} ({found['state']}): {found['metric']}, {better} is better", "bold")
    parts = [head, *map(Text, _result(found)), Text(_convergence(found["convergence"]))]
    if found["ranges"]:
        parts.append(_ranges(found))
    if found["saturated"]:
        names = ", ".join(found["saturated"])
        parts.append(Text(f"may be too narrow: {names}. Search further: `mudman widen {found['study']}`"))
    if found["confirmation"]:
        parts.append(confirmation(found["confirmation"]))
    return Group(*parts, Text(_compute(found["compute"])))


def _result(found: Document) -> list[str]:
    result, over = found["result"], found["to_baseline"]
    if result is None:
        return ["no trial is valid"]
    error = "" if result["standard_error"] is None else f" ± {result['standard_error']:.4f}"
    lines = [
        f"mean {result['mean']:.4f}{error} of the last {result['n']} valid trials, worth {result['effective_n']:.1f} "
        f"independent ones (as published: ± {result['standard_error_published']:.4f} for {result['last']})",
        f"best {result['best']:.4f} · mean of the ten best {result['top10_mean']:.4f} · median {result['median']:.4f}",
    ]
    if over:
        interval = "" if over["low"] is None else f", 95 % {over['low']:+.4f} to {over['high']:+.4f}"
        share = "" if over["per_cent"] is None else f" ({over['per_cent']:+.1f} %)"
        lines.append(
            f"without unlearning {over['baseline']:.4f}: {over['value']:+.4f}{share}{interval}, {over['verdict']}"
        )
    return lines


def _convergence(found: Document) -> str:
    if found["change"] is None:
        return f"{found['verdict']} to say whether it has converged: {found['valid']} valid, {2 * found['last']} needed"
    p_value = "" if found["p_value"] is None else f" (p {found['p_value']:.4f})"
    return (
        f"{found['verdict']}: the last {found['last']} valid trials against those before: "
        f"{found['change']:+.4f}{p_value}; "
        f"the best was known after {found['best_after']} of {found['valid']}, "
        f"and gained {found['best_gain']:.4f} of late, where they spread by {found['spread']:.4f}"
    )


def _ranges(found: Document) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    numbers = ("from", "to", "best", "position", "ten best in lowest tenth", "in highest")
    for column in ("hyper-parameter", *numbers, "too narrow"):
        table.add_column(column, justify="right" if column in numbers else "left")
    for one in found["ranges"]:
        ends = (f"{one['range'][end]:.4g}" for end in ("low", "high"))
        counts = (f"{one['top_low']}/{one['top']}", f"{one['top_high']}/{one['top']}")
        cells = (one["name"], *ends, f"{one['best']:.4g}", f"{one['position']:.0%}", *counts, one["saturated"] or "–")
        table.add_row(*map(Text, cells))
    return table


def _compute(found: Document) -> str:
    parts = ", ".join(f"{part['attempts']} {name.replace('_', ' ')}" for name, part in found["by_outcome"].items())
    return (
        f"spent: {found['attempts']} trials ({parts or 'none'}), {found['passes_made']} passes made "
        f"({found['passes_booked']} booked, {found['passes_skipped']} skipped), "
        f"{found['gpu_seconds']:.0f} GPU s, {found['cpu_seconds']:.0f} CPU s"
    )
