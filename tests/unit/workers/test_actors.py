"""Errors of Ray's that Tune's own manager does not know: each is the end of one actor, and of nothing else."""

from types import SimpleNamespace

import pytest
import ray
from ray.air.execution._internal import TrackedActor
from ray.exceptions import ActorUnavailableError, ObjectLostError, OutOfDiskError, OutOfMemoryError

from mudman.results import Outcome
from workers.actors import PatientActors
from workers.causes import result_of


def manager_of(start_seconds: float) -> PatientActors:
    resources = SimpleNamespace(free_resources=lambda acquired_resource: None, get_resource_futures=list)
    return PatientActors(resource_manager=resources, start_seconds=start_seconds)


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (OutOfMemoryError("Memory on the node x was low"), Outcome.OUT_OF_MEMORY, "Memory on the node x was low"),
        (ObjectLostError("0" * 56, None, ""), Outcome.LOST, "ObjectLostError"),
        (OutOfDiskError("no disk left"), Outcome.LOST, "OutOfDiskError"),
        (ActorUnavailableError("away for a moment", None), Outcome.LOST, "away for a moment"),
    ],
)
def test_any_error_ends_its_actor_alone(error, outcome, words):
    told, manager = [], manager_of(start_seconds=1)
    actor = TrackedActor("one", on_error=lambda actor, error: told.append(error))
    manager._live_actors_to_ray_actors_resources[actor] = (None, None)
    manager._actor_task_failed(SimpleNamespace(_tracked_actor=actor, _on_error=None), error)
    [said] = told
    result = result_of(said)
    assert result.outcome is outcome
    assert words in result.fault.message
    assert not manager._live_actors_to_ray_actors_resources


def test_what_is_late_is_killed_and_what_was_given_up_meanwhile_is_let_be(monkeypatch):
    killed, manager = [], manager_of(start_seconds=0)
    monkeypatch.setattr(ray, "kill", killed.append)
    late, given_up = TrackedActor("late"), TrackedActor("given up")
    for actor in (late, given_up):
        manager._live_actors_to_ray_actors_resources[actor] = (actor, None)
        manager._starting[actor] = -1.0
    manager._cleanup_actor(given_up)
    manager.next(timeout=0)
    assert killed == [late]
