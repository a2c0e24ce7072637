"""``mudman token`` and ``mudman audit``, on the database and over REST, and where commands find their own token."""

import io
import json
import subprocess
import sys

import pytest
from served import served

from service import credentials
from service.app import create_app
from service.cli import _run
from service.client import Client, Refused
from service.store.settings import Settings, SettingsError


@pytest.fixture(scope="module")
def address(database):
    app = create_app(Settings(database_url=database.url, access="tokens"))
    with served(app) as address:
        yield address


@pytest.fixture
def home(tmp_path, monkeypatch, database):
    """A user's own folder, on the machine of the database."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("MUDMAN_DATABASE_URL", database.url)
    monkeypatch.delenv("MUDMAN_URL", raising=False)
    return tmp_path


@pytest.fixture
def mudman(capsys):
    """Runs a command; returns its exit code, and what it printed on stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = _run(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_first_token_comes_from_the_database_and_the_others_over_rest(mudman, home, address):
    code, said, more = mudman("token", "create", "--owner", "root", "--scope", "admin", "--save")
    assert code == 0, more
    kept = home / "mudman" / "token"
    assert str(kept) in said
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "mudman_" not in said + more
    assert kept.read_text().startswith("mudman_")

    code, said, more = mudman("token", "create", "--owner", "ann", "--days", "3", "--note", "laptop", "--url", address)
    assert code == 0, more
    value = said.strip()
    assert value.startswith("mudman_")
    assert "submit for ann" in more
    with Client(address, token=value) as ann:
        assert list(ann.studies()) == []
        with pytest.raises(Refused, match="needs a token of scope admin"):
            ann.tokens()

    code, said, _ = mudman("token", "list", "--json", "--url", address)
    [hers] = [one for one in json.loads(said) if one["owner"] == "ann"]
    assert (hers["scope"], hers["note"]) == ("submit", "laptop")
    assert [one["id"] for one in json.loads(mudman("token", "list", "--owner", "ann", "--json")[1])] == [hers["id"]]
    code, said, _ = mudman("token", "revoke", hers["id"])
    assert (code, "is revoked" in said) == (0, True)
    with Client(address, token=value) as ann, pytest.raises(Refused, match="is revoked"):
        list(ann.studies())
    assert "revoked" in mudman("token", "list")[1]

    code, said, _ = mudman("audit", "--json", "--url", address)
    events = json.loads(said)
    assert events[0]["status"] == 401
    done = [(one["method"], one["path"], (one["detail"] or "").partition(":")[0]) for one in events]
    assert ("CLI", f"/tokens/{hers['id']}", "token revoke") in done
    assert ("POST", "/tokens", "") in done
    code, said, _ = mudman("audit", "--owner", "root", "--url", address)
    assert (code, "/tokens" in said) == (0, True)


def test_commands_without_a_token_say_how_to_get_one(mudman, home, address):
    code, _, said = mudman("ls", "--url", address)
    assert code == 2
    assert "mudman token save" in said
    assert "mudman token create" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--owner", "a", "--scope", "god"], "scope"),
        (["--owner", "", "--scope", "read"], "owner"),
        (["--owner", "a", "--days", "0"], "--days"),
    ],
)
def test_what_makes_no_token(mudman, home, arguments, words):
    code, _, said = mudman("token", "create", *arguments)
    assert (code, words in said) == (2, True), said


def test_a_secret_that_was_made_elsewhere_is_let_in_once(mudman, home, tmp_path, address):
    secret = tmp_path / "secret"
    secret.write_text("mudman_" + "5f" * 32)
    for _ in range(2):
        code, said, _ = mudman("token", "adopt", str(secret), "--owner", "prometheus", "--scope", "read")
        assert (code, "read for prometheus" in said) == (0, True), said
    assert len(json.loads(mudman("token", "list", "--owner", "prometheus", "--json")[1])) == 1
    with Client(address, token=secret.read_text()) as client:
        assert list(client.studies()) == []
    secret.write_text("short")
    code, _, said = mudman("token", "adopt", str(secret), "--owner", "a")
    assert (code, "random" in said, "short" in said) == (1, True, False), said


def test_where_a_token_is_looked_for(home, monkeypatch):
    assert credentials.find() is None
    kept = credentials.save("of the file")
    assert credentials.find() == "of the file"
    monkeypatch.setenv("MUDMAN_TOKEN_FILE", str(home / "other"))
    with pytest.raises(SettingsError, match="cannot be read"):
        credentials.find()
    assert credentials.save("of the other").name == "other"
    assert credentials.find() == "of the other"
    monkeypatch.setenv("MUDMAN_TOKEN", "of the environment")
    assert credentials.find() == "of the environment"
    monkeypatch.delenv("MUDMAN_TOKEN")
    monkeypatch.delenv("MUDMAN_TOKEN_FILE")
    for mode in (0o640, 0o604, 0o620):
        kept.chmod(mode)
        with pytest.raises(SettingsError, match="chmod 600"):
            credentials.find()


def test_a_token_is_saved_from_stdin_and_never_an_argument(mudman, home, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("mudman_typed\n"))
    code, said, _ = mudman("token", "save")
    assert (code, "mudman_typed" in said) == (0, False)
    assert credentials.find() == "mudman_typed"
    assert mudman("token", "save", "mudman_typed")[0] == 2


def test_settings_are_printed_without_it(mudman, home, monkeypatch):
    monkeypatch.setenv("MUDMAN_TOKEN", "mudman_secret")
    code, said, _ = mudman("config")
    assert (code, "mudman_secret" in said, "MUDMAN_TOKEN" in said) == (0, False, True)


def test_the_service_refuses_to_listen_elsewhere_without_tokens(database, monkeypatch):
    monkeypatch.setenv("MUDMAN_DATABASE_URL", database.url)
    command = [sys.executable, "-m", "service", "--host", "0.0.0.0", "--port", "0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "MUDMAN_ACCESS=tokens" in refused.stderr
    assert "Traceback" not in refused.stderr
