"""What the composed files promise without an engine: no secret where none belongs, and workers alike in all of them."""

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
        for key in ("command", "secrets", "networks", "environment", "init", "cap_drop", "security_opt", "shm_size"):
            assert worker[key] == WORKER[key], (name, key)
        mounted = [volume.replace("../data", "./data") for volume in worker["volumes"]]
        assert mounted == WORKER["volumes"], name


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
        "api": {"MAX_BODY_BYTES"},
        "dispatcher": {
            *("OWNER_WEIGHTS", "OWNER_QUOTAS", "RESOURCE_GRACE", "PREPARATION_SECONDS"),
            *("LOG_DAYS", "EVENT_DAYS", "IDEMPOTENCY_DAYS"),
        },
    }
    table = (ROOT / "deploy/README.md").read_text()
    for service, names in read.items():
        environment = composed[service]["environment"]
        assert {name for name, value in environment.items() if value is None} == {f"MUDMAN_{name}" for name in names}
        for name in names:
            assert name.lower() in Settings.model_fields
            assert f"`MUDMAN_{name}`" in table
