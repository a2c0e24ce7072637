"""The runner's side of preparing: from ``queued`` to ``running``, or to ``failed`` with the reason."""

import functools
import logging
import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from sqlalchemy import func, select, update

from mudman.faults import SpecError
from mudman.results import Fault
from mudman.specs import ResourcesSpec
from service.store import leases, nodes, studies
from service.store.database import Database, DatabaseUnavailable
from service.store.events import UnknownStudy
from service.store.leases import Lease
from service.store.settings import Settings
from service.store.states import Action, RefusedTransition, State
from service.store.tables import Study
from workers import cluster, problems
from workers.capacity import Node, Resources
from workers.desk import Desk
from workers.outage import outlast
from workers.prepare import prepare_studies
from workers.study import StudyInHand

log = logging.getLogger(__name__)

Of = TypeVar("Of")
_KEPT = {"preparation": None}
"""Answer for a study that was prepared before."""
POLL = 0.5
"""Seconds between two looks whether studies were cancelled."""


def prepare(
    database: Database,
    lease: Lease,
    desk: Desk,
    unfinished: list[StudyInHand],
    settings: Settings,
    *,
    beside_others: bool = False,
) -> list[StudyInHand]:
    """Bring the studies of a group to ``running``, all in one task; answers those that are.

    The others ended instead, each for a reason of its own, or the runner is to end. A study that was prepared before it
    was queued again keeps what was pinned and measured then. Raises ``ray.exceptions.RayError`` if the worker died of a
    group's only study: the next runner tries again. ``beside_others``: which run, so that none is the only one.
    """
    unready = [study for study in unfinished if study.state is not State.RUNNING]
    begun = [study for study in unready if outlast(desk, functools.partial(_begin, database, lease, study))]
    running = [study for study in unfinished if study.state is State.RUNNING]
    if begun:
        misfit = _await_room(database, desk, begun, settings.resource_grace)
        if misfit:
            answers = {study: {"spec_error": misfit} for study in begun}
        else:
            answers = {study: _KEPT for study in begun if study.prepared}
            unprepared = [study for study in begun if not study.prepared]
            limit = settings.preparation_seconds
            ask = functools.partial(_ask_ray, database, lease, desk)
            answers |= _answers(unprepared, lambda studies: ask(studies, limit), beside_others)
        # Measured for minutes, perhaps: an outage does not undo it.
        for study, answer in answers.items():
            if outlast(desk, functools.partial(_conclude, database, lease, study, answer)):
                running.append(study)
    return running


def _begin(database: Database, lease: Lease, study: StudyInHand) -> bool:
    """False if the study was cancelled in the meantime, or was queued anew since it was taken in hand, perhaps with a
    larger budget: that is the next runner's."""
    if study.state is State.PREPARING:
        return True
    with database.begin() as session:
        leases.guard(session, lease)
        row = session.get(Study, study.id, with_for_update={"key_share": True})
        if row is None or row.queued_at != study.queued_at or row.state not in (State.QUEUED, State.PREPARING):
            return False
        if row.state == State.PREPARING:  # done before, and the answer was lost
            return True
        studies.change_state(session, study.id, Action.PREPARE)
    log.info("study %s: %s", study.id, Action.PREPARE, extra={"study_id": study.id})
    return True


def _await_room(database: Database, desk: Desk, group: list[StudyInHand], grace: float) -> SpecError | None:
    """Why no node can hold a trial, if that is so even after ``grace`` seconds: clusters start, and grow. One that is
    remembered is waited for as long as it is."""
    deadline = time.monotonic() + grace
    resources = group[0].spec.resources
    while misfit := cluster.misfit(resources):
        if time.monotonic() >= deadline and not _may_return(database, resources):
            return misfit
        if not _wanted(database, desk, group):
            break
        time.sleep(POLL)
    return None


def _may_return(database: Database, resources: ResourcesSpec) -> bool:
    """Whether a node that is away could hold a trial. Without the database nobody knows."""
    trial = Resources(resources.cpus, resources.gpus)
    try:
        with database.begin() as session:
            known = nodes.known(session)
    except DatabaseUnavailable as error:
        log.warning("%s", error)
        return True
    return any(Node(node.id, node.cpus, node.gpus).could_hold(trial) for node, _ in known)


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


def _answers(
    group: list[Of], ask: Callable[[list[Of]], list[dict[str, Any]]], beside_others: bool = False
) -> dict[Of, dict[str, Any]]:
    """By study; a study is missing where it was cancelled, or the runner is to end. If the worker died, each study is
    asked for alone, so that one that kills it (memory, a driver) ends no other; after one that took too long the rest
    are asked for again."""
    answers: dict[Of, dict[str, Any]] = {}
    left = group
    try:
        while left:
            given = ask(left)
            answers |= zip(left, given, strict=False)
            left = left[len(given) :]
            if not given or "late" not in given[-1]:
                break
        return answers
    except RayError as error:
        if len(group) == 1 and not beside_others:
            raise
        log.warning("the studies of the group are prepared one by one: %s", error)
    for study in left:
        try:
            answers |= zip([study], ask([study]), strict=False)
        except RayError as error:
            answers[study] = {"fault": Fault(type=type(error).__name__, message=str(error))}
    return answers


def _ask_ray(
    database: Database, lease: Lease, desk: Desk, group: list[StudyInHand], limit: float
) -> list[dict[str, Any]]:
    """One answer per study, in their order; fewer if all were cancelled, or the runner is to end, before they came,
    or where one took longer than ``limit`` seconds: that is the last answer then."""
    resources = group[0].spec.resources
    # One call per process, so that it gives the GPU's memory back (Ray's default, which ``options`` forgets).
    task = ray.remote(max_calls=1)(prepare_studies).options(
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
        num_returns="streaming",
        max_retries=0,
        name=f"prepare {group[0].id}",
        label_selector=cluster.away_from(outlast(desk, functools.partial(_to_avoid, database, resources))),
    )
    stream = task.remote([study.spec.model_dump_json() for study in group])

    def hear() -> dict[str, Any] | None:
        done, _ = ray.wait([stream], timeout=POLL)
        return ray.get(next(stream)) if done else None

    def begun(word: dict[str, Any]) -> None:
        _begun(database, lease, [study.id for study in group], word["place"])

    answers = _listen(hear, lambda: _wanted(database, desk, group), len(group), limit, begun)
    if len(answers) < len(group) or "late" in answers[-1]:
        ray.cancel(stream, force=True)
    return answers


def _listen(
    hear: Callable[[], dict[str, Any] | None],
    wanted: Callable[[], bool],
    count: int,
    limit: float,
    begun: Callable[[dict[str, Any]], None] = lambda word: None,
) -> list[dict[str, Any]]:
    """``begun``: called with the first word."""
    said: list[dict[str, Any]] = []
    deadline = math.inf  # until there is a place for it
    while len(said) <= count and wanted():
        if (word := hear()) is not None:
            if not said:
                begun(word)
            said.append(word)
            deadline = time.monotonic() + limit
        elif time.monotonic() >= deadline:
            said.append({"late": limit})
            break
    return said[1:]


def _begun(database: Database, lease: Lease, study_ids: list[str], place: dict[str, Any]) -> None:
    """It has a place, which counts like a trial's. Without the database nobody counts."""
    preparing = update(Study).where(Study.id.in_(study_ids), Study.state == State.PREPARING)
    try:
        with database.begin() as session:
            leases.guard(session, lease)
            place = place | {"since": session.scalar(select(func.now())).isoformat()}
            session.execute(preparing.values(prepared_on=place), execution_options={"synchronize_session": False})
    except DatabaseUnavailable as error:
        log.warning("%s", error)


def _to_avoid(database: Database, resources: ResourcesSpec) -> frozenset[str]:
    """Nodes in quarantine, where there are others for it."""
    with database.begin() as session:
        quarantined = frozenset(nodes.quarantined(session))
    return quarantined if quarantined and cluster.fitting(resources) - quarantined else frozenset()


def _conclude(database: Database, lease: Lease, study: StudyInHand, answer: dict[str, Any]) -> bool:
    """Whether the study runs now."""
    if "preparation" not in answer:
        _change(database, lease, study.id, Action.FAIL, problem=_problem(answer))
        return False
    preparation = answer["preparation"]
    if not _change(database, lease, study.id, Action.RUN, preparation=preparation):
        return False
    if preparation is not None:
        study.pin(preparation)
    return True


def _problem(answer: dict[str, Any]) -> dict[str, Any]:
    if "spec_error" in answer:
        return problems.unfit_spec(answer["spec_error"])
    if "late" in answer:
        return problems.preparation_late(answer["late"])
    return problems.preparation_failed(answer["fault"])


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
