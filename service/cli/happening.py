"""``mudman events``: what happened to a study."""

import json
from typing import Annotated

import typer

from service.cli.remote import AsJson, StudyRef, Url, connect, resolve


def register(app: typer.Typer) -> None:
    app.command()(events)


def events(
    study: StudyRef,
    after: Annotated[int, typer.Option(min=0, help="Only those that follow this one, by number.")] = 0,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List what happened to a study, the newest last."""
    from service.cli import display

    with connect(url) as client:
        found = list(client.events(resolve(client, study)["id"], after=after))
    if as_json:
        display.as_json(found)
    elif found:
        display.rows(
            [
                {
                    "number": event["sequence"],
                    "at (UTC)": event["at"][:19].replace("T", " "),
                    "what": event["kind"],
                    "more": json.dumps(event["data"], ensure_ascii=False) if event["data"] else None,
                }
                for event in found
            ],
            as_json,
        )
    else:
        display.stdout().print(f"nothing happened after {after}", markup=False)
