"""The runner's side of preparing: from ``queued`` to ``running``, or to ``failed`` with the reason."""

import logging
import time
from typing import Any

import ray

from mudman.faults import SpecError
from service.store import leases, studies
from service.store.database import Database, DatabaseUnavailable
from service.store.leases import Lease
from service.store.states import RefusedTransition, State
from service.store.tables import Study
from workers import cluster, problems
from workers.desk import Desk
from workers.prepare import prepare_study
from workers.study import StudyInHand

log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks whether the study was cancelled."""


def prepare(database: Database, lease: Lease, desk: Desk, study: StudyInHand, grace: float) -> bool:
    """Bring the study to ``running``; False if it ended, or the runner is to end, instead.

    ``grace``: seconds to wait for a node that is large enough.
    Raises ``ray.exceptions.RayError`` if the worker died of it: the next runner tries again.
    """
    if study.state is State.RUNNING:
        return True
    try:
        if study.state is State.QUEUED:
            _change(database, lease, study.id, State.PREPARING, "preparing")
        misfit = _await_room(database, desk, study, grace)
        answer = {"spec_error": misfit} if misfit else _ask_ray(database, desk, study)
        return answer is not None and _conclude(database, lease, study, answer)
    except RefusedTransition as refusal:
        log.info("%s", refusal)  # cancelled in the meantime
        return False


def _await_room(database: Database, desk: Desk, study: StudyInHand, grace: float) -> SpecError | None:
    """Why no node can hold a trial, if that is so even after ``grace`` seconds: clusters start, and grow."""
    deadline = time.monotonic() + grace
    while misfit := cluster.misfit(study.spec.resources):
        if time.monotonic() >= deadline:
            return misfit
        if not _wanted(database, desk, study):
            break
        time.sleep(POLL)
    return None


def _wanted(database: Database, desk: Desk, study: StudyInHand) -> bool:
    """Whether the study is still to be prepared: not cancelled, and the runner not asked to end."""
    try:
        with database.begin() as session:
            state = studies.get(session, study.id).state
    except DatabaseUnavailable as error:
        log.warning("%s", error)  # nobody can have cancelled it
        state = State.PREPARING
    return state == State.PREPARING and not desk.halted


def _ask_ray(database: Database, desk: Desk, study: StudyInHand) -> dict[str, Any] | None:
    """None if the study was cancelled, or the runner is to end, before the answer came."""
    resources = study.spec.resources
    # One call per process, so that it gives the GPU's memory back (Ray's default, which ``options`` forgets).
    task = ray.remote(max_calls=1)(prepare_study).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0, name=f"prepare {study.id}"
    )
    reference = task.remote(study.spec.model_dump_json())
    while _wanted(database, desk, study):
        done, _ = ray.wait([reference], timeout=POLL)
        if done:
            return ray.get(reference)
    ray.cancel(reference, force=True)
    return None


def _conclude(database: Database, lease: Lease, study: StudyInHand, answer: dict[str, Any]) -> bool:
    if "preparation" in answer:
        with database.begin() as session:
            leases.guard(session, lease)
            session.get_one(Study, study.id).preparation = answer["preparation"]
            studies.change_state(session, study.id, State.RUNNING, event="running")
        study.pin(answer["preparation"])
        return True
    problem = problems.unfit_spec(answer["spec_error"]) if "spec_error" in answer else None
    problem = problem or problems.preparation_failed(answer["fault"])
    _change(database, lease, study.id, State.FAILED, "failed", problem)
    return False


def _change(
    database: Database, lease: Lease, study_id: str, state: State, event: str, problem: dict | None = None
) -> None:
    log.info("study %s: %s%s", study_id, state, f": {problem['detail']}" if problem else "")
    with database.begin() as session:
        leases.guard(session, lease)
        data = {"reason": problem["detail"]} if problem else None
        studies.change_state(session, study_id, state, event=event, data=data, problem=problem)
