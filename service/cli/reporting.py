"""Commands about what the numbers say: statistics, figures, exports, and computing them again."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from service.cli.acting import AnyRef, comparison_of
from service.cli.remote import AsJson, StudyRef, Url, connect, resolve
from service.figures.names import OfComparison, OfStudy

Figure = StrEnum("Figure", {name.value: name.value for name in (*OfStudy, *OfComparison)})


class Form(StrEnum):
    json = "json"
    csv = "csv"
    parquet = "parquet"
    bundle = "bundle"


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
    name: Annotated[
        Figure,
        typer.Argument(
            help="bars: of a comparison; curves, dynamics, times: of either; the others: of a study.",
            show_default=False,
        ),
    ],
    file: Annotated[
        Path,
        typer.Argument(help="Its ending says what: .svg, .png, .html or .json.", show_default=False, dir_okay=False),
    ],
    url: Url = None,
) -> None:
    """Draw a figure of a study or a comparison into a file."""
    from service import files
    from service.cli import comparing, display

    if (form := file.suffix.removeprefix(".")) not in ("svg", "png", "html", "json"):
        raise typer.BadParameter(f"{file} ends in none of .svg, .png, .html and .json", param_hint="FILE")
    files.check(file)
    with connect(url) as client:
        either = name in set(OfStudy) & set(OfComparison)
        comparison = comparison_of(client, study) if either else None
        if name is Figure.bars:
            comparison = comparing.resolve(client, study)
        if comparison is not None:
            drawn = client.comparison_figure(comparison, name, form)
        else:
            drawn = client.figure(resolve(client, study)["id"], name, form)
    files.write(file, drawn)
    display.stdout().print(f"{file}: {len(drawn)} bytes", markup=False)


def export(
    study: AnyRef,
    file: Annotated[
        Path | None, typer.Argument(help="Where to write it. Default: stdout.", show_default=False, dir_okay=False)
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            help="csv, parquet: the trials of one study, alone; bundle: a zip with all curves, figures and hashes. "
            "Default: as the file's name ends, else json.",
        ),
    ] = None,
    url: Url = None,
) -> None:
    """Write a study or a comparison with all its trials and statistics."""
    import json

    from service import files

    if file is not None:
        files.check(file)
    form = form or (_ENDINGS.get(file.suffix) if file else None) or Form.json
    with connect(url) as client:
        comparison = comparison_of(client, study)
        if form is Form.bundle:
            if file is None:
                raise typer.BadParameter("a bundle goes into a file, such as bundle.zip", param_hint="FILE")
            if comparison is None:
                client.bundle(resolve(client, study)["id"], file)
            else:
                client.bundle_comparison(comparison, file)
            return
        if form is Form.parquet and comparison is None:
            if file is None:
                raise typer.BadParameter("a Parquet file goes into a file, such as trials.parquet", param_hint="FILE")
            files.write(file, client.parquet(resolve(client, study)["id"]))
            return
        if comparison is None:
            text = client.written_export(resolve(client, study)["id"], form)
        elif form is Form.json:
            text = json.dumps(client.export_comparison(comparison))
        else:
            raise typer.BadParameter("a comparison is exported as json or as a bundle", param_hint="--format")
    if file is None:
        sys.stdout.write(text + "\n" * (form is Form.json))
    else:
        files.write(file, text.encode())


def verify(
    file: Annotated[Path, typer.Argument(help="What `mudman export` wrote.", exists=True, dir_okay=False)],
) -> int:
    """Compute every number of an export again, from its trials alone, without a server; of a bundle, check every byte
    too. Exit code 1 where something does not agree."""
    from service.cli import display

    found, said = _checked(file)
    for line in found:
        display.stdout().print(line, markup=False)
    display.stdout().print(f"{len(found)} do not agree" if found else said, markup=False)
    return 1 if found else 0


def _checked(file: Path) -> tuple[list[str], str]:
    """What does not agree; and what to say if nothing is there."""
    import zipfile

    from mudman.documents import read_json
    from service import export
    from service.evidence import verification

    if file.suffix != ".zip" and not zipfile.is_zipfile(file):
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is neither JSON nor a bundle"
            raise export.NoExport(f"{file} is no export that is read here: {reason}. {export.REMEDY}") from None
        return export.verify(read_json(text)), "every number agrees"
    report = verification.verify(file)
    said = (
        f"every byte and every number agrees: {report.files} files, {report.studies} studies, {report.trials} trials, "
        f"{report.numbers} numbers computed again"
    )
    return report.faults, said


_ENDINGS = {".csv": Form.csv, ".parquet": Form.parquet, ".zip": Form.bundle}
