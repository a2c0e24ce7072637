"""Runs commands of ``python -m mudman``, and those of ``READERS``, one after the other in one process.

So torch is imported once. The hub's address is read from the environment when huggingface_hub is imported: a process of
its own is needed. The hub's client tries five times before it gives up and waits up to eight seconds between two tries;
no setting changes that. Here it tries as often, without the waiting.
Reads one JSON list of arguments per line; answers each with {"exit": code, "out": text, "err": text}.
"""

import contextlib
import io
import json
import sys
import time
import traceback
from pathlib import Path

from mudman.__main__ import main
from mudman.specs import CorpusSpec, parse

time.sleep = lambda seconds: None


def prepare(spec: dict) -> str:
    from mudman.preparation import prepare

    return prepare(parse(spec)).model_dump_json()


def texts(spec: dict) -> str:
    from mudman.data.texts import open_corpus

    found = open_corpus(CorpusSpec(**spec), "forget").read()
    return json.dumps({"texts": list(found.records), "revision": found.revision, "licence": found.licence})


def questions(spec: dict) -> str:
    from mudman.data.questions import read_questions

    found = read_questions(spec["name"], "evaluations.0.questions")
    return json.dumps({"questions": [vars(record) for record in found.records], "revision": found.revision})


READERS = {"prepare": prepare, "texts": texts, "questions": questions}


def run(command: str, file: str, *options: str) -> int:
    if command not in READERS:
        return main([command, file, *options])
    sys.stdout.write(READERS[command](json.loads(Path(file).read_text())))
    return 0


for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = run(*json.loads(line))
        except SystemExit as error:
            code = error.code
        except Exception:  # noqa: BLE001 - what escapes main is what the test wants to see
            code = "raised"
            traceback.print_exc()
    sys.__stdout__.write(json.dumps({"exit": code, "out": out.getvalue(), "err": err.getvalue()}) + "\n")
    sys.__stdout__.flush()
