"""Several studies in one small cluster, with real processes: fairness, priority, quotas, parts of a card."""

import json

import pytest

from mudman.specs import parse
from service.store import studies
from service.store.states import Action
from service.store.tables import Trial


def submit(site, make_spec, owner: str, name: str, priority: int = 0, **changes) -> str:
    document = make_spec(name=name, **changes).model_dump(mode="json", exclude_unset=True)
    with site.database.begin() as session:
        return studies.create(session, parse(document | {"owner": owner, "priority": priority})).study.id


def ran(trials: list[Trial]) -> list[tuple[float, float]]:
    """When trials were on a node: from their first word to their recorded end, seconds of the database's clock."""
    return [(t.started_at.timestamp(), t.finished_at.timestamp()) for t in trials if t.worker and t.finished_at]


def seconds_within(intervals: list[tuple[float, float]], begin: float, end: float) -> float:
    return sum(max(0.0, min(last, end) - max(first, begin)) for first, last in intervals)


def most_at_once(intervals: list[tuple[float, float]]) -> int:
    changes = sorted([(first, 1) for first, _ in intervals] + [(last, -1) for _, last in intervals])
    return max(sum(change for _, change in changes[: count + 1]) for count in range(len(changes)))


def test_two_owners_who_could_each_use_everything_get_half_of_it(site, make_spec):
    each = {"trials": 24, "seconds": 0.4, "max_concurrent": 2}
    both = [submit(site, make_spec, owner, "study", **each) for owner in ("ann", "bob")]
    site.dispatch()
    for study_id in both:
        site.until_state(study_id, "completed")
    ann, bob = (ran(site.trials(study_id)) for study_id in both)
    begin, end = max(ann[0][0], bob[0][0]), min(max(last for _, last in ann), max(last for _, last in bob))
    seconds = [seconds_within(intervals, begin, end) for intervals in (ann, bob)]
    assert end - begin > 5
    assert abs(seconds[0] - seconds[1]) < 0.1 * max(seconds), seconds
    assert most_at_once(ann + bob) <= 2
    with_process = [len({t.worker["pid"] for t in site.trials(study_id)}) for study_id in both]
    assert max(with_process) <= 3, "processes are reused while shares stay as they are"


@pytest.mark.long
def test_a_more_urgent_study_gets_every_place_as_soon_as_trials_end(site, make_spec):
    patient = submit(site, make_spec, "ann", "patient", trials=500, seconds=0.4, max_concurrent=2)
    site.dispatch()
    site.until("both cores are hers", lambda: site.group(patient).max_live == 2 and site.finished(patient) >= 4)
    urgent = submit(site, make_spec, "bob", "urgent", priority=1, trials=12, seconds=0.4, max_concurrent=2)
    site.until("the urgent one has both cores", lambda: site.group(urgent).max_live == 2)
    assert site.group(patient).max_live == 0
    holds_both = "the cluster is full: bob 2 CPUs in 2 trials"
    site.until("the patient one is told", lambda: site.group(patient).waiting == holds_both)
    site.until_state(urgent, "completed")
    before = site.finished(patient)
    site.until("the patient one goes on", lambda: site.finished(patient) > before)
    urgent_ran, patient_ran = ran(site.trials(urgent)), ran(site.trials(patient))
    assert most_at_once(urgent_ran + patient_ran) <= 2
    second = sorted(urgent_ran)[1][0]  # from here on both cores are taken
    begun = [first for first, _ in patient_ran if second < first < max(last for first, last in urgent_ran) - 1.5]
    assert begun == []


@pytest.mark.long
def test_quotas_hold_at_every_moment_and_cards_are_parted(site, make_spec):
    site.environment["MUDMAN_OWNER_QUOTAS"] = json.dumps({"ann": {"trials": 1}})
    small = {"cpus": 0.5, "max_concurrent": 4}
    hers = [submit(site, make_spec, "ann", name, trials=4, seconds=0.2, **small) for name in ("one", "two")]
    cards = submit(site, make_spec, "bob", "cards", trials=9, seconds=60, gpus=0.5, **small)  # until all have begun
    site.dispatch()
    for study_id in hers:
        site.until_state(study_id, "completed")
    site.until("four halves are in use", lambda: sum(bool(t.worker) and not t.outcome for t in site.trials(cards)) == 4)
    site.change_state(cards, Action.CANCEL)
    site.until("all is over", lambda: all(trial.outcome for trial in site.trials(cards)))
    assert most_at_once([interval for study_id in hers for interval in ran(site.trials(study_id))]) == 1
    halves = [trial for trial in site.trials(cards) if trial.worker]
    for device in ("cuda:0", "cuda:1"):
        assert most_at_once(ran([trial for trial in halves if trial.worker["device"] == device])) == 2


@pytest.mark.long
def test_owners_with_long_and_with_short_trials_get_half_of_the_only_place_each(site, make_spec):
    each = {"trials": 500, "max_concurrent": 1, "cpus": 2}
    both = [
        submit(site, make_spec, owner, "study", seconds=seconds, **each)
        for owner, seconds in (("ann", 0.4), ("bob", 2.0))
    ]
    site.dispatch()
    site.until("both have run for a while", lambda: min(map(site.finished, both)) >= 30, 280)
    ann, bob = (ran(site.trials(study_id)) for study_id in both)
    begin, end = max(ann[0][0], bob[0][0]), max(last for _, last in ann + bob)
    seconds = [seconds_within(intervals, begin, end) for intervals in (ann, bob)]
    assert most_at_once(ann + bob) == 1
    assert abs(seconds[0] - seconds[1]) < 0.1 * max(seconds) + 5, seconds  # who has the place keeps it for 5 s
    for study_id in both:
        site.change_state(study_id, Action.CANCEL)


@pytest.mark.long
@pytest.mark.parametrize("large", [{"gpus": 1, "cpus": 0.25}, {"gpus": 2, "cpus": 0.25}])
def test_whole_cards_are_had_beside_halves_that_lie_across_them(site, make_spec, large):
    small = {"trials": 3000, "seconds": 1.3, "gpus": 0.5, "cpus": 0.25, "max_concurrent": 4}
    halves = submit(site, make_spec, "ann", "halves", **small)
    site.dispatch()

    def halves_run() -> int:
        return sum(bool(trial.worker) and not trial.outcome for trial in site.trials(halves)[-8:])

    for number in range(2):
        site.until("four halves", lambda: halves_run() == 4)
        whole = submit(site, make_spec, "bob", f"whole {number}", trials=2, seconds=0.5, **large)
        site.until_state(whole, "completed")
    assert {trial.outcome for trial in site.trials(halves) if trial.outcome} == {"valid"}, "no trial was stopped for it"
    site.change_state(halves, Action.CANCEL)
