"""Runs commands of ``python -m mudman``, and ``prepare``, one after the other in one process: torch is imported once.

The hub's address is read from the environment when huggingface_hub is imported: a process of its own is needed.
Reads one JSON list of arguments per line; answers each with {"exit": code, "out": text, "err": text}.
"""

import contextlib
import io
import json
import sys
import traceback
from pathlib import Path

from mudman.__main__ import main
from mudman.specs import parse


def prepare(file: str) -> int:
    from mudman.preparation import prepare

    sys.stdout.write(prepare(parse(json.loads(Path(file).read_text()))).model_dump_json())
    return 0


for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            arguments = json.loads(line)
            code = prepare(arguments[1]) if arguments[0] == "prepare" else main(arguments)
        except SystemExit as error:
            code = error.code
        except Exception:  # noqa: BLE001 - what escapes main is what the test wants to see
            code = "raised"
            traceback.print_exc()
    sys.__stdout__.write(json.dumps({"exit": code, "out": out.getvalue(), "err": err.getvalue()}) + "\n")
    sys.__stdout__.flush()
