"""Attaching to the Ray cluster, which may still be starting."""

import logging
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private.services import canonicalize_bootstrap_address, parse_address
from tenacity import Retrying, before_sleep_log, retry_if_exception_type, stop_after_delay, wait_exponential

from mudman import logs
from mudman.faults import SpecError
from mudman.specs import ResourcesSpec
from workers.desk import Desk
from workers.exits import RayUnavailable

log = logging.getLogger(__name__)
logs.ours("ray")  # imported just now

PATIENCE = 60.0
"""Seconds to wait for a Ray that does not answer: embedded, it starts beside the dispatcher."""
KNOCK = 2.0
"""Seconds that a machine has to answer at the head's port."""
HEAD_GONE = 20
"""Seconds without the head after which Ray ends its driver's process: a head that died comes back without memory, so
there is nothing to wait for but a short cut of the network."""
NODE_ID = "ray.io/node-id"
"""Label that Ray gives every node."""


def fitting(resources: ResourcesSpec) -> frozenset[str]:
    """Ids of the nodes that are alive and could hold one trial if they were empty."""
    return frozenset(node["NodeID"] for node in _alive() if _holds(node["Resources"], resources))


def away_from(nodes: Collection[str]) -> dict[str, str]:
    """Ray's label selector for any node but these; empty without any."""
    return {NODE_ID: f"!in({','.join(sorted(nodes))})"} if nodes else {}


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _holds(node: dict[str, float], resources: ResourcesSpec) -> bool:
    return node.get("GPU", 0) >= resources.gpus and node.get("CPU", 0) >= resources.cpus


def misfit(resources: ResourcesSpec) -> SpecError | None:
    """Why no node that is alive could ever hold one trial; None if one could. Ray itself would wait for ever."""
    nodes = [node["Resources"] for node in _alive()]
    if any(_holds(node, resources) for node in nodes):
        return None
    gpus, cpus = (max((node.get(kind, 0) for node in nodes), default=0) for kind in ("GPU", "CPU"))
    if resources.gpus > gpus:
        message = f"asks for {resources.gpus:g} and the largest node has {gpus:g}"
        return SpecError.at("resources.gpus", message, f"set resources.gpus: {int(gpus)}, or add a GPU worker")
    message = f"asks for {resources.cpus:g} and the largest node has {cpus:g}"
    if resources.cpus <= cpus:
        message = f"asks for {resources.cpus:g} beside {resources.gpus:g} GPUs, and no node has both"
    return SpecError.at("resources.cpus", message, "lower resources.cpus, or add a larger worker")


@contextmanager
def attached(address: str, desk: Desk | None = None) -> Iterator[None]:
    """This process as a driver of the cluster. Token and its mode come from Ray's own environment variables.

    It is waited for until the desk is halted, if there is one, for ``PATIENCE`` seconds at most. Raises
    ``RayUnavailable``.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(RayUnavailable),
        stop=stop_after_delay(PATIENCE) | (lambda state: desk is not None and desk.halted),
        wait=wait_exponential(0.5, max=2),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(HEAD_GONE))
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")  # one try: here it is tried again
    retrying(_attach, address)
    try:
        yield
    finally:
        ray.shutdown()


def _attach(address: str) -> None:
    """Raises ``RayUnavailable``."""
    try:
        # Where nobody listens Ray itself would try for most of a minute, deaf to whoever asks this process to end.
        if found := canonicalize_bootstrap_address(address):
            socket.create_connection(parse_address(found), KNOCK).close()
        ray.init(address=address, logging_level=logging.WARNING)
    except (OSError, RuntimeError) as error:  # Ray's own words for a cluster that is away: either
        raise RayUnavailable(
            f"No Ray cluster answers at {address!r}: {error}. Remedy: start one, or set MUDMAN_RAY_ADDRESS."
        ) from None
