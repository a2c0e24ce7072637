"""Trials that hang or run too long are ended and run again, and none of them keeps its place."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from test_kill import assert_causes_told, gone

from service.store.states import Action


def first_lost(site, study_id: str):
    return next((row for row in site.trials(study_id) if row.outcome == "lost"), None)


@pytest.mark.long
def test_frozen_stuck_and_slow_trials(site):
    """A process that is frozen, a pass that never ends, and a trial that is merely slow, at the same time."""
    frozen = site.submit(name="frozen", trials=2, seconds=1.0, max_silence=5.0, cpus=0.6)
    stuck = site.submit(name="stuck", trials=1, seconds=3600.0, max_silence=5.0, cpus=0.6)
    slow = site.submit(name="slow", trials=1, seconds=60.0, max_seconds=4.0, cpus=0.6)
    site.dispatch()
    icy = site.until("a trial to freeze runs", lambda: site.worker_of(frozen))
    os.kill(icy, signal.SIGSTOP)
    hung = site.until("a trial hangs", lambda: site.worker_of(stuck))

    for study_id, words in ((frozen, "resources.max_silence (5 s)"), (stuck, "before its first pass")):
        row = site.until("the trial is lost", lambda study_id=study_id: first_lost(site, study_id), 60)
        assert row.result["fault"]["type"] == "DeadlineExceeded"
        assert words in row.result["fault"]["message"]
        [told, *_] = [e.data for e in site.events(study_id) if e.kind == "trial_finished"]
        assert told["reason"].startswith("lost: DeadlineExceeded: made no pass for")
        assert f"{study_id} trial 0 attempt 1: {told['reason']}" in site.log()
    for pid in (icy, hung):
        site.until("its process is killed", lambda pid=pid: gone(pid), 40)
    site.change_state(stuck, Action.CANCEL)

    site.until_state(frozen, "completed")
    rows = site.trials(frozen)
    assert [(row.ordinal, row.attempt, row.outcome) for row in rows] == [
        (0, 1, "lost"),
        (0, 2, "valid"),
        (1, 1, "valid"),
    ]
    assert rows[0].worker["pid"] == icy
    assert rows[0].hyperparameters == rows[1].hyperparameters

    site.until("it was given up after three times", lambda: len(site.trials(slow)) > 3)
    rows = site.trials(slow)
    assert [(row.ordinal, row.attempt, row.outcome) for row in rows[:3]] == [(0, n, "lost") for n in (1, 2, 3)]
    assert all("resources.max_seconds (4)" in row.result["fault"]["message"] for row in rows[:3])
    assert len({row.worker["pid"] for row in rows[:3]}) == 1, "it obeyed between two passes: its process stays warm"


@pytest.mark.long
def test_a_process_that_freezes_while_it_starts_is_killed_and_another_one_starts(site, ray_head):
    """It has the room of a trial, and has never said a word."""
    site.environment["MUDMAN_START_SECONDS"] = "20"
    study_id = site.submit(name="study", trials=1, seconds=1.0)
    for action in (Action.PREPARE, Action.RUN):  # no other process of Ray's starts
        site.change_state(study_id, action)
    site.dispatch()
    icy = site.until("a process begins to start", lambda: starting(ray_head.folder))
    os.kill(icy, signal.SIGSTOP)
    assert not any(row.worker for row in site.trials(study_id)), "it was frozen before it had said a word"
    site.until("the trial is lost", lambda: first_lost(site, study_id), 60)
    site.until_state(study_id, "completed")
    rows = site.trials(study_id)
    assert [(row.attempt, row.outcome) for row in rows] == [(1, "lost"), (2, "valid")]
    assert "did not start within start_seconds (20 s)" in rows[0].result["fault"]["message"]
    assert_causes_told(site, study_id)
    site.until("the process is killed", lambda: gone(icy), 20)


def starting(folder: Path) -> int | None:
    """A process of this cluster that has begun to become a place."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # ended meanwhile
                ours = str(folder).encode() in (entry / "environ").read_bytes()
                if ours and b"ResourceTrainable" in (entry / "cmdline").read_bytes():
                    return int(entry.name)
    return None


@pytest.mark.long
def test_a_frozen_trial_of_a_cancelled_study_keeps_no_place(site):
    study_id = site.submit(name="frozen", trials=1, seconds=60.0)
    site.dispatch()
    icy = site.until("a trial runs", lambda: site.worker_of(study_id))
    os.kill(icy, signal.SIGSTOP)
    assert not gone(icy)
    site.change_state(study_id, Action.CANCEL)
    site.until("its process is killed", lambda: gone(icy), 40)
    site.until("the lease is given back", lambda: site.group(study_id).expires_at is None, 20)
