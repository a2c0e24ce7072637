"""Commands that need no server: those that start programs of ours, and what is known on this machine."""

import os
import sys
from importlib import resources
from typing import Annotated, NoReturn

import typer

from service.cli.remote import AsJson

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Options and --help belong to the program that is started."""


def register(app: typer.Typer) -> None:
    app.command("demo", context_settings=_PASS_ON, help="Run the quickstart study here, from nothing to its result.")(
        demo
    )
    app.command("up", context_settings=_PASS_ON, help="Run the whole system here until Ctrl-C.")(up)
    app.command("trial", context_settings=_PASS_ON, help="Run one trial of a study here, without any service.")(trial)
    app.command("bench", context_settings=_PASS_ON, help="Say how long a study's trials take on this machine.")(bench)
    app.command("presets")(presets)
    app.command("config")(config)


def demo(context: typer.Context) -> None:
    _become("workers", "demo", *context.args)


def up(context: typer.Context) -> None:
    _become("workers", "up", *context.args)


def trial(context: typer.Context) -> None:
    _become("mudman", "trial", *context.args)


def bench(context: typer.Context) -> None:
    _become("mudman", "bench", *context.args)


def _become(module: str, *arguments: str) -> NoReturn:
    """Replace this process: signals and exit code are then the program's own."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def presets(
    name: Annotated[str | None, typer.Argument(help="Print this preset's whole spec.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the packaged studies and comparisons, or print one."""
    from mudman import presets as packaged
    from mudman.documents import write_yaml
    from service.cli import display

    if name is not None:
        document = packaged.load(name)
        if as_json:
            display.as_json(document)
        else:
            sys.stdout.write(_as_packaged(name) or write_yaml(document))
        return
    documents = {preset: packaged.load(preset) for preset in packaged.names()}
    rows = [
        {
            "name": preset,
            "model": document["model"]["id"],
            "compares": len(document["variants"]) if "variants" in document else None,
            "forget": document["forget"]["corpus"],
            "retain": document["retain"]["corpus"],
            "trials": document["budget"]["trials"],
        }
        for preset, document in documents.items()
    ]
    display.rows(rows, as_json)


def _as_packaged(name: str) -> str | None:
    """Comments and all, where it has a file of its own: the best start for a spec of one's own. None for one of a
    family, whose file holds several and cannot be posted."""
    from mudman import presets as packaged
    from mudman.documents import read_yaml

    file = resources.files(packaged).joinpath(f"{name}.yaml")
    if name not in packaged.names() or not file.is_file():
        return None
    text = file.read_text("utf-8")
    return None if "presets" in read_yaml(text) else text


def config(as_json: AsJson = False) -> None:
    """Print every setting with its value and where it came from."""
    from service.cli import display
    from service.store.settings import PREFIX, Settings

    settings = Settings()
    values = settings.model_dump(mode="json")
    rows = [
        {"setting": name, "value": values[name], "origin": origin, "variable": f"{PREFIX}{name.upper()}"}
        for name, origin in settings.origins().items()
    ]
    display.rows(rows, as_json)
