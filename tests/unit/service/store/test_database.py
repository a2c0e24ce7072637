"""Database URLs, and what is said when there is no database."""

import time

import pytest
from sqlalchemy import make_url, text

from service.store.database import Database, DatabaseUnavailable, InvalidDatabaseUrl, driver_url, optuna_url


def test_urls_of_both_forms_reach_psycopg():
    network = driver_url("postgresql://me:p%40ss@db.example:5433/studies")
    assert (network.drivername, network.host, network.port) == ("postgresql+psycopg", "db.example", 5433)
    assert network.password == "p@ss"
    socket = driver_url("postgresql:///studies?host=/run/pg&user=me")
    assert dict(socket.query) == {"host": "/run/pg", "user": "me"}


def test_settings_are_added_to_options_that_are_there():
    url = driver_url("postgresql:///x?options=-cstatement_timeout%3D5s", {"TimeZone": "UTC"})
    assert url.query["options"] == "-cstatement_timeout=5s -cTimeZone=UTC"


def test_optunas_url_carries_the_schema_and_survives_braces():
    url = optuna_url("postgresql://me:a%7Bb%7D@db/x")
    assert "{" not in url  # Optuna formats the URL: a literal brace would be a KeyError
    parsed = make_url(url)
    assert parsed.password == "a{b}"
    assert {"-csearch_path=optuna", "-cTimeZone=UTC"} <= set(parsed.query["options"].split())


@pytest.mark.parametrize("url", ["", "nonsense with secret", "mysql://me:secret@db/x", "sqlite:///secret"])
def test_other_urls_are_refused_without_repeating_them(url):
    with pytest.raises(InvalidDatabaseUrl) as refused:
        Database(url)
    assert "secret" not in str(refused.value)
    assert "postgresql://" in str(refused.value)


def test_nobody_listening_is_unavailable_at_once(tmp_path, caplog):
    database = Database(f"postgresql:///x?host={tmp_path}&user=me&password=secret")
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="Try again"), database.begin() as session:
        session.execute(text("select 1"))
    assert time.monotonic() - started < 5
    assert "secret" not in caplog.text
    database.close()
