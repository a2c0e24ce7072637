"""What Tune asks of Ray's actors, where its own manager of them would end the whole run, or wait for ever."""

import time
from typing import Any

import ray
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from workers.causes import KilledForMemory, Lost, NotStarted


class PatientActors(RayActorManager):
    """Any error of Ray's is the end of one actor: that of a process which its memory monitor killed, or of a word that
    was lost with its node, as well as those that Tune knows. A process that does not start is killed."""

    def __init__(self, *arguments: Any, start_seconds: float, **more: Any):
        """``start_seconds``: from when Ray has the room until the process must be up."""
        super().__init__(*arguments, **more)
        self._start_seconds = start_seconds
        self._starting, self._late = {}, set()

    def next(self, timeout=None):
        for tracked_actor, since in list(self._starting.items()):
            if time.monotonic() - since > self._start_seconds:
                del self._starting[tracked_actor]
                self._late.add(tracked_actor)
                ray.kill(self._live_actors_to_ray_actors_resources[tracked_actor][0])
        return super().next(timeout)

    def _try_start_actors(self, max_actors=None):
        before = set(self._live_actors_to_ray_actors_resources)
        started = super()._try_start_actors(max_actors)
        for tracked_actor in self._live_actors_to_ray_actors_resources.keys() - before:
            self._starting[tracked_actor] = time.monotonic()
        return started

    def _actor_start_resolved(self, tracked_actor, future):
        self._starting.pop(tracked_actor, None)
        super()._actor_start_resolved(tracked_actor, future)

    def _cleanup_actor(self, tracked_actor):
        """However it ended: Tune also gives up places while they start."""
        self._starting.pop(tracked_actor, None)
        super()._cleanup_actor(tracked_actor)

    def _actor_start_failed(self, tracked_actor, exception):
        if tracked_actor in self._late:
            exception = NotStarted.within(self._start_seconds)
        super()._actor_start_failed(tracked_actor, exception)

    def _actor_task_failed(self, tracked_actor_task, exception):
        if isinstance(exception, OutOfMemoryError):
            exception = KilledForMemory.of(exception)
        elif not isinstance(exception, RayActorError | RayTaskError):
            exception = Lost.of(exception)
        super()._actor_task_failed(tracked_actor_task, exception)
