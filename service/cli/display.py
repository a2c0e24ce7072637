"""What commands print on stdout: tables for people, JSON for programs. Losses are in nats per token."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from service.cli.confirmation_display import confirmation
from service.cli.watching import objective

Document = Mapping[str, Any]


def stdout() -> Console:
    """A pipe has no width: programs that cut tables into columns get every row on one line."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 250)


def as_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def line(text: str, value: Any, json_wanted: bool) -> None:
    if json_wanted:
        as_json(value)
    else:
        stdout().print(text, markup=False)


def rows(values: list[dict[str, Any]], json_wanted: bool) -> None:
    """One row a mapping; the keys are the columns."""
    if json_wanted:
        as_json(values)
        return
    table = _table(values[0] if values else ())
    for value in values:
        table.add_row(*("–" if cell is None else str(cell) for cell in value.values()))
    stdout().print(table)


def studies(found: list[Document], json_wanted: bool) -> None:
    if json_wanted or found:
        rows(
            found
            if json_wanted
            else [
                {
                    "id": study["id"],
                    "name": study["name"],
                    "state": study["state"],
                    "trials": f"{study['progress']['trials']}/{study['progress']['budget']}",
                    "best": loss(study["progress"]["best_value"]),
                    "model": study["model"],
                    "created (UTC)": study["created_at"][:16].replace("T", " "),
                }
                for study in found
            ],
            json_wanted,
        )
    else:
        stdout().print("no studies. Submit one: `mudman submit quickstart`", markup=False)


def submitted(study: Document, url: str, json_wanted: bool) -> None:
    text = (
        f"study {study['name']} is {study['state']}: {study['id']}\n"
        f"{url}/studies/{study['id']}\n"
        f"follow it with `mudman watch {study['id']}`"
    )
    if study["unused"]:
        text += f"\nnot used by the chosen method: {', '.join(study['unused'])}"
    line(text, study, json_wanted)


def dry_run(answer: Document, json_wanted: bool) -> None:
    cost = answer["cost"]
    text = (
        f"valid: {cost['trials']} trials of up to {cost['passes_per_trial']} passes, "
        f"{cost['passes_total']} passes with the baseline; nothing was submitted"
    )
    if answer["unused"]:
        text += f"\nnot used by the chosen method: {', '.join(answer['unused'])}"
    line(text, answer, json_wanted)


def ended(study: Document, json_wanted: bool) -> None:
    progress, problem = study["progress"], study["problem"]
    text = f"study {study['name']} is {study['state']}: {progress['trials']}/{progress['budget']} trials"
    if progress["best_value"] is not None:
        text += f", best {objective(study, progress['best_value'])} (`mudman best {study['id']}`)"
    if problem:
        text += f"\n{problem.get('title', 'failed')}: {problem.get('detail', '')}"
        for fault in problem.get("errors") or []:
            text += f"\n  {fault.get('path')}: {fault.get('detail')}\n      {fault.get('remedy')}"
    line(text, study, json_wanted)


def best(study: Document, found: Document, json_wanted: bool) -> None:
    if json_wanted:
        as_json(found)
        return
    console = stdout()
    console.print(comparison(study, found))
    if found["confirmation"]:
        console.print(confirmation(found["confirmation"]))
    console.print(hyperparameters(found))


def comparison(study: Document, found: Document) -> Table:
    """The best trial beside the untouched model, before and after the same attack."""
    reduce = study["spec"]["objective"]["reduce"]
    method = study["spec"]["method"]["type"].upper()
    moment = {"min": "lowest during the attack", "final": "at the attack's end"}[reduce]
    table = _table(())
    table.title = f"Study {study['name']}: does what was forgotten come back?"
    table.title_justify = "left"
    table.caption = (
        f"Losses in nats per token. The attack is {study['spec']['attack']['passes']} passes of relearning.\n"
        f"Forget loss {moment}: higher is better. Retain loss at its end: lower is better."
    )
    if study["spec"]["objective"]["metric"] != "forget_loss":
        table.caption += f"\nBest by another number, and lower is better: {objective(study, found['value'])}."
    table.caption_justify = "left"
    table.add_column("model")
    table.add_column("forget loss", justify="right")
    table.add_column("retain loss", justify="right")
    initial, baseline, result = found["initial"] or {}, found["baseline"] or {}, found["result"]
    table.add_row("original model", loss(initial.get("forget_loss")), loss(initial.get("retain_loss")))
    for name, end in (
        ("no unlearning, after the attack", baseline),
        (f"{method}, best trial (number {found['ordinal']}), after the attack", result),
    ):
        table.add_row(name, loss(end.get(f"forget_loss_{reduce}")), loss(end.get("retain_loss_final")))
    return table


def hyperparameters(found: Document) -> Table:
    table = _table(("best hyper-parameter", "value"))
    for name, value in sorted(found["hyperparameters"].items()):
        table.add_row(name, f"{value:.4g}")
    return table


def loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _table(columns: Iterable[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("id", "setting", "variable"))
    return table
