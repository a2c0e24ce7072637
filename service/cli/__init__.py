"""The console script ``mudman``. Light: torch, Ray and Optuna are only ever started as other processes."""

import os
import sys

import typer

from mudman.faults import MudmanError
from service.cli import access, acting, cluster, comparing, doctor, happening, here, keeping, pulling, remote, reporting

EPILOG = "Exit codes: 0 done, 1 it failed or nothing answers, 2 wrong usage or bad input, 130 interrupted."

app = typer.Typer(
    name="mudman",
    help="Hyper-parameter sweeps for unlearning that lasts. Start with `mudman demo`.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
here.register(app)
remote.register(app)
happening.register(app)
acting.register(app)
comparing.register(app)
reporting.register(app)
cluster.register(app)
keeping.register(app)
access.register(app)
pulling.register(app)
doctor.register(app)


# Newer versions of typer bring a click of their own: this is the base of usage errors in either.
_UsageError = typer.BadParameter.__mro__[1]


def main(argv: list[str] | None = None) -> None:
    """Run a command; whatever a user can mend is said in words, never as a traceback."""
    sys.exit(_run(argv))


def _run(argv: list[str] | None) -> int:
    try:
        return app(argv, prog_name="mudman", standalone_mode=False) or 0
    except typer.Exit as asked:
        return asked.exit_code
    except _UsageError as error:
        error.show()
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MudmanError as error:
        from service.cli.failures import explain

        return explain(error)
