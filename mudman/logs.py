"""Logging of every process: to standard error, in UTC, as text for people or as JSON for programs.

A line carries what it is about: the fields of its process (a runner's group and epoch), those of the request in hand,
and those of each argument that has ``log_fields`` (an attempt: study, ordinal, attempt). Text shows the message alone.
"""

import logging
import time
from contextvars import ContextVar
from typing import Any, Literal

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

Format = Literal["text", "json"]

_request: ContextVar[dict[str, Any]] = ContextVar("log_fields", default={})  # noqa: B039 - never changed in place


def configure(level: str = "INFO", form: Format = "text", **process: Any) -> None:
    """``process``: fields of every line. Raises ``ValueError`` for a level that is none."""
    handler = logging.StreamHandler()
    handler.setFormatter(_json() if form == "json" else _text())
    handler.addFilter(_Fields(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for chatty in ("alembic", "httpx", "optuna", "ray"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    ours("ray")
    # Tune looks for files of loggers that are turned off.
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)


def ours(name: str) -> None:
    """What this logger says comes out as all else does: a library may have given it a handler of its own."""
    logger = logging.getLogger(name)
    logger.handlers.clear()
    logger.propagate = True


def about(**fields: Any) -> None:
    """Fields of every further line of this task and what it starts, in place of those given before."""
    _request.set(fields)


class _Fields(logging.Filter):
    """Adds fields to each record; those that a line was given as ``extra`` stand."""

    def __init__(self, process: dict[str, Any]):
        super().__init__()
        self._process = process

    def filter(self, record: logging.LogRecord) -> bool:
        given = dict(self._process)
        given |= _request.get()
        for argument in record.args if isinstance(record.args, tuple) else ():
            given |= getattr(argument, "log_fields", {})
        for name, value in given.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


def _text() -> logging.Formatter:
    return _in_utc(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))


def _json() -> logging.Formatter:
    names = {"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "exception"}
    fields = "%(asctime)s %(levelname)s %(name)s %(message)s"
    left_out = [*RESERVED_ATTRS, "color_message"]  # uvicorn's second wording
    return _in_utc(JsonFormatter(fields, rename_fields=names, reserved_attrs=left_out))


def _in_utc(formatter: logging.Formatter) -> logging.Formatter:
    formatter.converter = time.gmtime
    formatter.default_time_format, formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"
    return formatter
