"""A trial in its actor, without Ray's scheduler: it never raises, reports in time, and stops when told."""

import json
import time

import pytest

from mudman.artifacts import VARIABLE, Artifacts, here
from mudman.checkpoints import Keeping
from mudman.results import Checkpoint, KeptFile, Outcome, TrialResult
from mudman.specs import parse
from workers import actor
from workers.actor import HEARTBEAT, RunningTrial
from workers.orders import Order, Word, versions

PLACE = {"node": "127.0.0.1", "pid": 1, "device": "cpu"}


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


def result_of(trial: RunningTrial) -> TrialResult:
    deadline = time.monotonic() + 20
    while (result := trial.word().result) is None:
        assert time.monotonic() < deadline
    return result


def outcome(trial: RunningTrial) -> tuple[Outcome, str]:
    result = result_of(trial)
    return result.outcome, result.fault.type if result.fault else ""


def test_a_result_is_said_at_once(monkeypatch):
    """Not when a heartbeat is over, however long that is."""
    monkeypatch.setattr(actor, "HEARTBEAT", 60.0)
    trial = RunningTrial(order(seconds=0.5), PLACE)
    assert trial.word().result is None
    started = time.monotonic()
    assert trial.word().result.outcome is Outcome.VALID
    assert time.monotonic() - started < 30


def test_the_orders_cuts_reach_the_trial():
    assert outcome(RunningTrial(order(cuts={4: 100.0}), PLACE))[0] is Outcome.PRUNED
    assert outcome(RunningTrial(order(cuts={4: 0.0}), PLACE))[0] is Outcome.VALID


def test_progress_is_said_in_between_with_the_curves_so_far():
    trial = RunningTrial(order(seconds=6), PLACE)
    started = time.monotonic()
    first, word, word = (trial.word() for _ in range(3))
    assert 2 * HEARTBEAT <= time.monotonic() - started < 10 * HEARTBEAT
    assert first.result is word.result is None
    assert word.progress["phase"] == "unlearn"
    assert word.progress["of"] == 50
    curve = word.progress["unlearning"]
    assert 1 <= len(curve["passes"]) == len(curve["forget_loss"]) < 10
    assert Word.model_validate_json(word.model_dump_json()) == word
    trial.end()
    assert outcome(trial)[0] is Outcome.CANCELLED


def test_whatever_is_raised_is_a_result():
    assert outcome(RunningTrial("no order at all", PLACE)) == (Outcome.ERROR, "ValidationError")
    assert outcome(RunningTrial(order(outcome="no such outcome"), PLACE)) == (Outcome.ERROR, "SpecError")


@pytest.fixture
def store(tmp_path, monkeypatch) -> Artifacts:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "artifacts"))
    return here()


def keeping(attempt: int) -> str:
    """Its trial keeps its weights."""
    read = json.loads(order(attempt=attempt))
    configuration = {"ordinal": 0, "value": 1.0, "hyperparameters": {}}
    repeats = {"study": "searched", "configurations": [configuration], "seeds": [{}], "keep": True}
    read["spec"] |= {"repeats": repeats, "budget": read["spec"]["budget"] | {"trials": 1}}
    return json.dumps(read)


def test_nothing_stays_of_a_trial_that_keeps_no_weights(store):
    assert outcome(RunningTrial(keeping(1), PLACE)) == (Outcome.VALID, ""), "the simulated ones have none"
    assert store.keys("study") == []


def test_nothing_stays_of_earlier_attempts(store, monkeypatch):
    """Their processes may have been killed while they wrote."""
    for key in ("0-1", "0-2", "0-20", "10-1"):
        store.put_bytes(f"study/{key}/README.md", b"Not finished.")
    assert outcome(RunningTrial(keeping(3), PLACE)) == (Outcome.VALID, "")
    assert sorted(store.keys("study")) == ["study/0-20/README.md", "study/10-1/README.md"]


def test_weights_that_are_not_taken_whole_are_not_left_in_part(store, monkeypatch):
    def run_trial(*args, keeping: Keeping, **more) -> TrialResult:
        (keeping.folder / "model.safetensors").write_bytes(b"weights")
        files = tuple(KeptFile(name=name, bytes=7, sha256="") for name in ("model.safetensors", "absent"))
        return TrialResult(outcome=Outcome.VALID, checkpoint=Checkpoint(agreement="unknown", files=files))

    monkeypatch.setattr(actor, "run_trial", run_trial)
    assert outcome(RunningTrial(keeping(1), PLACE)) == (Outcome.ERROR, "ArtifactsUnavailable")
    assert store.keys("study") == []


def test_a_worker_of_another_version_says_so():
    other = order(versions=versions() | {"mudman": "0.0.1"})
    trial = RunningTrial(other, PLACE)
    assert outcome(trial) == (Outcome.ERROR, "VersionMismatch")
    assert "same image" in result_of(trial).fault.message
