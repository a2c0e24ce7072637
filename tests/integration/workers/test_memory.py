"""A trial that Ray's memory monitor kills is out of memory, for good, and its runner goes on.

The monitor's threshold lies below what any machine uses, so that it kills a trial at every look; its looks are further
apart than a process takes to start.
"""

import pytest
from clusters import cluster

from service.store.states import Action


@pytest.fixture(scope="module")
def ray_head():
    with cluster() as one:
        one.head(RAY_memory_usage_threshold="0.001", RAY_memory_monitor_refresh_ms="15000")
        yield one


@pytest.mark.long
def test_killed_for_memory(site):
    study_id = site.submit(name="study", trials=3, seconds=120.0)
    # Preparing it would be killed as well.
    site.change_state(study_id, Action.PREPARE)
    site.change_state(study_id, Action.RUN)
    site.dispatch()
    site.until("one was killed while it ran", lambda: [r for r in site.trials(study_id) if r.outcome and r.worker])
    site.until("two were killed", lambda: site.finished(study_id) >= 2)
    rows = [row for row in site.trials(study_id) if row.outcome]
    assert [(row.ordinal, row.attempt) for row in rows] == [(n, 1) for n in range(len(rows))], "none is run again"
    assert {row.outcome for row in rows} == {"out_of_memory"}
    assert all("Ray's memory monitor killed the process" in row.result["fault"]["message"] for row in rows)
    reasons = [e.data["reason"] for e in site.events(study_id) if e.kind == "trial_finished"]
    assert all(reason.startswith("out_of_memory: OutOfMemoryError: ") for reason in reasons)
    assert site.group(study_id).epoch == 1, "Tune and its runner go on"
    site.change_state(study_id, Action.CANCEL)
