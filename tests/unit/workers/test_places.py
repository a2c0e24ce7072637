"""Where trials are sent while nodes are in quarantine."""

from types import SimpleNamespace

import pytest
import ray

from mudman.results import Fault, Outcome, TrialResult
from mudman.specs import ResourcesSpec
from workers.book import Attempt
from workers.breaker import STREAK
from workers.desk import Desk
from workers.overseer import Overseer
from workers.places import AVOID, Places, request
from workers.searcher import PlaceSearcher


@pytest.fixture
def nodes(monkeypatch):
    """Ray's nodes: alive, two cores each, by name."""
    alive = ["a", "b"]

    def listed():
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 2.0}} for name in alive]

    monkeypatch.setattr(ray, "nodes", listed)
    return alive


def trial(name: str, avoid: list[str], placed: bool = False) -> SimpleNamespace:
    """As much of Tune's trial as is looked at."""
    state = SimpleNamespace(ray_actor="actor" if placed else None)
    return SimpleNamespace(trial_id=name, config={AVOID: avoid}, temporary_state=state)


def end(places: Places, node: str | None, ordinal: int, outcome: Outcome = Outcome.ERROR, study: str = "study") -> None:
    fault = None if outcome.counts else Fault(type="CudaError", message="no")
    places.told(node, Attempt(study, ordinal, 1, {}), TrialResult(outcome=outcome, fault=fault))


def test_trials_keep_away_from_quarantine_while_there_is_another_node(nodes):
    desk = Desk()
    places = Places(desk, ResourcesSpec())
    assert places.avoid("study") == frozenset()
    desk.quarantined = frozenset("a")
    assert places.avoid("study") == {"a"}
    nodes.remove("b")
    assert places.avoid("study") == frozenset(), "a node in quarantine is better than none"


def test_the_first_place_of_a_run_keeps_away_from_quarantine_too(nodes):
    desk = Desk()
    desk.quarantined = frozenset("a")
    places = Places(desk, ResourcesSpec())
    desk.offer(Attempt("study", 0, 1, {}))
    assert PlaceSearcher(desk, Overseer(desk, places, {}), places).suggest("first") == {AVOID: ["a"]}


def test_a_place_that_is_asked_for_on_a_node_that_is_gone_is_asked_for_anew_once_there_is_none(nodes):
    desk = Desk()
    places = Places(desk, ResourcesSpec())
    desk.offer(Attempt("study", 0, 1, {}))
    desk.quarantined = frozenset("a")
    waits = trial("waits", ["a"])
    places.look([waits])
    assert not places.cornered, "b may have room for it"
    desk.quarantined = frozenset()
    places.look([waits, trial("runs", ["a"], placed=True)])
    assert not places.cornered, "what runs is left to end"
    places.look([waits])
    assert places.cornered


def test_a_place_that_is_asked_for_is_not_waited_for_once_the_share_is_gone(nodes):
    desk = Desk()
    places = Places(desk, ResourcesSpec())
    desk.offer(Attempt("study", 0, 1, {}))
    waits = trial("waits", [])
    places.look([waits])
    assert not places.cornered
    desk.limit = 0
    places.look([waits])
    assert places.cornered
    places.look([])
    assert not places.cornered


def test_a_node_is_blamed_by_the_ends_of_trials_of_a_study_that_works_elsewhere(nodes):
    desk = Desk()
    places = Places(desk, ResourcesSpec())
    end(places, "b", 99, Outcome.VALID)
    for ordinal in range(STREAK):
        assert desk.blamed == {}
        end(places, "a", ordinal)
        end(places, None, 50 + ordinal)
    assert desk.blamed == {"a": "5 trials in a row ended there without counting: 5 error (CudaError)"}


def test_a_study_that_fails_everywhere_takes_no_node_from_the_others(nodes):
    desk = Desk()
    places = Places(desk, ResourcesSpec())
    for ordinal in range(STREAK):
        end(places, "a", ordinal)
    assert (desk.blamed, places.avoid("study"), places.avoid("another")) == ({}, {"a"}, frozenset())
    end(places, "b", STREAK)
    assert (desk.blamed, places.avoid("study")) == ({}, frozenset())


def test_what_is_asked_of_ray():
    held = {"CPU": 2.0, "GPU": 0.5}
    free, kept = (request(ResourcesSpec(cpus=2, gpus=0.5), {AVOID: avoid}) for avoid in ([], ["a", "b"]))
    assert free.bundles == kept.bundles == [held]
    assert free != kept, "a place that has to be elsewhere"
    assert kept == request(ResourcesSpec(cpus=2, gpus=0.5), {AVOID: ["b", "a"]})
