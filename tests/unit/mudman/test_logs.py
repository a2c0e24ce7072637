"""A line says what it is about: once in words, and as fields for programs."""

import json
import logging
import re
from collections.abc import Callable, Iterator

import pytest

from mudman import logs
from service.store.leases import Lease
from service.store.settings import Settings, SettingsError
from workers.book import Attempt

ATTEMPT = Attempt("st_1", 3, 2, {"rate": 0.1})


@pytest.fixture
def said(capsys) -> Iterator[Callable[[], str]]:
    """What stands on standard error; logging is as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda: capsys.readouterr().err
    logging.captureWarnings(False)
    logs.about()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_about_an_attempt_has_its_fields_and_those_of_its_process(said):
    logs.configure("info", "json", **Lease("g_1", 7).log_fields)
    logging.getLogger("workers.study").warning("%s: lost", ATTEMPT)
    line = json.loads(said())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "WARNING",
        "logger": "workers.study",
        "message": "st_1 trial 3 attempt 2: lost",
        "study_id": "st_1",
        "ordinal": 3,
        "attempt": 2,
        "group": "g_1",
        "epoch": 7,
    }


def test_as_text_the_message_stands_alone(said):
    logs.configure("INFO", "text", group="g_1")
    logging.getLogger("workers.study").info("%s: lost", ATTEMPT)
    assert re.fullmatch(r"\S+Z INFO workers.study: st_1 trial 3 attempt 2: lost\n", said())


def test_a_field_of_the_line_stands_before_one_of_the_process(said):
    logs.configure("INFO", "json", epoch=1)
    logging.getLogger("x").info("claimed", extra=Lease("g", 2).log_fields)
    assert json.loads(said())["epoch"] == 2


def test_an_exception_is_one_line(said):
    logs.configure("INFO", "json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("failed")
    lines = said().splitlines()
    assert len(lines) == 1
    assert "ValueError: two\nlines" in json.loads(lines[0])["exception"]


def test_the_level_holds(said):
    logs.configure("warning", "text")
    logging.getLogger("x").info("not said")
    assert said() == ""


def test_the_settings_take_no_other_format(monkeypatch):
    monkeypatch.setenv("MUDMAN_LOG_FORMAT", "xml")
    with pytest.raises(SettingsError, match="log_format"):
        Settings()
    monkeypatch.setenv("MUDMAN_LOG_FORMAT", "json")
    monkeypatch.setenv("MUDMAN_LOG_LEVEL", "debug")
    assert (Settings().log_format, Settings().log_level) == ("json", "DEBUG")
