"""Commands about what the numbers say: statistics, figures, exports, and computing them again."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from service.cli.acting import AnyRef, comparison_of
from service.cli.remote import AsJson, StudyRef, Url, connect, resolve


class Figure(StrEnum):
    history = "history"
    slice = "slice"
    importance = "importance"
    curves = "curves"
    bars = "bars"


class Form(StrEnum):
    json = "json"
    csv = "csv"


def register(app: typer.Typer) -> None:
    for command in (stats, figure, export, verify):
        app.command()(command)


def stats(study: StudyRef, as_json: AsJson = False, url: Url = None) -> None:
    """Print a study's statistics: means, convergence, ranges that are too narrow, compute."""
    from service.cli import display, statistics_display

    with connect(url) as client:
        found = client.statistics(resolve(client, study)["id"])
    if as_json:
        display.as_json(found)
    else:
        display.stdout().print(statistics_display.statistics(found))


def figure(
    study: AnyRef,
    name: Annotated[Figure, typer.Argument(help="bars: of a comparison; the others: of a study.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Its ending says what: .svg, .png, .html or .json.", show_default=False)],
    url: Url = None,
) -> None:
    """Draw a figure of a study or a comparison into a file."""
    from service.cli import comparing, display

    if (form := file.suffix.removeprefix(".")) not in ("svg", "png", "html", "json"):
        raise typer.BadParameter(f"{file} ends in none of .svg, .png, .html and .json", param_hint="FILE")
    with connect(url) as client:
        if name is Figure.bars:
            drawn = client.bars(comparing.resolve(client, study), form)
        else:
            drawn = client.figure(resolve(client, study)["id"], name, form)
    file.write_bytes(drawn)
    display.stdout().print(f"{file}: {len(drawn)} bytes", markup=False)


def export(
    study: AnyRef,
    file: Annotated[Path | None, typer.Argument(help="Where to write it. Default: stdout.", show_default=False)] = None,
    form: Annotated[Form, typer.Option("--format", help="csv: the trials of one study, alone.")] = Form.json,
    url: Url = None,
) -> None:
    """Write a study or a comparison with all its trials and statistics."""
    import json

    with connect(url) as client:
        if (comparison := comparison_of(client, study)) is None:
            text = client.written_export(resolve(client, study)["id"], form)
        elif form is Form.csv:
            raise typer.BadParameter("a comparison is exported as json", param_hint="--format")
        else:
            text = json.dumps(client.export_comparison(comparison))
    if file is None:
        sys.stdout.write(text + "\n" * (form is Form.json))
    else:
        file.write_text(text, "utf-8", newline="")


def verify(file: Annotated[Path, typer.Argument(help="What `mudman export` wrote.", exists=True)]) -> int:
    """Compute an export's statistics again, from its trials alone. Exit code 1 where a number does not agree."""
    from mudman.documents import read_json
    from service.cli import display
    from service.export import verify as disagreements

    found = disagreements(read_json(file.read_text("utf-8")))
    for line in found:
        display.stdout().print(line, markup=False)
    display.stdout().print(f"{len(found)} numbers do not agree" if found else "every number agrees", markup=False)
    return 1 if found else 0
