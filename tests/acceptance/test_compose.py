"""The composed system, built and run for real on CPUs: a study over HTTP, its best read back, and who can see what."""

import gzip
import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from mudman import packaged

ROOT = Path(__file__).parents[2]
FILES = ["docker-compose.yml", "deploy/compose.cpu.yaml"]
TRIALS = 2


def compose_command() -> list[str] | None:
    """How Compose is called here: version 2 is part of docker, version 1 a program of its own."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def why_not() -> str | None:
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        return "no container engine answers to `docker info`"
    return None if compose_command() else "the container engine has no Compose"


NO_ENGINE = why_not()
# Building the images for the first time takes most of it.
pytestmark = [pytest.mark.timeout(1500), pytest.mark.skipif(NO_ENGINE is not None, reason=str(NO_ENGINE))]


def run(command: list[str], **options) -> str:
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    assert done.returncode == 0, f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout[-6000:]}"
    return done.stdout


@dataclass
class Composed:
    """One project of Compose, apart from all others on this machine: name, port, secrets and image tags of its own."""

    project: str
    port: int
    secrets: Path
    settings: Path
    """An empty file, in place of the .env file of whoever runs the tests."""
    environment: dict[str, str]

    def compose(self, *arguments: str) -> str:
        files = [part for file in FILES for part in ("--file", file)]
        settings = ["--env-file", str(self.settings), "--project-name", self.project]
        return run([*compose_command(), *settings, *files, *arguments], env=self.environment)

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail=40")

    def inside(self, service: str, program: str) -> str:
        """Output of a Python program in the running container of a service."""
        return self.compose("exec", "-T", service, "python", "-c", program).strip()

    def containers(self) -> dict[str, dict]:
        """What the engine says of each container, by service."""
        label = "com.docker.compose.{}"
        ids = run(["docker", "ps", "--all", "--quiet", "--filter", f"label={label.format('project')}={self.project}"])
        inspected = json.loads(run(["docker", "inspect", *ids.split()]))
        return {container["Config"]["Labels"][label.format("service")]: container for container in inspected}

    def request(self, method: str, path: str, **options) -> httpx.Response:
        """As the admin, unless ``token`` names another secret, or none."""
        token = options.pop("token", "admin_token")
        headers = {"Authorization": f"Bearer {(self.secrets / token).read_text()}"} if token else {}
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(method, url, timeout=30, headers=headers, **options)

    def wait(self, what: str, seconds: float, condition) -> None:
        """Until the condition gives something true. Fails, with the containers' logs, when ``seconds`` have gone."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s\n{self.logs()}"
            time.sleep(1)

    def ready(self) -> bool:
        try:
            return self.request("GET", "/readyz", token=None).status_code == 200
        except httpx.TransportError:
            return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    folder, port = tmp_path_factory.mktemp("composed"), free_port()
    secrets, data, settings = folder / "secrets", folder / "data", folder / "settings"
    data.mkdir()
    settings.touch()
    with gzip.open(packaged.TEXTS["python-functions"].path) as texts:
        (data / "functions.jsonl").write_bytes(texts.read())
    for path in (data, data / "functions.jsonl"):
        path.chmod(0o755)  # the containers' user is another than the tests'
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")} | {
        "MUDMAN_SECRETS": str(secrets),
        "MUDMAN_DATA": str(data),
        "MUDMAN_BIND": "127.0.0.1",
        "MUDMAN_PORT": str(port),
        "MUDMAN_TAG": "acceptance",
    }
    run(["deploy/create-secrets"], env=environment)
    system = Composed(f"mudman-test-{uuid.uuid4().hex[:8]}", port, secrets, settings, environment)
    try:
        system.compose("up", "--detach", "--build")
        system.wait("the composed system is ready", 120, system.ready)
        yield system
    finally:
        system.compose("down", "--volumes", "--timeout", "30")


def test_a_study_over_http_is_searched_and_its_best_read_back(composed: Composed):
    overrides = {
        # From the data root, mounted into API and worker alike.
        "forget.corpus": "./functions.jsonl",
        "budget.trials": TRIALS,
        "budget.unlearn_passes": 15,
        "attack.passes": 20,
        "sampler.startup_trials": 1,
        # Whether a trial stays within a budget is no question of how the system is deployed.
        "constraint": None,
    }
    created = composed.request("POST", "/studies", json={"preset": "quickstart", "overrides": overrides})
    assert created.status_code == 201, created.text
    path = created.headers["Location"]

    def study() -> dict:
        return composed.request("GET", path).json()

    composed.wait("the study ends", 600, lambda: study()["state"] in ("completed", "failed", "cancelled"))
    assert study()["state"] == "completed", f"{study()['problem']}\n{composed.logs()}"
    assert study()["progress"]["outcomes"].get("valid") == TRIALS
    best = composed.request("GET", f"{path}/best").json()
    values = [item["value"] for item in composed.request("GET", f"{path}/trials").json()["items"]]
    assert best["value"] == max(values)
    assert best["result"]["device"] == "cpu"
    assert len(best["result"]["relearning"]["forget_loss"]) > 1
    assert set(best["hyperparameters"]) >= {"unlearning_rate", "retaining_rate"}


def test_it_asks_for_tokens_and_the_first_are_those_of_the_secrets(composed: Composed):
    assert composed.request("GET", "/studies", token=None).status_code == 401
    assert composed.request("GET", "/metrics", token="metrics_token").status_code == 200
    refused = composed.request("POST", "/studies", token="metrics_token", json={"preset": "quickstart"})
    assert refused.status_code == 403
    # As whoever runs the system makes the next one: in the database, by a command beside the API.
    made = composed.compose("exec", "-T", "api", "mudman", "token", "create", "--owner", "ann", "--json")
    token = json.loads(made[made.index("{") : made.rindex("}") + 1])["token"]
    (composed.secrets.parent / "ann").write_text(token)
    mine = composed.request("POST", "/studies?dry_run=true", token="../ann", json={"preset": "quickstart"})
    assert mine.json()["spec"]["owner"] == "ann"
    owners = {one["owner"] for one in composed.request("GET", "/tokens").json()["items"]}
    assert owners == {"admin", "prometheus", "ann"}


def test_only_the_api_is_published(composed: Composed):
    published = {
        service: [f"{place['HostIp']}:{place['HostPort']}" for places in ports.values() for place in places or []]
        for service, container in composed.containers().items()
        if (ports := container["NetworkSettings"]["Ports"])
    }
    assert {service: places for service, places in published.items() if places} == {
        "api": [f"127.0.0.1:{composed.port}"]
    }


def test_the_api_image_has_neither_torch_nor_ray(composed: Composed):
    program = "import importlib.util as u; print([name for name in ('torch', 'ray', 'fastapi') if u.find_spec(name)])"
    assert composed.inside("api", program) == "['fastapi']"


def test_workers_have_no_way_to_the_database(composed: Composed):
    containers = composed.containers()
    mounted = {mount["Destination"] for mount in containers["worker-cpu"]["Mounts"]}
    secrets = {path for path in mounted if path.startswith("/run/secrets")}
    assert secrets == {"/run/secrets/ray_token"}
    networks = containers["postgres"]["NetworkSettings"]["Networks"]
    address = next(iter(networks.values()))["IPAddress"]
    program = f"""
import socket
for host in ("postgres", "{address}"):
    try:
        socket.create_connection((host, 5432), timeout=3)
    except OSError:
        print("no way")
"""
    assert composed.inside("worker-cpu", program).split("\n") == ["no way", "no way"]
    assert composed.inside("dispatcher", program.replace("no way", "none")) == ""


def test_secrets_are_in_no_command_and_no_environment(composed: Composed):
    told = json.dumps([container["Config"] for container in composed.containers().values()])
    for secret in composed.secrets.iterdir():
        assert secret.read_text() not in told, secret.name


def test_nothing_runs_as_root(composed: Composed):
    for service in ("api", "dispatcher", "ray-head", "worker-cpu"):
        assert composed.inside(service, "import os; print(os.getuid())") != "0", service


def test_without_secrets_it_refuses_and_says_what_to_do(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MUDMAN_", "COMPOSE_"))}
    settings = tmp_path / "settings"
    settings.touch()
    command = [*compose_command(), "--env-file", str(settings), "config"]
    refused = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "run deploy/create-secrets first" in refused.stderr
