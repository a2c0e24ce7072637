"""Commands over the database itself, for whoever runs the system: backup and restore."""

from pathlib import Path
from typing import Annotated

import typer

StateDir = Annotated[
    Path | None, typer.Option("--state-dir", help="Folder of the embedded system, where it is not the default one.")
]


def register(app: typer.Typer) -> None:
    app.command()(backup)
    app.command()(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
    state_dir: StateDir = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
) -> None:
    """Write a backup of the database while the system runs."""
    from service.cli import display
    from service.installation import database_url
    from service.store import backup as backups
    from service.store.settings import Settings

    if file.exists() and not force:
        raise typer.BadParameter(f"{file} is there already; --force replaces it", param_hint="FILE")
    size = backups.backup(database_url(Settings(state_dir=state_dir)), file)
    display.stdout().print(f"{file}: {size / 1e6:.1f} MB, readable by you only", markup=False)


def restore(
    file: Annotated[Path, typer.Argument(help="What `mudman backup` wrote.")],
    state_dir: StateDir = None,
) -> None:
    """Load a backup into a database without studies; those that were running go on."""
    from service.cli import display
    from service.installation import database_url
    from service.store import backup as backups
    from service.store.settings import Settings

    studies = backups.restore(database_url(Settings(state_dir=state_dir)), file)
    display.stdout().print(f"{studies} studies are restored; dispatchers claim unfinished ones at once", markup=False)
