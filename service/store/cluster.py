"""What runs where and what waits, for people: a few statements, however many trials there are."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from mudman.specs import ResourcesSpec
from service.store.cluster_tables import OwnerUsage
from service.store.states import LIVE, State
from service.store.tables import Group, Study, Trial

MOST = 1000
"""Trials, and studies that wait, that are listed at most."""


@dataclass(frozen=True)
class Running:
    """A trial that has reached a node, or a study that is being prepared on one."""

    study: Study
    trial: Trial | None
    worker: dict[str, Any]
    since: datetime.datetime
    resources: ResourcesSpec


def running(session: Session) -> list[Running]:
    """The longest-running first."""
    trials = select(Trial, Study).join(Study, Study.id == Trial.study_id)
    trials = trials.where(Trial.outcome.is_(None), Trial.worker.is_not(None)).order_by(Trial.started_at, Trial.study_id)
    found = [
        Running(study, trial, trial.worker, trial.started_at, _resources(study))
        for trial, study in session.execute(trials.limit(MOST))
    ]
    # The studies of a group are prepared in one process: the first stands for all.
    prepared = select(Study).where(Study.state == State.PREPARING, Study.prepared_on.is_not(None))
    prepared = prepared.distinct(Study.group_id).order_by(Study.group_id, Study.created_at, Study.id)
    for study in session.scalars(prepared.limit(MOST)):
        since = datetime.datetime.fromisoformat(study.prepared_on["since"])
        found.append(Running(study, None, study.prepared_on, since, _resources(study)))
    return sorted(found, key=lambda one: (one.since, one.study.id))


def _resources(study: Study) -> ResourcesSpec:
    return ResourcesSpec.model_validate(study.spec.get("resources", {}))


def waiting(session: Session) -> tuple[list[tuple[Study, Group]], int]:
    """Studies that wait for a place, or for more of them, by priority and time; and how many wait."""
    unplaced = and_(Study.state == State.PREPARING, Study.prepared_on.is_(None))
    wait = or_(Study.state == State.QUEUED, unplaced, Group.waiting.is_not(None))
    query = select(Study, Group).join(Group, Study.group_id == Group.id).where(Study.state.in_(LIVE), wait)
    total = session.scalar(select(func.count()).select_from(query.subquery()))
    order = (Group.priority.desc(), Study.queued_at, Study.id)
    return [(study, group) for study, group in session.execute(query.order_by(*order).limit(MOST))], total


def owners(session: Session) -> Sequence[tuple[OwnerUsage, float]]:
    """Those who had work lately, with the seconds since their use was booked."""
    age = func.extract("epoch", func.now() - OwnerUsage.at)
    return [
        (row, float(seconds)) for row, seconds in session.execute(select(OwnerUsage, age).order_by(OwnerUsage.owner))
    ]
