"""Order of settings: flag > environment > file of the current folder > file of the state folder > default."""

import json
import os
from pathlib import Path
from typing import get_origin

import pytest

from service.store.settings import Settings, SettingsError


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, a state folder of its own, and none of the caller's variables."""
    for name in [name for name in os.environ if name.upper().startswith("MUDMAN_")]:
        monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MUDMAN_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


def test_each_layer_covers_the_one_below(clean: Path, monkeypatch: pytest.MonkeyPatch):
    def port_and_origin(**flags) -> tuple[int, str]:
        settings = Settings(**flags)
        return settings.port, settings.origins()["port"]

    assert port_and_origin() == (8080, "default")
    (clean / "state" / "mudman.toml").write_text("port = 1001\n")
    assert port_and_origin() == (1001, f"file {clean}/state/mudman.toml")
    (clean / "here" / "mudman.toml").write_text("port = 1002\n")
    assert port_and_origin() == (1002, f"file {clean}/here/mudman.toml")
    monkeypatch.setenv("MUDMAN_PORT", "1003")
    assert port_and_origin() == (1003, "environment MUDMAN_PORT")
    assert port_and_origin(port=1004) == (1004, "flag")
    assert port_and_origin(port=None) == (1003, "environment MUDMAN_PORT")


def test_the_state_folder_may_come_from_the_file_of_the_current_folder(clean: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MUDMAN_STATE_DIR")
    (clean / "here" / "mudman.toml").write_text(f'state_dir = "{clean}/state"\n')
    (clean / "state" / "mudman.toml").write_text("lease_renewal = 2.5\n")
    assert Settings().lease_renewal == 2.5


def test_an_empty_variable_is_none_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUDMAN_PORT", "")
    settings = Settings()
    assert (settings.port, settings.origins()["port"]) == (8080, "default")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MUDMAN_PORT", "high", "port (from environment MUDMAN_PORT)"),
        ("MUDMAN_PORT", "70000", "65535"),
        ("MUDMAN_LEASE_EXPIRY", "6", "at least twice"),
        ("MUDMAN_LEASE_RENEWAL", "0", "greater than 0"),
        ("MUDMAN_LEASE_EXPIRY", "inf", "finite"),
        ("MUDMAN_LEASE_RENEWAL", "nan", "finite"),
        ("MUDMAN_DISPATCHER_POLL", "inf", "finite"),
        (
            "MUDMAN_RESOURCE_GRACE",
            "inf",
            "resource_grace (from environment MUDMAN_RESOURCE_GRACE): input should",
        ),
        ("MUDMAN_LOG_DAYS", "36501", "less than or equal to 36500"),
        ("MUDMAN_EVENT_DAYS", "10000000000", "less than or equal to 36500"),
        ("MUDMAN_IDEMPOTENCY_DAYS", "36501", "less than or equal to 36500"),
    ],
)
def test_a_wrong_value_names_its_origin(name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings()
    assert words in str(caught.value)


def test_a_misspelt_setting_of_a_file_is_refused_with_the_right_name(clean: Path):
    (clean / "here" / "mudman.toml").write_text("dispatcher_pol = 2\n")
    with pytest.raises(SettingsError, match="did you mean 'dispatcher_poll'"):
        Settings()


def test_a_file_that_is_no_toml_is_refused_with_its_line(clean: Path):
    (clean / "here" / "mudman.toml").write_text("port = \n")
    with pytest.raises(SettingsError, match=r"not valid TOML.*line 1"):
        Settings()


def test_the_database_url_comes_from_the_variable_or_else_the_file(clean: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SettingsError, match="MUDMAN_DATABASE_URL_FILE"):
        Settings().read_database_url()
    secret = clean / "url"
    secret.write_text("postgresql://file/db\n")
    monkeypatch.setenv("MUDMAN_DATABASE_URL_FILE", str(secret))
    assert Settings().read_database_url() == "postgresql://file/db"
    monkeypatch.setenv("MUDMAN_DATABASE_URL", "postgresql://user:hunter2@variable/db")
    settings = Settings()
    assert settings.read_database_url() == "postgresql://user:hunter2@variable/db"
    assert "hunter2" not in repr(settings)


def test_a_missing_url_file_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUDMAN_DATABASE_URL_FILE", "/nowhere/url")
    with pytest.raises(SettingsError, match=r"/nowhere/url.*environment MUDMAN_DATABASE_URL_FILE"):
        Settings().read_database_url()


def test_owners_have_weights_and_quotas_as_tables_of_the_file_or_json_of_the_environment(
    clean: Path, monkeypatch: pytest.MonkeyPatch
):
    (clean / "state" / "mudman.toml").write_text(
        "[owner_weights]\nann = 2\n[owner_quotas.ann]\ngpus = 1.5\n[owner_quotas.'*']\ntrials = 4\n"
    )
    settings = Settings()
    assert (settings.weight("ann"), settings.weight("bob")) == (2.0, 1.0)
    assert settings.quota("ann").model_dump() == {"cpus": None, "gpus": 1.5, "trials": None}
    assert settings.quota("bob").model_dump() == {"cpus": None, "gpus": None, "trials": 4}
    monkeypatch.setenv("MUDMAN_OWNER_QUOTAS", '{"bob": {"cpus": 8}}')
    quotas = Settings()
    assert quotas.quota("bob").cpus == 8
    assert quotas.quota("ann").gpus == 1.5, "names that the environment leaves out are those of the file"
    assert quotas.origins()["owner_quotas"] == "environment MUDMAN_OWNER_QUOTAS"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MUDMAN_OWNER_WEIGHTS", '{"ann": 0}', "owner_weights.ann (from environment MUDMAN_OWNER_WEIGHTS)"),
        ("MUDMAN_OWNER_QUOTAS", '{"ann": {"cards": 1}}', "owner_quotas.ann.cards"),
        ("MUDMAN_OWNER_QUOTAS", '{"ann": {"gpus": -1}}', "greater than or equal to 0"),
        ("MUDMAN_OWNER_WEIGHTS", '{"ann": Infinity}', "owner_weights.ann"),
        ("MUDMAN_OWNER_WEIGHTS", '{"ann": NaN}', "finite number"),
        ("MUDMAN_OWNER_QUOTAS", '{"ann": {"gpus": Infinity}}', "leave it out where there is no limit"),
        ("MUDMAN_OWNER_QUOTAS", '{"ann": {"cpus": NaN}}', "leave it out where there is no limit"),
        ("MUDMAN_OWNER_QUOTAS", '{"ann": {"trials": Infinity}}', "leave it out where there is no limit"),
        ("MUDMAN_OWNER_QUOTAS", "ann=3", "MUDMAN_OWNER_QUOTAS is not valid JSON"),
        ("MUDMAN_OWNER_WEIGHTS", "ann=3", 'for example, {"some owner": 2}'),
        ("MUDMAN_HOSTS", "sweeps.example.org", 'for example, ["sweeps.example.org"]'),
    ],
)
def test_wrong_weights_quotas_and_lists_are_named(name, value, words, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        Settings()
    assert words in str(refused.value)


def test_each_setting_that_is_written_as_json_has_an_example_that_is_taken(monkeypatch: pytest.MonkeyPatch):
    written = {
        name: field for name, field in Settings.model_fields.items() if get_origin(field.annotation) in (list, dict)
    }
    assert written.keys() >= {"hosts", "owner_weights", "owner_quotas"}
    for name, field in written.items():
        monkeypatch.setenv(f"MUDMAN_{name.upper()}", json.dumps(field.examples[0]))
    Settings()
