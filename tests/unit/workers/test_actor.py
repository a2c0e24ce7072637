"""A trial in its actor, without Ray's scheduler: it never raises, reports in time, and stops when told."""

import json
import time

import pytest
import ray

from mudman.results import Outcome
from mudman.specs import parse
from workers.actor import RunningTrial
from workers.orders import Order, versions


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    """Outside a cluster Ray knows neither cards nor the node's address."""
    monkeypatch.setattr(ray, "get_gpu_ids", list)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")


def order(seconds: float = 0.0, outcome: str = "valid", **changes) -> str:
    spec = parse(
        {
            "name": "study",
            "labels": {"seconds": str(seconds), "outcome": outcome},
            "model": {"id": "simulated"},
            "forget": {"corpus": "python-functions"},
            "retain": {"corpus": "wikitext"},
            "method": {"type": "mudman", "target_modules": ["gate_proj"], "unlearning_rate": 0.1},
            "attack": {"rate": 3e-3, "passes": 20},
            "budget": {"unlearn_passes": 50, "trials": 12},
        }
    )
    fields = {"study_id": "study", "ordinal": 0, "attempt": 1, "spec": spec, "hyperparameters": {}} | changes
    return Order(**{"versions": versions()} | fields).model_dump_json()


def outcome(trial: RunningTrial) -> tuple[Outcome, str]:
    result = trial.word(timeout=20).result
    return Outcome(result["outcome"]), (result["fault"] or {}).get("type", "")


def test_a_result_is_said_at_once():
    started = time.monotonic()
    assert outcome(RunningTrial(order()))[0] is Outcome.VALID
    assert time.monotonic() - started < 10


def test_progress_is_said_in_between_with_the_curves_so_far():
    trial = RunningTrial(order(seconds=6))
    word = trial.word(timeout=1.5)
    assert word.result is None
    assert word.progress["phase"] == "unlearn"
    assert word.progress["of"] == 50
    curve = word.progress["unlearning"]
    assert 1 <= len(curve["passes"]) == len(curve["forget_loss"]) < 10
    json.dumps(word.model_dump())
    trial.end()
    assert outcome(trial)[0] is Outcome.CANCELLED


def test_whatever_is_raised_is_a_result():
    assert outcome(RunningTrial("no order at all")) == (Outcome.ERROR, "ValidationError")
    assert outcome(RunningTrial(order(outcome="no such outcome"))) == (Outcome.ERROR, "SpecError")


def test_a_worker_of_another_version_says_so():
    other = order(versions=versions() | {"mudman": "0.0.1"})
    trial = RunningTrial(other)
    assert outcome(trial) == (Outcome.ERROR, "VersionMismatch")
    assert "same image" in trial.word(0).result["fault"]["message"]
