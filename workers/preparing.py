"""The runner's side of preparing: from ``queued`` to ``running``, or to ``failed`` with the reason."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from sqlalchemy import select

from mudman.faults import SpecError
from mudman.results import Fault
from mudman.specs import ResourcesSpec
from service.store import leases, nodes, studies
from service.store.database import Database, DatabaseUnavailable
from service.store.events import UnknownStudy
from service.store.leases import Lease
from service.store.states import Action, RefusedTransition, State
from service.store.tables import Study
from workers import cluster, problems
from workers.desk import Desk
from workers.prepare import prepare_studies
from workers.study import StudyInHand

log = logging.getLogger(__name__)

Of = TypeVar("Of")
_KEPT = {"preparation": None}
"""Answer for a study that was prepared before."""
POLL = 0.5
"""Seconds between two looks whether studies were cancelled."""


def prepare(
    database: Database, lease: Lease, desk: Desk, unfinished: list[StudyInHand], grace: float
) -> list[StudyInHand]:
    """Bring the studies of a group to ``running``, all in one task; answers those that are.

    The others ended instead, each for a reason of its own, or the runner is to end. A study that was prepared before it
    was queued again keeps what was pinned and measured then. ``grace``: seconds to wait for a node that is large
    enough. Raises ``ray.exceptions.RayError`` if the worker died of a group's only study: the next runner tries again.
    """
    begun = [study for study in unfinished if study.state is not State.RUNNING and _begin(database, lease, study)]
    running = [study for study in unfinished if study.state is State.RUNNING]
    if begun:
        misfit = _await_room(database, desk, begun, grace)
        if misfit:
            answers = {study: {"spec_error": misfit} for study in begun}
        else:
            answers = {study: _KEPT for study in begun if study.prepared}
            unprepared = [study for study in begun if not study.prepared]
            answers |= _answers(unprepared, lambda studies: _ask_ray(database, desk, studies)) if unprepared else {}
        running += [study for study, answer in answers.items() if _conclude(database, lease, study, answer)]
    return running


def _begin(database: Database, lease: Lease, study: StudyInHand) -> bool:
    """False if the study was cancelled in the meantime, or was queued anew since it was taken in hand, perhaps with a
    larger budget: that is the next runner's."""
    if study.state is State.PREPARING:
        return True
    with database.begin() as session:
        leases.guard(session, lease)
        row = session.get(Study, study.id, with_for_update={"key_share": True})
        if row is None or row.state != State.QUEUED or row.queued_at != study.queued_at:
            return False
        studies.change_state(session, study.id, Action.PREPARE)
    log.info("study %s: %s", study.id, Action.PREPARE, extra={"study_id": study.id})
    return True


def _await_room(database: Database, desk: Desk, group: list[StudyInHand], grace: float) -> SpecError | None:
    """Why no node can hold a trial, if that is so even after ``grace`` seconds: clusters start, and grow."""
    deadline = time.monotonic() + grace
    while misfit := cluster.misfit(group[0].spec.resources):
        if time.monotonic() >= deadline:
            return misfit
        if not _wanted(database, desk, group):
            break
        time.sleep(POLL)
    return None


def _wanted(database: Database, desk: Desk, group: list[StudyInHand]) -> bool:
    """Whether any of the studies is still to be prepared: not cancelled, and the runner not asked to end."""
    waiting = select(Study.id).where(Study.id.in_([s.id for s in group]), Study.state == State.PREPARING).limit(1)
    try:
        with database.begin() as session:
            any_waits = session.scalar(waiting) is not None
    except DatabaseUnavailable as error:
        log.warning("%s", error)  # nobody can have cancelled them
        any_waits = True
    return any_waits and not desk.halted


def _answers(group: list[Of], ask: Callable[[list[Of]], list[dict[str, Any]]]) -> dict[Of, dict[str, Any]]:
    """By study; a study is missing where it was cancelled, or the runner is to end. If the worker died, each study is
    asked for alone, so that one that kills it (memory, a driver) ends no other."""
    try:
        return dict(zip(group, ask(group), strict=False))
    except RayError as error:
        if len(group) == 1:
            raise
        log.warning("the studies of the group are prepared one by one: %s", error)
    answers = {}
    for study in group:
        try:
            answers |= dict(zip([study], ask([study]), strict=False))
        except RayError as error:
            answers[study] = {"fault": Fault(type=type(error).__name__, message=str(error))}
    return answers


def _ask_ray(database: Database, desk: Desk, group: list[StudyInHand]) -> list[dict[str, Any]]:
    """One answer per study; none if all were cancelled, or the runner is to end, before they came."""
    resources = group[0].spec.resources
    # One call per process, so that it gives the GPU's memory back (Ray's default, which ``options`` forgets).
    task = ray.remote(max_calls=1)(prepare_studies).options(
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
        max_retries=0,
        name=f"prepare {group[0].id}",
        label_selector=cluster.away_from(_to_avoid(database, resources)),
    )
    reference = task.remote([study.spec.model_dump_json() for study in group])
    while _wanted(database, desk, group):
        done, _ = ray.wait([reference], timeout=POLL)
        if done:
            return ray.get(reference)
    ray.cancel(reference, force=True)
    return []


def _to_avoid(database: Database, resources: ResourcesSpec) -> frozenset[str]:
    """Nodes in quarantine, where there are others for it."""
    with database.begin() as session:
        quarantined = frozenset(nodes.quarantined(session))
    return quarantined if quarantined and cluster.fitting(resources) - quarantined else frozenset()


def _conclude(database: Database, lease: Lease, study: StudyInHand, answer: dict[str, Any]) -> bool:
    """Whether the study runs now."""
    if "preparation" not in answer:
        problem = problems.unfit_spec(answer["spec_error"]) if "spec_error" in answer else None
        problem = problem or problems.preparation_failed(answer["fault"])
        _change(database, lease, study.id, Action.FAIL, problem=problem)
        return False
    preparation = answer["preparation"]
    if not _change(database, lease, study.id, Action.RUN, preparation=preparation):
        return False
    if preparation is not None:
        study.pin(preparation)
    return True


def _change(
    database: Database,
    lease: Lease,
    study_id: str,
    action: Action,
    *,
    problem: dict[str, Any] | None = None,
    preparation: dict[str, Any] | None = None,
) -> bool:
    """False if the study was cancelled in the meantime, perhaps deleted too."""
    try:
        with database.begin() as session:
            leases.guard(session, lease)
            data = {"reason": problem["detail"]} if problem else None
            study = studies.change_state(session, study_id, action, data=data, problem=problem)
            if preparation is not None:
                study.preparation = preparation
    except (RefusedTransition, UnknownStudy) as refusal:
        log.info("%s", refusal)
        return False
    reason = f": {problem['detail']}" if problem else ""
    log.info("study %s: %s%s", study_id, action, reason, extra={"study_id": study_id})
    return True
