"""What no node could ever hold is seen before Ray is asked for it."""

import pytest
import ray

from mudman.specs import ResourcesSpec
from workers.cluster import misfit

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
