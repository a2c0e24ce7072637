"""Nodes and the head of a Ray cluster come and go: trials move, studies complete, nothing counts twice."""

import os
import signal
import subprocess
from collections import Counter
from contextlib import suppress

import pytest
from clusters import QUICK, cluster, kill, members, part
from test_kill import COUNTS, assert_causes_told, assert_undisturbed

from service.store import nodes
from service.store.states import Action
from workers.breaker import STREAK


@pytest.fixture(scope="module")
def ray_head():
    """One core, and quick to see that a node is dead; the site's runners are quick to see that the head is."""
    with cluster() as one:
        one.head_process = one.head("--num-cpus", "1", **QUICK)
        one.environment["RAY_gcs_rpc_server_reconnect_timeout_s"] = "3"
        yield one


def assert_complete(site, study_id: str) -> None:
    rows = site.trials(study_id)
    counted = [row.ordinal for row in rows if row.outcome in COUNTS]
    assert len(counted) == len(set(counted)) == site.spec(study_id).budget.trials
    assert {row.ordinal for row in rows} == set(range(len({row.ordinal for row in rows}))), "no gaps"
    assert_causes_told(site, study_id)


def running_on(site, study_id: str) -> dict[str, int]:
    """Processes of the study's live trials by node."""
    live = [row for row in site.trials(study_id) if row.outcome is None and row.worker]
    return {row.worker["node_id"]: row.worker["pid"] for row in live}


def on(site, study_id: str, joined: subprocess.Popen) -> dict[str, int]:
    """As ``running_on``, of this node alone."""
    inside = members(joined.pid)
    return {node: pid for node, pid in running_on(site, study_id).items() if pid in inside}


def test_a_node_joins_takes_trials_and_dies(site, ray_head):
    study_id = site.submit(name="study", trials=2, seconds=15.0, max_concurrent=2)
    joined = ray_head.node("--num-cpus", "1")
    site.dispatch()
    [second] = site.until("the new node has a trial", lambda: on(site, study_id, joined))
    os.kill(part(joined, "raylet"), signal.SIGKILL)
    site.until_state(study_id, "completed")
    assert_complete(site, study_id)
    rows = site.trials(study_id)
    [lost] = [row for row in rows if row.outcome == "lost"]
    assert lost.worker["node_id"] == second
    assert lost.result["fault"]["type"] in ("NodeDied", "WorkerDied"), lost.result["fault"]
    again = [row for row in rows if row.ordinal == lost.ordinal][-1]
    assert again.hyperparameters == lost.hyperparameters
    assert again.worker["node_id"] != second
    assert site.group(study_id).epoch == 1, "its runner went on"
    kill(joined)


@pytest.mark.long
def test_a_node_that_leaves_in_order_is_told_from_a_trial_that_hangs(site, ray_head):
    """As one does that is drained, or that a cloud takes back. Ray gives it half a minute."""
    study_id = site.submit(name="study", trials=2, seconds=50.0, max_concurrent=2)
    joined = ray_head.node("--num-cpus", "1")
    site.dispatch()
    [second] = site.until("the new node has a trial", lambda: on(site, study_id, joined))
    joined.terminate()
    joined.wait(90)
    site.until("what ran there is lost", lambda: site.finished(study_id), 30)
    [lost] = [row for row in site.trials(study_id) if row.outcome]
    assert (lost.outcome, lost.worker["node_id"], lost.result["fault"]["type"]) == ("lost", second, "NodeDied")
    assert_causes_told(site, study_id)
    site.change_state(study_id, Action.CANCEL)


@pytest.mark.long
def test_the_head_dies_and_another_takes_its_place(site, ray_head):
    study_id = site.submit(name="study", trials=5, seconds=1.0, outcome="mixed", startup_trials=3)
    site.dispatch()
    site.until("a trial has ended", lambda: site.finished(study_id))
    site.until("a trial runs", lambda: site.worker_of(study_id))
    kill(ray_head.head_process)
    site.until("the runner has ended", lambda: site.runner_of(study_id) is None, 30)
    assert site.state(study_id) == "running"
    ray_head.head_process = ray_head.head("--num-cpus", "1", **QUICK)
    site.until_state(study_id, "completed")
    assert_undisturbed(site, study_id)
    [why] = {event.data["reason"] for event in site.events(study_id) if event.kind == "lease_lost"}
    assert why == "runner was ended by Ray: the head of the cluster is gone"
    assert site.group(study_id).failures == 0, "a head that is gone speaks against no study"
    lost = [row for row in site.trials(study_id) if row.outcome == "lost"]
    assert lost and {row.result["fault"]["type"] for row in lost} <= {"RunnerDied", "NodeDied", "WorkerDied"}


@pytest.mark.long
def test_a_node_on_which_everything_fails_is_left_alone(site, ray_head):
    # Long enough for the broken node to be tried again and again; short enough to count on the other one.
    study_id = site.submit(name="study", trials=12, seconds=15.0, max_concurrent=2)
    broken = ray_head.node("--num-cpus", "1")
    site.dispatch()

    def quarantined() -> bool:
        for pid in on(site, study_id, broken).values():
            with suppress(ProcessLookupError):  # killed before, and not yet written down
                os.kill(pid, signal.SIGKILL)
        with site.database.begin() as session:
            return bool(nodes.quarantined(session))

    site.until("the node is in quarantine", quarantined)
    [event] = [e for e in site.events(study_id) if e.kind == "node_quarantined"]
    assert "lost (WorkerDied)" in event.data["reason"]
    lost = Counter(row.worker["node_id"] for row in site.trials(study_id) if row.outcome == "lost")
    assert lost[event.data["node"]] >= STREAK and len(lost) == 1
    site.change_state(study_id, Action.CANCEL)

    later = site.submit(name="later", trials=4, seconds=1.0, max_concurrent=2)
    site.until_state(later, "completed")
    [good] = {row.worker["node_id"] for row in site.trials(later)}
    assert good != event.data["node"]
    kill(broken)
