"""`mudman pull` and `mudman keep`: from a study to a folder with a model in it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.remote import AsJson, StudyRef, Url, connect, resolve

if TYPE_CHECKING:
    from service.client import Client

POLL = 1.0
"""Seconds between two looks whether the weights are there."""
Trial = Annotated[int | None, typer.Option(min=0, help="Of this trial. Default: of the best one.")]


def register(app: typer.Typer) -> None:
    for command in (keep, pull):
        app.command()(command)


def keep(
    study: StudyRef,
    best: Annotated[int, typer.Option(min=1, help="So many of the best.")] = 1,
    trial: Annotated[list[int] | None, typer.Option(min=0, help="These instead, by number; may be repeated.")] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Run the best once more from its seeds, check that it comes out again, and keep its weights."""
    from service.cli import display

    with connect(url) as client:
        made = client.keep(resolve(client, study)["id"], **({"trials": trial} if trial else {"best": best}))
    display.submitted(made, client.url, as_json)


def pull(
    study: StudyRef,
    folder: Annotated[Path, typer.Argument(help="Is made; must not hold anything else.", show_default=False)],
    trial: Trial = None,
    confirmed: Annotated[
        bool, typer.Option("--confirmed", help="Of the best confirmed one (`mudman confirm`).")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Until the weights are there.")] = True,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Fetch the unlearned model of a study's best trial: weights, tokenizer, card. Has it kept first, if it is not."""
    from service.cli import display
    from service.pulling import pull as download

    with connect(url) as client:
        study_id = resolve(client, study)["id"]
        ordinal = _chosen(client.best(study_id), confirmed) if trial is None else trial
        found = _kept(client, study_id, ordinal, wait)
        made = download(client, found, folder, _progress)
    display.line(_said(found, folder, made), found | {"folder": str(folder.absolute())}, as_json)


def _chosen(best: dict[str, Any], confirmed: bool) -> int:
    """Ordinal of the best of the search, or of what was the best on fresh seeds. Raises ``PullFailed``."""
    from service.pulling import PullFailed

    if not confirmed:
        return best["ordinal"]
    found = best["confirmation"]
    if found is None or found["confirmed_best"] is None or not found["complete"]:
        state = "was not asked for" if found is None else f"is {found['state']}"
        raise PullFailed(
            f"the confirmation of study {best['study']} {state}. Remedy: `mudman confirm {best['study']}`, and pull "
            "again when it is complete"
        )
    return found["confirmed_best"]


def _kept(client: "Client", study_id: str, ordinal: int, wait: bool) -> dict[str, Any]:
    """The checkpoint, once it is there. Raises ``PullFailed`` where it will not be."""
    from service.pulling import PullFailed

    begun: dict[str, Any] | None = None
    while True:
        listed = client.checkpoints(study_id)
        if found := next((one for one in listed["items"] if one["ordinal"] == ordinal), None):
            return found
        before, begun = begun, client.study(begun["id"]) if begun else _begun(client, listed, ordinal)
        if before is None or before["state"] != begun["state"]:
            _progress(f"trial {ordinal} runs once more to keep its weights: study {begun['id']} is {begun['state']}")
        if begun["state"] in ("failed", "cancelled"):
            why = (begun.get("problem") or {}).get("detail") or f"see `mudman events {begun['id']}`"
            raise PullFailed(f"study {begun['id']}, which was to keep the weights, is {begun['state']}: {why}")
        if before and before["state"] == "completed":
            raise PullFailed(
                f"study {begun['id']} is completed and kept no weights of trial {ordinal}. Remedy: see its trials with "
                f"`mudman best {begun['id']} --json`"
            )
        if not wait:
            raise PullFailed(f"the weights are not there yet. Remedy: `mudman watch {begun['id']}`, then pull again")
        time.sleep(POLL)


def _begun(client: "Client", listed: dict[str, Any], ordinal: int) -> dict[str, Any]:
    """The study that is about to keep the trial: one that goes on already, or else a new one."""
    from service.calling.api import FINISHED

    for one in listed["keeping"]:
        if ordinal in one["trials"] and one["state"] not in FINISHED:
            return client.study(one["study"])
    return client.keep(listed["study"], trials=[ordinal])


def _progress(line: str) -> None:
    typer.echo(line, err=True)


def _said(found: dict[str, Any], folder: Path, made: bool) -> str:
    there = f"{folder}: {found['bytes']} bytes in {len(found['files'])} files, every hash as it was kept"
    if not made:
        there += " (they were there)"
    checked = {
        "bit-equal": "run again from its seeds, the attack came out bit for bit as the search recorded it",
        "within tolerance": f"run again, the attack came out as recorded, within {found['difference'] or 0:.2%}",
        "differs": f"TAKE CARE: run again, the attack came out otherwise, by up to {found['difference'] or 0:.2%}: "
        "the card has the numbers of these weights",
        "unknown": "there was nothing recorded to hold the attack against",
    }[found["agreement"]]
    values = f"value {found['value']:.4f} ({found['searched']:.4f} in the search)"
    return f"{there}\ntrial {found['ordinal']}, {values}: {checked}"
