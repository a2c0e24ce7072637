"""What the composed files promise without an engine: no secret where none belongs, and workers alike in all of them."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from service.store.settings import Settings

ROOT = Path(__file__).parents[3]


def services(name: str) -> dict[str, dict[str, Any]]:
    return yaml.safe_load((ROOT / name).read_text())["services"]


WORKER = services("docker-compose.yml")["worker"]
OTHERS = {
    f"{file}: {name}": service
    for file in ("deploy/compose.cpu.yaml", "deploy/compose.gpus.yaml", "deploy/compose.node.yaml")
    for name, service in services(file).items()
    if name.startswith("worker") and "command" in service
}


def test_every_worker_is_run_as_the_first_one():
    assert len(OTHERS) == 4
    for name, worker in OTHERS.items():
        for key in ("command", "secrets", "networks", "init", "cap_drop", "security_opt", "shm_size"):
            assert worker[key] == WORKER[key], (name, key)
        # What another machine kept in a volume of its own, nobody else could read: there it is a bucket or nothing.
        elsewhere = "compose.node" in name
        kept = "MUDMAN_ARTIFACTS=${MUDMAN_ARTIFACTS:-" + ("}" if elsewhere else "/artifacts}")
        own = [kept if said.startswith("MUDMAN_ARTIFACTS") else said for said in WORKER["environment"]]
        assert worker["environment"] == own, name
        mounted = [volume.replace("../data", "./data") for volume in worker["volumes"]]
        shared = [volume for volume in WORKER["volumes"] if not (elsewhere and volume.startswith("artifacts"))]
        assert mounted == shared, name


def test_what_a_container_says_is_kept_within_bounds():
    files = ["docker-compose.yml", *(f"deploy/{path.name}" for path in (ROOT / "deploy").glob("compose.*.yaml"))]
    made = {
        f"{file}: {name}": service
        for file in files
        for name, service in ((yaml.safe_load((ROOT / file).read_text()).get("services")) or {}).items()
        if {"image", "build"} & service.keys()
    }
    assert len(made) == 12
    bounds = {"driver": "json-file", "options": {"max-size": "20m", "max-file": "5"}}
    assert [name for name, service in made.items() if service.get("logging") != bounds] == []


def test_cards_are_not_given_twice():
    given = [
        number
        for worker in services("deploy/compose.gpus.yaml").values()
        for device in worker.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
        for number in device["device_ids"]
    ]
    assert len(given) == len(set(given)) == 2
    assert services("deploy/compose.gpus.yaml")["worker"] == {"profiles": ["one-for-all"]}


def test_another_machine_has_no_password_of_the_database():
    document = yaml.safe_load((ROOT / "deploy/compose.node.yaml").read_text())
    assert list(document["services"]) == ["worker"]
    assert list(document["secrets"]) == ["ray_token"]
    centre = yaml.safe_load((ROOT / "deploy/compose.machines.yaml").read_text())
    assert document["networks"] == centre["networks"]


def test_settings_reach_who_reads_them_by_name_alone():
    """A value here would be an empty one where none is set, and weights and quotas are JSON."""
    composed = services("docker-compose.yml")
    read = {
        "api": {
            *("HOSTS", "MAX_BODY_BYTES", "REQUESTS_PER_MINUTE", "FAILURES_PER_MINUTE", "MAX_REQUESTS", "MAX_STREAMS"),
            "DASHBOARD_TRIALS",
        },
        "dispatcher": {
            *("OWNER_WEIGHTS", "OWNER_QUOTAS", "RESOURCE_GRACE", "PREPARATION_SECONDS"),
            *("START_SECONDS", "RUNNER_LINGER"),
            *("LOG_DAYS", "EVENT_DAYS", "AUDIT_DAYS", "IDEMPOTENCY_DAYS", "CHECKPOINT_DAYS"),
        },
    }
    table = (ROOT / "deploy/README.md").read_text()
    for service, names in read.items():
        environment = composed[service]["environment"]
        by_name = {
            name
            for name, value in environment.items()
            if value is None and not name.startswith("AWS_") and name != "FORWARDED_ALLOW_IPS"
        }
        assert by_name == {f"MUDMAN_{name}" for name in names}
        for name in names:
            assert name.lower() in Settings.model_fields
            assert f"`MUDMAN_{name}`" in table


def test_who_is_given_which_secret():
    given = {name: set(service.get("secrets", ())) for name, service in services("docker-compose.yml").items()}
    assert given == {
        "postgres": {"postgres_password"},
        "migrate": {"database_url", "admin_token", "metrics_token"},
        "api": {"database_url"},
        "ray-head": {"ray_token"},
        "dispatcher": {"database_url", "ray_token"},
        "worker": {"ray_token"},
    }
    assert services("deploy/compose.monitoring.yaml")["prometheus"]["secrets"] == ["metrics_token"]


def test_the_api_asks_for_tokens():
    assert services("docker-compose.yml")["api"]["environment"]["MUDMAN_ACCESS"] == "tokens"


def test_secrets_are_made_once_and_what_is_missing_later(tmp_path):
    """Of an installation that is older than its tokens, too."""

    def made() -> dict[str, str]:
        environment = {"PATH": os.environ["PATH"], "MUDMAN_SECRETS": str(tmp_path / "secrets")}
        subprocess.run(["deploy/create-secrets"], cwd=ROOT, env=environment, check=True, capture_output=True)
        return {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}

    first = made()
    assert first.keys() == {"postgres_password", "database_url", "ray_token", "admin_token", "metrics_token"}
    assert first["postgres_password"] in first["database_url"]
    assert all(re.fullmatch("mudman_[0-9a-f]{64}", first[name]) for name in ("admin_token", "metrics_token"))
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert made() == first
    (tmp_path / "secrets" / "metrics_token").unlink()
    again = made()
    assert again["metrics_token"] != first["metrics_token"]
    assert again | {"metrics_token": first["metrics_token"]} == first


def test_whoever_reads_or_writes_checkpoints_knows_where_they_are():
    composed = services("docker-compose.yml")
    for service, mode in (("api", ":ro"), ("dispatcher", ""), ("worker", "")):
        said = composed[service]["environment"]
        known = dict(one.partition("=")[::2] for one in said) if isinstance(said, list) else said
        assert known["MUDMAN_ARTIFACTS"] == "${MUDMAN_ARTIFACTS:-/artifacts}"
        assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"} <= known.keys()
        assert f"artifacts:/artifacts{mode}" in composed[service]["volumes"]
    for image in ("service", "worker"):
        made = (ROOT / f"deploy/images/{image}.Dockerfile").read_text()
        assert "install --directory --owner=mudman" in made
        assert "/artifacts\n" in made
