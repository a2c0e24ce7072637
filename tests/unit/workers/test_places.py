"""Where trials are sent while nodes are in quarantine."""

from types import SimpleNamespace

import pytest
import ray

from mudman.results import Fault, Outcome, TrialResult
from mudman.specs import ResourcesSpec
from workers.book import Attempt
from workers.breaker import STREAK
from workers.desk import Desk
from workers.places import AVOID, Places, request


@pytest.fixture
def nodes(monkeypatch):
    """Ray's nodes: alive, two cores each, by name."""
    alive = ["a", "b"]

    def listed():
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 2.0}} for name in alive]

    monkeypatch.setattr(ray, "nodes", listed)
    return alive


def trial(avoid: list[str], placed: bool = False) -> SimpleNamespace:
    """As much of Tune's trial as is looked at."""
    return SimpleNamespace(
        config={AVOID: avoid}, temporary_state=SimpleNamespace(ray_actor="actor" if placed else None)
    )


def test_trials_keep_away_from_quarantine_while_there_is_another_node(nodes):
    desk = Desk()
    places = Places(desk, ResourcesSpec())
    places.look(0.0, [])
    assert places.avoid == frozenset()
    desk.quarantined = frozenset("a")
    places.look(1.0, [])
    assert places.avoid == {"a"}
    nodes.remove("b")
    places.look(2.0, [])
    assert places.avoid == {"a"}, "the cluster is looked at now and then"
    places.look(10.0, [])
    assert places.avoid == frozenset(), "a node in quarantine is better than none"


def test_a_trial_that_waits_for_a_node_that_is_gone_is_begun_anew_once_nothing_runs(nodes):
    desk = Desk()
    places = Places(desk, ResourcesSpec())
    desk.quarantined = frozenset("a")
    waits = trial(["a"])
    places.look(1.0, [waits])
    assert not places.cornered, "b may have a place for it"
    desk.quarantined = frozenset()
    places.look(2.0, [waits, trial(["a"], placed=True)])
    assert not places.cornered, "what runs is left to end"
    places.look(3.0, [waits])
    assert places.cornered


def test_a_node_is_blamed_by_the_ends_of_trials(nodes):
    desk = Desk()
    places = Places(desk, ResourcesSpec())
    result = TrialResult(outcome=Outcome.ERROR, fault=Fault(type="CudaError", message="no"))
    for ordinal in range(STREAK):
        assert desk.blamed == {}
        places.told("a", Attempt("study", ordinal, 1, {}), result)
        places.told(None, Attempt("study", ordinal, 2, {}), result)
    assert desk.blamed == {"a": "5 trials in a row ended there without counting: 5 error (CudaError)"}


def test_what_is_asked_of_ray():
    held = {"CPU": 2.0, "GPU": 0.5}
    free, kept = (request(ResourcesSpec(cpus=2, gpus=0.5), {AVOID: avoid}) for avoid in ([], ["a", "b"]))
    assert free.bundles == kept.bundles == [held]
    assert free != kept, "an actor is not reused by a trial that has to be elsewhere"
    assert kept == request(ResourcesSpec(cpus=2, gpus=0.5), {AVOID: ["b", "a"]})
