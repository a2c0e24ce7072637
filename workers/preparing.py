"""The runner's side of preparing: from ``queued`` to ``running``, or to ``failed`` with the reason."""

import logging
from typing import Any

import ray

from service.store import leases, studies
from service.store.database import Database
from service.store.leases import Lease
from service.store.states import RefusedTransition, State
from service.store.tables import Study
from workers import problems
from workers.desk import Desk
from workers.prepare import prepare_study
from workers.study import StudyInHand

log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks whether the study was cancelled."""


def prepare(database: Database, lease: Lease, desk: Desk, study: StudyInHand) -> bool:
    """Bring the study to ``running``; False if it ended, or the runner is to end, instead.

    Raises ``ray.exceptions.RayError`` if the worker died of it: the next runner tries again.
    """
    if study.state is State.RUNNING:
        return True
    try:
        if study.state is State.QUEUED:
            _change(database, lease, study.id, State.PREPARING, "preparing")
        answer = _ask_ray(database, desk, study)
        return answer is not None and _conclude(database, lease, study, answer)
    except RefusedTransition as refusal:
        log.info("%s", refusal)  # cancelled in the meantime
        return False


def _ask_ray(database: Database, desk: Desk, study: StudyInHand) -> dict[str, Any] | None:
    """None if the study was cancelled, or the runner is to end, before the answer came."""
    resources = study.spec.resources
    task = ray.remote(prepare_study).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0, name=f"prepare {study.id}"
    )
    reference = task.remote(study.spec.model_dump_json())
    while not desk.halted:
        done, _ = ray.wait([reference], timeout=POLL)
        if done:
            return ray.get(reference)
        with database.begin() as session:
            if studies.get(session, study.id).state != State.PREPARING:
                break
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
