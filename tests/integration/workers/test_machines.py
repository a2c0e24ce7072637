"""Two machines with a network of their own between them: two network namespaces of this host, and a cable to pull.

Nothing leaves the namespaces: they know no address but the two of the cable. Postgres is reached over its Unix socket.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from clusters import QUICK, Cluster, cluster
from test_nodes import assert_complete

from service.store.states import Action


def _obstacle() -> str | None:
    if shutil.which("ip") is None:
        return "no ip command"
    tried = subprocess.run(["ip", "netns", "add", f"mm-try-{os.getpid()}"], capture_output=True, text=True)
    if tried.returncode:
        return f"no network namespaces here: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", f"mm-try-{os.getpid()}"], check=True)
    return None


pytestmark = pytest.mark.skipif((_why := _obstacle()) is not None, reason=str(_why))

HEAD, NODE = "10.77.0.1", "10.77.0.2"


@dataclass
class Cable:
    """Between two namespaces, ``near`` (head, dispatcher, runner) and ``far`` (a node)."""

    near: str
    far: str

    def inside(self, namespace: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", namespace)

    def set(self, state: str) -> None:
        _ip("-n", self.near, "link", "set", "mm0", state)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    made = Cable(f"mm-near-{os.getpid()}", f"mm-far-{os.getpid()}")
    try:
        _ip("netns", "add", made.near)
        _ip("netns", "add", made.far)
        _ip("-n", made.near, "link", "add", "mm0", "type", "veth", "peer", "name", "mm0", "netns", made.far)
        for namespace, address in ((made.near, HEAD), (made.far, NODE)):
            _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "mm0")
            for device in ("lo", "mm0"):
                _ip("-n", namespace, "link", "set", device, "up")
        yield made
    finally:
        for namespace in (made.near, made.far):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


@pytest.fixture(scope="module")
def ray_head(cable: Cable) -> Iterator[Cluster]:
    with cluster(HEAD, 6379, cable.inside(cable.near)) as one:
        one.head("--num-cpus", "1", **QUICK)
        yield one


@pytest.fixture(scope="module")
def join(cable: Cable, ray_head: Cluster) -> Callable[[], subprocess.Popen]:
    """The far machine starts Ray, as its restart policy would, too."""
    return lambda: ray_head.node(
        *("--num-cpus", "1", "--node-ip-address", NODE, "--resources", '{"far": 1}'), inside=cable.inside(cable.far)
    )


@pytest.mark.long
def test_a_machine_that_was_cut_off_and_comes_back(site, cable, join):
    """Trials that outlast the start of a second actor: shorter ones would stay on the first."""
    far = join()
    study_id = site.submit(name="study", trials=3, seconds=15.0, max_concurrent=2)
    site.dispatch()
    site.until("both machines run trials", lambda: machines(site, study_id) == {HEAD, NODE})

    cable.set("down")
    site.until("what ran there is lost", lambda: any(row.outcome == "lost" for row in site.trials(study_id)), 60)
    cable.set("up")
    far.wait(60)  # Ray ends a node that the head has given up
    join()
    site.until_state(study_id, "completed")
    assert_complete(site, study_id)
    [lost] = [row for row in site.trials(study_id) if row.outcome == "lost"]
    assert lost.worker["node"] == NODE
    assert lost.result["fault"]["type"] == "NodeDied", lost.result["fault"]
    assert site.group(study_id).epoch == 1, "the runner went on all the while"

    later = site.submit(name="later", trials=2, seconds=120.0, max_concurrent=2)
    site.until("both machines run trials again", lambda: machines(site, later) == {HEAD, NODE})
    site.change_state(later, Action.CANCEL)
    assert {row.worker["node_id"] for row in site.trials(later)}.isdisjoint({lost.worker["node_id"]}), "a new node"


def machines(site, study_id: str) -> set[str]:
    """Addresses of those that run a trial of the study now."""
    return {row.worker["node"] for row in site.trials(study_id) if row.outcome is None and row.worker}


@pytest.mark.long
def test_a_driver_with_another_token_is_refused(cable, ray_head):
    code = f"import ray; ray.init('{ray_head.address}', log_to_driver=False); print(ray.nodes())"
    wrong = {**os.environ, **ray_head.environment, "RAY_AUTH_TOKEN": "0" * 64}
    del wrong["RAY_AUTH_TOKEN_PATH"]
    started = time.monotonic()
    driver = [*cable.inside(cable.near), sys.executable, "-c", code]
    refused = subprocess.run(driver, env=wrong, capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0
    assert "NodeID" not in refused.stdout
    assert "InvalidAuthToken" in refused.stderr or "AuthenticationError" in refused.stderr, refused.stderr
    assert time.monotonic() - started < 30
