"""What a process on a worker node says of the place that it has."""

import os
import platform
from typing import Any

import ray

from mudman import provenance


def whereabouts() -> dict[str, Any]:
    cards = os.environ.get("CUDA_VISIBLE_DEVICES", "") if ray.get_gpu_ids() else ""
    return {
        "node": ray.util.get_node_ip_address(),
        "node_id": ray.get_runtime_context().get_node_id(),
        "host": platform.node(),
        "pid": os.getpid(),
        "device": f"cuda:{cards}" if cards else "cpu",
        **_evidence(),
    }


def _evidence() -> dict[str, Any]:
    """Code and hardware that a result rests on: a place may outlive an upgrade, and nodes differ."""
    code, machine = provenance.code(), provenance.hardware()
    return {
        "commit": code["commit"],
        "code": code["sha256"],
        "processor": machine["processor"],
        "cards": machine["cards"],
    }
