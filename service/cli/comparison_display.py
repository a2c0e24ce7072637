"""What commands say about comparisons."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from service.cli.watching import outcomes

Document = Mapping[str, Any]


def submitted(comparison: Document, url: str) -> str:
    studies = "\n".join(f"  {one['variant']}: {one['study']}" for one in comparison["variants"])
    return (
        f"comparison {comparison['name']} is {comparison['state']}: {comparison['id']}\n"
        f"{url}/comparisons/{comparison['id']}\n{studies}\n"
        f"see where it stands with `mudman table {comparison['id']}`"
    )


def listed(comparison: Document) -> dict[str, Any]:
    return {
        "id": comparison["id"],
        "name": comparison["name"],
        "state": comparison["state"],
        "studies": comparison["studies"],
        "trials": f"{comparison['progress']['trials']}/{comparison['progress']['budget']}",
        "created (UTC)": comparison["created_at"][:16].replace("T", " "),
    }


def dry_run(answer: Document) -> str:
    unused = [
        f"\n{name}: does not use {', '.join(v['unused'])}" for name, v in answer["variants"].items() if v["unused"]
    ]
    return (
        f"valid: {len(answer['variants'])} studies, {answer['trials']} trials, {answer['passes_total']} passes; "
        f"nothing was submitted{''.join(unused)}"
    )


def progress(comparison: Document) -> str:
    """``running · mudman 3/10, no_mask 2/10 (failed), baseline 1/1``."""
    parts = []
    for one in comparison["variants"]:
        troubled = f" ({one['state']})" if one["state"] in ("failed", "cancelled", "paused") else ""
        parts.append(f"{one['variant']} {one['progress']['trials']}/{one['progress']['budget']}{troubled}")
    return f"{comparison['state']} · {', '.join(parts)}"


def table(found: Document) -> Group:
    better = "higher" if found["direction"] == "maximize" else "lower"
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    made.title, made.title_justify = f"Comparison {found['name']}: {found['metric']}, {better} is better", "left"
    made.caption = (
        "Mean ± standard error of the last valid trials, of as many as they are worth; in brackets as published.\n"
        "In square brackets the interval of 95 % by block bootstrap; verdict: at 5 % for all rows together (Holm).\n"
        f"Gain: over the model without unlearning, in per cent of that of {found['reference']}."
    )
    if cut := found["equal_compute"]:
        spent = f"{cut['budget']:g} {cut['measure'].replace('_', ' ')}"
        made.caption += f"\nAt equal compute: each as it stood after {spent}, as much as {cut['set_by']} spent."
    made.caption_justify = "left"
    made.add_column("variant", overflow="fold")
    against = (f"− {found['reference']}", "%", "verdict", "− baseline", "gain %")
    rows = found["rows"] + ([found["baseline"]] if found["baseline"] else [])
    known = ["published"] * any(row["published"] for row in rows)
    for name in ("mean", "n", "best", "median", "top 10", *known, *against, "trials", "GPU s", "CPU s"):
        made.add_column(name, justify="right")
    for row in rows:
        made.add_row(*map(Text, _cells(row, bool(known))))
    if found["original"]:
        shown = ("original, not attacked", f"{found['original']['value']:.4f}")
        made.add_row(*map(Text, shown), *["–"] * (len(made.columns) - len(shown)))
    reasons = [Text(f"{row['variant']}: {row['reason']}") for row in rows if row["reason"]]
    return Group(made, *reasons)


def _cells(row: Document, with_published: bool) -> list[str]:
    result, share = row["result"], row["per_cent_of_reference"]
    numbers = ["–"] * 5
    if result:
        error = f" ± {result['standard_error']:.4f}" if result["standard_error"] is not None else ""
        published = f" ({result['standard_error_published']:.4f})"
        others = [f"{result[name]:.4f}" for name in ("best", "median", "top10_mean")]
        numbers = [f"{result['mean']:.4f}{error}{published}", str(result["n"]), *others]
    return [
        row["variant"],
        *numbers,
        *[_published(row["published"])] * with_published,
        _difference(row["to_reference"]) + _interval(row["to_reference"]),
        _per_cent(row["to_reference"]),
        row["verdict"] or "–",
        _difference(row["to_baseline"]),
        "–" if share is None else f"{share:.1f}",
        outcomes(row["outcomes"]) or "–",
        f"{row['spent']['gpu_seconds']:.0f}",
        f"{row['spent']['cpu_seconds']:.0f}",
    ]


def _published(found: Document | None) -> str:
    if found is None:
        return "–"
    return f"{found['value']:g}" + ("" if found["standard_error"] is None else f" ± {found['standard_error']:g}")


def _difference(found: Document | None) -> str:
    if found is None:
        return "–"
    error = f" ± {found['standard_error']:.4f}" if found["standard_error"] is not None else ""
    return f"{found['value']:+.4f}{error}"


def _interval(found: Document | None) -> str:
    return "" if found is None or found["low"] is None else f" [{found['low']:+.4f}, {found['high']:+.4f}]"


def _per_cent(found: Document | None) -> str:
    return "–" if found is None or found["per_cent"] is None else f"{found['per_cent']:+.1f}"
