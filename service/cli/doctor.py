"""``mudman doctor``: is this installation in order, and what is to be done where it is not."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from service.cli.keeping import StateDir
from service.cli.remote import AsJson, Url

if TYPE_CHECKING:
    from service.doctor import Finding


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    url: Url = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> int:
    """Check this installation and say what is wrong; exit code 1 if anything is."""
    from service import doctor as examination
    from service.cli import display

    findings = examination.examine(state_dir, url)
    if as_json:
        display.as_json([asdict(finding) for finding in findings])
    else:
        display.rows([_row(finding) for finding in findings], json_wanted=False)
    return 1 if any(finding.ok is False for finding in findings) else 0


def _row(finding: "Finding") -> dict[str, str]:
    mark = {True: "✓", False: "✗", None: "–"}[finding.ok]
    remedy = f". Remedy: {finding.remedy}" if finding.remedy else ""
    return {"": mark, "check": finding.check, "found": finding.found + remedy}
