"""Commands about comparisons: submit one, follow it, print its table."""

import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.remote import AsJson, Changes, DryRun, Follow, Spec, Url, connect, document, named, overrides_of

if TYPE_CHECKING:
    from service.client import Client

ComparisonRef = Annotated[
    str, typer.Argument(metavar="COMPARISON", help="Id of a comparison, or its name.", show_default=False)
]
_INTERVAL = 1.0


class Measure(StrEnum):
    trials = "trials"
    passes_booked = "passes_booked"
    passes_made = "passes_made"
    gpu_seconds = "gpu_seconds"
    cpu_seconds = "cpu_seconds"


class Form(StrEnum):
    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


def register(app: typer.Typer) -> None:
    for command in (compare, table, comparisons):
        app.command()(command)
    app.command("compare-add")(add)


def compare(
    spec: Spec,
    changes: Changes = None,
    follow: Follow = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    url: Url = None,
) -> int:
    """Submit a comparison: a study for each variant, and one without unlearning."""
    from service.cli import comparison_display, display

    body, media_type = document(spec, overrides_of(changes or []))
    with connect(url) as client:
        answer = client.compare(body, media_type=media_type, dry_run=dry_run)
        if dry_run:
            display.line(comparison_display.dry_run(answer), answer, as_json)
            return 0
        if follow:
            return _follow(client, answer["id"], as_json)
        display.line(comparison_display.submitted(answer, client.url), answer, as_json)
        return 0


def add(
    comparison: ComparisonRef,
    variant: Annotated[str, typer.Argument(help="Name of the new variant.", show_default=False)],
    changes: Changes = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Add a variant to a comparison: its base with changes. The baseline stays."""
    from service.cli import comparison_display, display

    with connect(url) as client:
        answer = client.add_variants(resolve(client, comparison), {variant: overrides_of(changes or [])})
        display.line(comparison_display.submitted(answer, client.url), answer, as_json)


def table(
    comparison: ComparisonRef,
    form: Annotated[Form, typer.Option("--format", help="How it is written.")] = Form.table,
    reference: Annotated[str | None, typer.Option(help="Variant to measure against. Default: the first.")] = None,
    equal: Annotated[
        Measure | None, typer.Option(help="Each variant when it had spent as much of this as the one that spent least.")
    ] = None,
    url: Url = None,
) -> None:
    """Print a comparison's table: mean and standard error of each variant, and its differences to others."""
    from service.cli import comparison_display, display

    with connect(url) as client:
        comparison_id = resolve(client, comparison)
        if form in (Form.markdown, Form.csv):
            sys.stdout.write(client.written_table(comparison_id, form, reference=reference, equal=equal))
            return
        found = client.table(comparison_id, reference=reference, equal=equal)
    if form is Form.json:
        display.as_json(found)
    else:
        display.stdout().print(comparison_display.table(found))


def comparisons(
    text: Annotated[str | None, typer.Option(help="Only comparisons whose name contains this.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List comparisons, newest first."""
    import itertools

    from service.cli import comparison_display, display

    with connect(url) as client:
        found = list(itertools.islice(client.comparisons(text=text, limit=min(limit, 100)), limit))
    if as_json:
        display.as_json(found)
    elif found:
        display.rows([comparison_display.listed(one) for one in found], as_json)
    else:
        display.stdout().print("no comparisons. Submit one: `mudman compare methods-small`", markup=False)


def resolve(client: "Client", reference: str) -> str:
    """Id of the comparison with this id, or with this name where only one has it. Raises ``Refused`` with close
    names."""
    listed = "`mudman comparisons` lists them."
    return named("comparison", reference, client, client.comparison, client.comparisons, listed)["id"]


def _follow(client: "Client", comparison_id: str, as_json: bool) -> int:
    """A line whenever something changed, then the table."""
    from rich.console import Console

    from service.calling.api import FINISHED
    from service.cli import comparison_display, display

    console, said = Console(stderr=True, highlight=False, soft_wrap=True), ""
    client.patience = 60  # seconds: it answered before, so it is being restarted
    try:
        while True:
            found: dict[str, Any] = client.comparison(comparison_id)
            if (now := comparison_display.progress(found)) != said:
                console.print(now, markup=False)
                said = now
            if found["state"] in FINISHED:
                break
            time.sleep(_INTERVAL)
    except KeyboardInterrupt:
        console.print(f"the comparison goes on; look again with `mudman table {comparison_id}`")
        return 130
    made = client.table(comparison_id)
    if as_json:
        display.as_json(made)
    else:
        display.stdout().print(comparison_display.table(made))
    return 0 if found["state"] == "completed" else 1
