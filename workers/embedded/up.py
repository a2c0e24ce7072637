"""``python -m workers up``: options, words on the terminal, exit code."""

import argparse
import contextlib
import os
from pathlib import Path

from rich.console import Console

from mudman.faults import MudmanError
from service.store.settings import Settings
from workers.embedded.supervisor import Supervisor


def options(parser: argparse.ArgumentParser) -> None:
    """Options that ``up`` and ``demo`` share."""
    parser.add_argument("--host", help="address that the API listens on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port that the API listens on (default 8080, or a free one if taken)")
    parser.add_argument("--state-dir", type=Path, help="folder of database, endpoint.json and logs")
    parser.add_argument("--data-root", type=Path, help="folder below which specs may name folders (default: this one)")


def main(argv: list[str]) -> int:
    """Exit codes: 0 stopped when asked, 1 cannot run, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="mudman up", description="Run the whole system here until Ctrl-C.")
    options(parser)
    console, errors = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        settings = Settings(**vars(parser.parse_args(argv)))
        for variable in ("MUDMAN_DATABASE_URL", "MUDMAN_DATABASE_URL_FILE"):
            if os.environ.get(variable):
                console.print(f"{variable} is left aside: `up` brings its own Postgres", markup=False)
        Supervisor(settings, lambda line: _print(console, line)).run()
    except MudmanError as error:
        errors.print(f"error: {error}", style="red", markup=False)
        return 1
    return 0


def _print(console: Console, line: str) -> None:
    with contextlib.suppress(OSError):  # a closed terminal or pipe is no reason to leave processes behind
        console.print(line, markup=False)
