"""What no node could ever hold is seen before Ray is asked for it."""

import socket
import threading
import time
from contextlib import ExitStack

import pytest
import ray

from mudman.specs import ResourcesSpec
from workers import cluster
from workers.cluster import attached, misfit
from workers.desk import Desk
from workers.exits import RayUnavailable

LARGE, CARD = {"CPU": 32.0}, {"CPU": 4.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("nodes", "asked", "path", "message"),
    [
        ([LARGE, CARD], {"gpus": 0.25, "cpus": 4}, None, None),
        ([LARGE, CARD], {"gpus": 0, "cpus": 32}, None, None),
        ([LARGE], {"gpus": 0.25}, "resources.gpus", "asks for 0.25 and the largest node has 0"),
        ([LARGE, CARD], {"cpus": 33}, "resources.cpus", "asks for 33 and the largest node has 32"),
        ([LARGE, CARD], {"gpus": 1, "cpus": 8}, "resources.cpus", "asks for 8 beside 1 GPUs, and no node has both"),
        ([], {"cpus": 1}, "resources.cpus", "asks for 1 and the largest node has 0"),
    ],
)
def test_misfits(monkeypatch, nodes, asked, path, message):
    dead = {"Alive": False, "Resources": {"CPU": 1e3, "GPU": 8.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [dead, *({"Alive": True, "Resources": node} for node in nodes)])
    error = misfit(ResourcesSpec(**asked))
    if path is None:
        assert error is None
    else:
        assert [(fault.path, fault.message) for fault in error.faults] == [(path, message)]
        assert error.faults[0].remedy


@pytest.fixture
def away(monkeypatch):
    """Address where nobody listens."""
    for name in ("RAY_gcs_rpc_server_reconnect_timeout_s", "RAY_gcs_server_port_wait_time_s"):
        monkeypatch.setenv(name, "1")  # as ``attached`` would set them, but not for whoever comes after
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def refused(address: str, desk: Desk) -> float:
    """Seconds until there is no more hope."""
    began = time.monotonic()
    with pytest.raises(RayUnavailable, match=f"{address}.*Remedy"), ExitStack() as stack:
        stack.enter_context(attached(address, desk))
    return time.monotonic() - began


def test_a_ray_that_is_away_is_waited_for_with_patience(away, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.4)
    assert 0.4 < refused(away, Desk()) < 5


def test_who_waits_for_ray_ends_when_asked_to(away):
    desk = Desk()
    threading.Timer(0.3, desk.halt).start()
    assert refused(away, desk) < 5
