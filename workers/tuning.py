"""One Ray Tune run over what lies on the desk. Tune is the engine of places; its files, loggers and retries are off."""

import functools
import os
import shutil
import tempfile
import time
from pathlib import Path

# Read by Ray when it is imported.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output draws a box on standard output whatever the verbosity
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths stay relative to the data root
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # of a node that leaves in order: Tune starts no place again
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the runner's own ends the runner, not this run alone
    "TUNE_MAX_PENDING_TRIALS_PG": "4",  # places that start at once
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # nobody restores Tune's own state
    "TUNE_FORCE_TRIAL_CLEANUP_S": "12",  # an actor that does not end when Tune has asked it to is killed
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

import ray
from ray import tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from ray.tune.execution import tune_controller

from workers import places
from workers.actor import TrialActor
from workers.book import Book
from workers.causes import KilledForMemory, Lost, NotStarted
from workers.desk import Desk
from workers.overseer import Overseer
from workers.places import Places
from workers.searcher import PlaceGenerator, PlaceSearcher, PlaceStopper


class _ActorManager(RayActorManager):
    """Tune knows some of Ray's errors, and would end the whole run at any other one: that of a process which Ray's
    memory monitor killed, or of a word that was lost with its node."""

    def _actor_task_failed(self, tracked_actor_task, exception):
        if isinstance(exception, OutOfMemoryError):
            exception = KilledForMemory.of(exception)
        elif not isinstance(exception, RayActorError | RayTaskError):
            exception = Lost.of(exception)
        super()._actor_task_failed(tracked_actor_task, exception)

    start_seconds = 300.0
    """From when Ray has the room until the process must be up; Ray and Tune would wait for ever."""

    def __init__(self, resource_manager):
        super().__init__(resource_manager)
        self._starting, self._late = {}, set()

    def next(self, timeout=None):
        for tracked_actor, since in list(self._starting.items()):
            if time.monotonic() - since > self.start_seconds:
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

    def _actor_start_failed(self, tracked_actor, exception):
        self._starting.pop(tracked_actor, None)
        if tracked_actor in self._late:
            exception = NotStarted.within(self.start_seconds)
        super()._actor_start_failed(tracked_actor, exception)


tune_controller.RayActorManager = _ActorManager


def run(group_id: str, desk: Desk, books: dict[str, Book], where: Places, start_seconds: float) -> None:
    """Run trials until the desk is halted, or until all that is left is better begun anew. ``start_seconds``: that a
    trial's process may take to start.

    Must be called from the main thread, in one thread of a process only.
    """
    _ActorManager.start_seconds = start_seconds
    overseer = Overseer(desk, where, books)
    prefix = f"mudman-tune-{group_id}-"
    # A runner that was killed could not remove its folder.
    for leftover in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        tune.Tuner(
            tune.with_resources(TrialActor, functools.partial(places.request, where.resources)),
            tune_config=tune.TuneConfig(
                search_alg=PlaceGenerator(PlaceSearcher(desk, overseer, where), overseer),
                num_samples=-1,
                trial_name_creator=lambda trial: f"place_{trial.trial_id}",
                trial_dirname_creator=lambda trial: f"place_{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="group",
                storage_path=folder,
                stop=PlaceStopper(desk, overseer, where),
                callbacks=[overseer],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
