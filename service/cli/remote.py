"""Commands that talk to a server over REST."""

import difflib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from service.client import Client

Spec = Annotated[str, typer.Argument(metavar="FILE|PRESET", help="YAML or JSON file, - for stdin, or a preset.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a field: --set budget.trials=4")
]
Follow = Annotated[bool, typer.Option("--watch", help="Show progress until it ends.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check it and estimate its cost; submit nothing.")]
Url = Annotated[
    str | None,
    typer.Option("--url", help="Address of the API. Default: MUDMAN_URL, else the system that runs on this machine."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StudyRef = Annotated[str, typer.Argument(metavar="STUDY", help="Id of a study, or its name.", show_default=False)]


def register(app: typer.Typer) -> None:
    for command in (submit, ls, watch, best):
        app.command()(command)


# Imports of the client and of rich stand in the commands, so that --help and completion answer at once.


def submit(
    spec: Spec,
    changes: Changes = None,
    follow: Follow = False,
    dry_run: DryRun = False,
    variant: Annotated[str | None, typer.Option(help="Which one, where the preset is a comparison.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of your own model. It is looked at first: fits? which modules?")
    ] = None,
    preflight: Annotated[bool, typer.Option(help="Refuse what does not fit, before it is queued.")] = True,
    as_json: AsJson = False,
    url: Url = None,
) -> int:
    """Submit a study."""
    from service.cli import display, own_model

    own = own_model.named(model) if model else {}
    body, media_type = document(spec, overrides_of(changes or []) | own)
    if variant is not None:
        if not isinstance(body, dict) or "preset" not in body:
            raise typer.BadParameter(
                "only presets have variants; for a file take `mudman compare`", param_hint="--variant"
            )
        body["variant"] = variant
    with connect(url) as client:
        if model and preflight:
            said = client.submit(body, media_type=media_type, dry_run=True)
            own_model.check(model, said, here=client.is_local)
        answer = client.submit(body, media_type=media_type, dry_run=dry_run)
        if dry_run:
            display.dry_run(answer, as_json)
            return 0
        if follow:
            return _follow(client, answer["id"], as_json)
        display.submitted(answer, client.url, as_json)
        return 0


def ls(
    state: Annotated[list[str] | None, typer.Option(help="Only studies in this state; may be repeated.")] = None,
    text: Annotated[str | None, typer.Option(help="Only studies whose name contains this.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List studies, newest first."""
    import itertools

    from service.cli import display

    with connect(url) as client:
        found = client.studies(state=state or None, text=text, limit=min(limit, 100))
        display.studies(list(itertools.islice(found, limit)), as_json)


def watch(study: StudyRef, as_json: AsJson = False, url: Url = None) -> int:
    """Show a study's progress until it ends. Ctrl-C stops watching; the study goes on."""
    with connect(url) as client:
        return _follow(client, resolve(client, study)["id"], as_json)


def best(study: StudyRef, as_json: AsJson = False, url: Url = None) -> None:
    """Print a study's best trial beside the untouched model."""
    from service.cli import display

    with connect(url) as client:
        found = resolve(client, study)
        display.best(found, client.best(found["id"]), as_json)


def connect(url: str | None) -> "Client":
    """To --url, else MUDMAN_URL, else the embedded system of the state folder, else where the settings say."""
    from service import endpoint
    from service.client import Client

    if not (address := url or os.environ.get("MUDMAN_URL")):
        from service.store.settings import Settings

        settings = Settings()
        found = endpoint.read(settings.state_dir)
        address = found.url if found else f"http://{settings.host}:{settings.port or 8080}"
    return Client(address)


def resolve(client: "Client", reference: str) -> dict[str, Any]:
    """A study by id, or by name where only one has it. Raises ``Refused`` with close names."""
    return named("study", reference, client, client.study, client.studies, "`mudman ls` lists them.")


def named(
    kind: str,
    reference: str,
    client: "Client",
    get: Callable[[str], dict[str, Any]],
    every: Callable[..., Iterable[dict[str, Any]]],
    listed: str,
) -> dict[str, Any]:
    """What has this id, or this name where only one has it. Raises ``Refused`` with close names."""
    from service.client import Refused

    try:
        return get(reference)
    except Refused as error:
        if error.status != 404:
            raise
        known = list(every(limit=100))
        found = [one["id"] for one in known if one["name"] == reference]
        if len(found) == 1:
            return get(found[0])
        if found:
            hint = f"Several have this name: take one of {', '.join(found)}."
        else:
            names = {one["name"]: one["id"] for one in known}
            close = difflib.get_close_matches(reference, [*names, *names.values()], n=3)
            hint = f"Did you mean {' or '.join(close)}?" if close else listed
        error.problem["detail"] = f"there is no {kind} {reference!r} at {client.url}. {hint}"
        raise


def _follow(client: "Client", study_id: str, as_json: bool) -> int:
    from rich.console import Console

    from service.cli import display
    from service.cli.watching import follow

    console = Console(stderr=True)
    client.patience = 60  # seconds: it answered before, so it is being restarted
    try:
        study = follow(client, study_id, console)
    except KeyboardInterrupt:
        console.print(f"the study goes on; look again with `mudman watch {study_id}`")
        return 130
    display.ended(study, as_json)
    return 0 if study["state"] == "completed" else 1


def overrides_of(
    changes: list[str], *, form: str = "PATH=VALUE", example: str = "budget.trials=4", option: str = "--set"
) -> dict[str, Any]:
    """Values by path, read as YAML."""
    from mudman.documents import read_yaml

    overrides = {}
    for change in changes:
        path, equals, value = change.partition("=")
        if not (path and equals):
            raise typer.BadParameter(f"{change!r} is not {form}, such as {example}", param_hint=option)
        overrides[path] = read_yaml(value)
    return overrides


def document(name: str, overrides: dict[str, Any]) -> tuple[dict[str, Any] | str, str]:
    """What to post, and as what. A file goes as it stands, so that the server's errors name its own fields."""
    from mudman import presets
    from mudman.documents import read_json, read_yaml
    from mudman.faults import FieldFault, SpecError

    if name in presets.names() or name.partition(":")[0] in {*presets.names(), *presets.aliases()}:
        return {"preset": name, "overrides": overrides}, "application/json"
    path = Path(name)
    try:
        text = sys.stdin.read() if name == "-" else path.read_text("utf-8")
    except FileNotFoundError:
        close = difflib.get_close_matches(name, [*presets.names(), *presets.aliases(), *_spec_files(path.parent)], n=3)
        remedy = (
            f"did you mean {' or '.join(close)}?"
            if close
            else "`mudman presets` lists the presets; quickstart is the first"
        )
        raise SpecError([FieldFault(name, "is neither a file nor a preset", remedy)]) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"is not UTF-8 (byte {error.start})"
        raise SpecError([FieldFault(name, f"cannot be read: {reason}", "name a YAML or JSON file")]) from None
    is_json = path.suffix == ".json"
    read = read_json(text) if is_json else read_yaml(text)
    if not isinstance(read, dict):
        raise SpecError([FieldFault(name, "is no mapping of fields", "see `mudman presets quickstart` for a spec")])
    if overrides:
        return presets.merged(read, overrides), "application/json"
    return text, "application/json" if is_json else "application/yaml"


def _spec_files(folder: Path) -> list[str]:
    try:
        return [str(path) for path in folder.iterdir() if path.suffix in (".yaml", ".yml", ".json")]
    except OSError:
        return []
