"""One Ray Tune run over what lies on the desk. Tune is the engine of places; its files, loggers and retries are off."""

import functools
import os
import shutil
import tempfile
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

from ray import tune
from ray.tune.execution import tune_controller

from workers import places
from workers.actor import TrialActor
from workers.actors import PatientActors
from workers.book import Book
from workers.desk import Desk
from workers.overseer import Overseer
from workers.places import Places
from workers.searcher import PlaceGenerator, PlaceSearcher, PlaceStopper


def run(group_id: str, desk: Desk, books: dict[str, Book], where: Places, start_seconds: float) -> None:
    """Run trials until the desk is halted, or until all that is left is better begun anew. ``start_seconds``: that a
    trial's process may take to start.

    Must be called from the main thread, in one thread of a process only.
    """
    tune_controller.RayActorManager = functools.partial(PatientActors, start_seconds=start_seconds)
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
