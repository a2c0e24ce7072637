"""A comparison from queue to end: one runner for all its studies, and what becomes of one leaves the others alone."""

import os
import signal
from collections import Counter

import pytest
from test_actions import SOON
from test_kill import COUNTS, assert_undisturbed

from mudman.specs.comparison import parse_comparison
from service.comparison_table import table
from service.store import actions, comparisons, recent, studies, together
from service.store.states import Action, State


def compare(site, make_spec, variants: dict) -> dict[str, str]:
    """Study ids by variant. Trials of two seconds, four of each variant, the last two of which learn."""
    return submit(site, make_spec(name="compared", trials=4, seconds=2.0, outcome="mixed", startup_trials=2), variants)


def submit(site, base, variants: dict) -> dict[str, str]:
    document = base.model_dump(mode="json", exclude_unset=True) | {"variants": variants}
    with site.database.begin() as session:
        made = comparisons.create(session, parse_comparison(document)).comparison
        return {study.variant: study.id for study in comparisons.studies_of(session, made)}


def test_all_variants_finish_whatever_becomes_of_one(site, make_spec):
    """One is not fit to be run, one is cancelled, and the runner is killed on the way."""
    ids = compare(
        site,
        make_spec,
        {
            "reuse": {"method.adversary.gradient": "reuse"},
            "no_mask": {"method.mask": "none"},
            "wide": {"method.retaining_rate": {"low": 1e-5, "high": 1e-1, "log": True}},
            "unfit": {"labels.outcome": "no such outcome"},
            "cancelled": {"labels.seconds": "60"},
        },
    )
    assert len({site.group(study_id).id for study_id in ids.values()}) == 1, "one lease group"
    going_on = [ids[name] for name in ("reuse", "no_mask", "wide")]
    site.dispatch()
    site.until("one is being cancelled while it runs", lambda: site.worker_of(ids["cancelled"]))
    site.change_state(ids["cancelled"], Action.CANCEL)
    site.until("its trial has ended", lambda: all(row.outcome for row in site.trials(ids["cancelled"])), 10)

    site.until("each has finished a trial", lambda: all(map(site.finished, going_on)))
    os.kill(site.until("the runner is found", lambda: site.runner_of(going_on[0])), signal.SIGKILL)
    for study_id in [*going_on, ids["baseline"]]:
        site.until_state(study_id, "completed")
        assert_undisturbed(site, study_id)
    assert site.state(ids["unfit"]) == "failed"
    assert site.trials(ids["unfit"]) == []
    assert {row.outcome for row in site.trials(ids["cancelled"])} == {"cancelled"}
    assert site.group(going_on[0]).epoch == 2

    counting = {study_id: [row for row in site.trials(study_id) if row.outcome in COUNTS] for study_id in going_on}
    each_had_one = max(min(row.finished_at for row in rows) for rows in counting.values())
    for rows in counting.values():
        assert sum(row.finished_at <= each_had_one for row in rows) <= 2, "the studies take turns"
    workers: dict[tuple[int, int], set[str]] = {}
    for study_id, rows in counting.items():
        for row in rows:
            workers.setdefault((row.epoch, row.worker["pid"]), set()).add(study_id)
    assert any(len(served) > 1 for served in workers.values()), "a worker serves several studies, its model loaded"
    assert all(sum(epoch == each for epoch, _ in workers) <= 2 for each in (1, 2)), "two places, two workers"
    assert_table(site, going_on[0])


@pytest.mark.long
def test_variants_change_places(site, make_spec):
    """With a card for each of them, of which each runs one trial at a time: all cards hit both alike."""
    base = make_spec(name="two cards", trials=24, seconds=0.5, gpus=1, cpus=0.4)
    ids = submit(site, base, {"one": {"labels.a": "b"}, "other": {"resources.max_silence": 60}})
    assert len({site.group(study_id).id for study_id in ids.values()}) == 1, "they ask for the same places"
    site.dispatch()
    for study_id in ids.values():
        site.until_state(study_id, "completed")
    for variant in ("one", "other"):
        devices = Counter(row.worker["device"] for row in site.trials(ids[variant]))
        assert devices.keys() == {"cuda:0", "cuda:1"}
        assert min(devices.values()) >= 7, devices


def assert_table(site, study_id: str) -> None:
    """Each row has what the trials say."""
    with site.database.begin() as session:
        comparison = comparisons.get(session, studies.get(session, study_id).comparison_id)
        rows = comparisons.studies_of(session, comparison)
        tallies = recent.tallies(session, rows)
        assert comparisons.overall(study.state for study in rows) == State.FAILED
        made = table(comparison.id, comparison.name, rows, tallies, "reuse")
    assert made.baseline.result.n == 1
    for row in made.rows:
        values = [trial.value for trial in site.trials(row.study) if trial.outcome == "valid"]
        assert (row.result.n if row.result else 0) == len(values)
        assert sum(row.outcomes.get(outcome, 0) for outcome in COUNTS) == (4 if row.state == "completed" else 0)


@pytest.mark.long
def test_what_is_done_to_one_variant_is_effective_beside_long_trials_of_another(site, make_spec):
    """Soon, and those trials go on. The last one was never prepared: that takes a place of the group's,
    and is done with its trial."""
    ids = compare(
        site,
        make_spec,
        {
            "long": {"labels.seconds": "60"},
            "short": {"budget.trials": 1, "labels.seconds": "0.2"},
            "later": {"budget.trials": 1, "labels.seconds": "0.2"},
        },
    )
    site.environment["MUDMAN_RUNNER_LINGER"] = "20"
    site.change_state(ids["later"], Action.CANCEL)
    site.dispatch()
    site.until_state(ids["short"], "completed")
    site.until("the long one runs", lambda: site.worker_of(ids["long"]))
    site.until_state(ids["baseline"], "completed")

    with site.database.begin() as session:
        actions.extend(session, ids["short"], 2)
    site.until("its next trial waits for its process", lambda: len(site.trials(ids["short"])) == 2, SOON)
    site.until_state(ids["short"], "completed", 30)
    with site.database.begin() as session:
        studies.run_again(session, studies.get(session, ids["later"]))
    site.until_state(ids["later"], "completed", 30)
    assert site.group(ids["long"]).epoch == 1
    assert [row.outcome for row in site.trials(ids["long"])] == [None]

    for action, done in ((together.pause, 1), (together.resume, 1), (together.cancel, 2)):
        with site.database.begin() as session:
            action(session, studies.get(session, ids["long"]).comparison_id)
        if action is together.resume:
            site.until("its trial runs again", lambda: site.worker_of(ids["long"]), SOON)
        else:
            site.until("no attempt is open", lambda: all(row.outcome for row in site.trials(ids["long"])), SOON)
        assert [row.outcome for row in site.trials(ids["long"])].count("cancelled") == done
