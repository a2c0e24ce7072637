"""Commands that do something to a study, or to a comparison, that is there."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.remote import AsJson, StudyRef, Url, connect, overrides_of, resolve

if TYPE_CHECKING:
    from service.client import Client

AnyRef = Annotated[
    str,
    typer.Argument(
        metavar="STUDY|COMPARISON", help="Id or name; of a name that both have, the study.", show_default=False
    ),
]


class Failed(StrEnum):
    error = "error"
    out_of_memory = "out_of_memory"
    lost = "lost"


def register(app: typer.Typer) -> None:
    for command in (pause, resume, cancel, extend, retry, enqueue, widen, confirm, delete):
        app.command()(command)


def pause(study: AnyRef, as_json: AsJson = False, url: Url = None) -> None:
    """Pause a study, or all of a comparison. Running trials end within seconds; they run again when it is resumed."""
    with connect(url) as client:
        if (comparison := comparison_of(client, study)) is not None:
            _say_each(client.pause_comparison(comparison), as_json)
        else:
            _say("study", client.pause(resolve(client, study)["id"]), as_json)


def resume(study: AnyRef, as_json: AsJson = False, url: Url = None) -> None:
    """Let a paused study, or all of a comparison, go on."""
    with connect(url) as client:
        if (comparison := comparison_of(client, study)) is not None:
            _say_each(client.resume_comparison(comparison), as_json)
        else:
            _say("study", client.resume(resolve(client, study)["id"]), as_json)


def cancel(study: AnyRef, as_json: AsJson = False, url: Url = None) -> None:
    """Cancel a study, or all of a comparison. Running trials end within seconds; finished ones stay."""
    with connect(url) as client:
        if (comparison := comparison_of(client, study)) is not None:
            _say_each(client.cancel_comparison(comparison), as_json)
        else:
            _say("study", client.cancel(resolve(client, study)["id"]), as_json)


def extend(
    study: AnyRef,
    trials: Annotated[int, typer.Option(min=1, help="New total, more than it has.", show_default=False)],
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Give a finished study, or each of a comparison, more trials. Its search goes on with every result so far."""
    with connect(url) as client:
        if (comparison := comparison_of(client, study)) is not None:
            _say_each(client.extend_comparison(comparison, trials), as_json)
        else:
            _say("study", client.extend(resolve(client, study)["id"], trials), as_json)


def retry(
    study: AnyRef,
    outcome: Annotated[
        list[Failed] | None, typer.Option(help="Only trials that ended so; may be repeated. Default: all of these.")
    ] = None,
    trial: Annotated[
        list[int] | None, typer.Option(min=0, help="Only this one, by number; may be repeated. Of a study.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Run the failed trials of a finished study, or of a comparison's, again with the same hyper-parameters."""
    with connect(url) as client:
        if (comparison := comparison_of(client, study)) is None:
            study_id = resolve(client, study)["id"]
            _say("study", client.retry(study_id, outcomes=outcome or None, ordinals=trial or None), as_json)
        elif trial:
            raise typer.BadParameter("is a comparison: name one of its studies", param_hint=study)
        else:
            _say_each(client.retry_comparison(comparison, outcomes=outcome or None), as_json)


def enqueue(
    study: StudyRef,
    values: Annotated[
        list[str],
        typer.Argument(metavar="NAME=VALUE...", help="Hyper-parameters; the sampler chooses the others."),
    ],
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Enqueue one trial with chosen hyper-parameters: unlearning_rate=0.01 fork_every=12"""
    from service.cli import display

    chosen = overrides_of(values, form="NAME=VALUE", example="unlearning_rate=0.01", option="NAME=VALUE")
    with connect(url) as client:
        study_id = resolve(client, study)["id"]
        answer = client.enqueue(study_id, chosen)
    display.line(f"enqueued; {len(answer['waiting'])} in line for study {study_id}", answer, as_json)


def widen(
    study: StudyRef,
    name: Annotated[str | None, typer.Option(help="Of the new study. Default: that of this one with -widened.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Its trials. Default: as many as this one has.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--range", metavar="NAME=RANGE", help='A new range: --range "rate={low: 1e-4, high: 1, log: true}"'
        ),
    ] = None,
    warm_start: Annotated[int, typer.Option(min=0, help="Best configurations that are tried first.")] = 10,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Search wider ranges in a new study, begun with the best of this one. Default: ranges that are saturated."""
    from service.cli import display

    example = '"retain_momentum={low: 0, high: 1}"'
    ranges = overrides_of(changes or [], form="NAME=RANGE", example=example, option="--range")
    wanted = {"name": name, "trials": trials, "ranges": ranges or None, "warm_start": warm_start}
    with connect(url) as client:
        parent = resolve(client, study)["id"]
        made = client.widen(parent, **{field: value for field, value in wanted.items() if value is not None})
    display.submitted(made, client.url, as_json)


def confirm(
    study: StudyRef,
    best: Annotated[int, typer.Option(min=1, help="Configurations.")] = 3,
    seeds: Annotated[int, typer.Option(min=2, help="Runs of each.")] = 5,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Run the best configurations again on fresh seeds and other held-out batches. `mudman best` then shows both."""
    from service.cli import display

    with connect(url) as client:
        made = client.confirm(resolve(client, study)["id"], best=best, seeds=seeds)
    display.submitted(made, client.url, as_json)


def delete(
    study: AnyRef,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
) -> None:
    """Delete a finished study, or a comparison with its studies: trials and all, for good."""
    from service.cli import display

    with connect(url) as client:
        if (comparison := comparison_of(client, study)) is not None:
            kind, found, remove = "comparison", client.comparison(comparison), client.delete_comparison
        else:
            kind, found, remove = "study", resolve(client, study), client.delete
        named = f"{kind} {found['name']} ({found['id']})"
        if not yes:
            typer.confirm(f"Delete {named} with all its trials?", abort=True, err=True)
        remove(found["id"])
    display.line(f"{named} is deleted", found, False)


def _say(kind: str, answer: dict[str, Any], as_json: bool) -> None:
    from service.cli import display

    display.line(f"{kind} {answer['name']} ({answer['id']}) is {answer['state']}", answer, as_json)


def _say_each(answer: dict[str, Any], as_json: bool) -> None:
    """The comparison, and each study that was left as it is."""
    from service.cli import display

    left = [f"\n  {one['variant']} is left as it is: {one['reason']}" for one in answer["changes"] if one["reason"]]
    display.line(f"comparison {answer['name']} ({answer['id']}) is {answer['state']}{''.join(left)}", answer, as_json)


def comparison_of(client: "Client", reference: str) -> str | None:
    """Id of the comparison that is meant; None where it is no comparison, or a study has the name too."""
    if reference.startswith("cp_"):
        return reference
    found = [one["id"] for one in client.comparisons(text=reference) if one["name"] == reference]
    if len(found) != 1 or any(one["name"] == reference for one in client.studies(text=reference)):
        return None
    return found[0]
