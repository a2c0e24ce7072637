"""What the embedded system tells its processes: every setting as it was resolved, and no secret of its user."""

from pathlib import Path

import pytest

from service.store.settings import Quota, Settings
from workers.embedded.services import Plan


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("MUDMAN_TOKEN", "mudman_mine")
    monkeypatch.setenv("MUDMAN_TOKEN_FILE", "/mine")
    monkeypatch.setenv("MUDMAN_DATABASE_URL", "postgresql://mine")
    weights, quotas = {"ann": 2.0, "bob's": 1.0}, {"ann": Quota(gpus=1.5), "*": Quota(trials=3)}
    settings = Settings(
        owner_weights=weights, owner_quotas=quotas, hosts=["a.example", "b"], access="tokens", state_dir=tmp_path
    )
    return Plan(settings, port=1234, ray_port=1235, runtime=tmp_path, lifeline_descriptor=0)


def test_they_read_what_was_meant(plan: Plan, monkeypatch: pytest.MonkeyPatch):
    given = plan.api().environment
    for name in ("MUDMAN_TOKEN", "MUDMAN_TOKEN_FILE", "MUDMAN_DATABASE_URL", "MUDMAN_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    read = Settings()
    for name in ("owner_weights", "owner_quotas", "hosts", "access", "max_streams"):
        assert getattr(read, name) == getattr(plan.settings, name)
    assert (read.port, read.token, read.database_url) == (1234, None, None)


def test_nothing_secret_is_handed_on(plan: Plan):
    for child in (plan.api(), plan.dispatcher(), plan.migration(), plan.ray()):
        assert not [value for value in child.environment.values() if "mine" in value], child.name


@pytest.mark.parametrize(("name", "value"), [("MALLOC_ARENA_MAX", "1"), ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")])
def test_trials_run_under_what_must_be_set_before_a_process_starts(plan: Plan, name: str, value: str):
    assert plan.ray().environment[name] == value
    image = Path(__file__).parents[3] / "deploy/images/worker.Dockerfile"
    assert f"ENV {name}={value}\n" in image.read_text()
