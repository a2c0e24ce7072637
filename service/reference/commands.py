"""The reference of the command line."""

from typing import Any

import typer

from service.cli import EPILOG, app
from service.reference.schemas import row, sentence

_HEAD = f"""# Every command

Written by `make reference` from the command line itself: `mudman COMMAND --help` says the same. {EPILOG}

Commands that ask a system take `--url`; without it `MUDMAN_URL`, else the system that runs on this machine. `demo`,
`up`, `trial` and `bench` start programs that have `--help` of their own.
"""


def commands() -> str:
    lines = _HEAD.splitlines()
    for name, command in sorted(typer.main.get_command(app).commands.items()):
        lines += ["", f"## mudman {name}", "", sentence(command.help or "")]
        listed = [
            one for one in command.params if not getattr(one, "hidden", False) and one.name not in ("help", "url")
        ]
        if listed:
            lines += ["", "| | meaning |", "|---|---|", *(_parameter(one) for one in listed)]
    return "\n".join(lines).rstrip() + "\n"


def _parameter(one: Any) -> str:
    if one.param_type_name == "argument":
        name = one.metavar or one.name.upper()
        name = name if one.required else f"[{name}]"
    else:
        flag = getattr(one, "is_flag", False)
        name = ", ".join([*one.opts, *one.secondary_opts]) + ("" if flag else f" {one.metavar or 'VALUE'}")
    return row(f"`{name}`", sentence(getattr(one, "help", None) or ""))
