"""What runs where and what waits, for people: a few statements, however many trials there are."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from mudman.specs import ResourcesSpec
from service.store.cluster_tables import OwnerUsage
from service.store.states import LIVE, State
from service.store.tables import Group, Study, Trial

MOST = 1000
"""Trials, and studies that wait, that are listed at most."""


@dataclass(frozen=True)
class Running:
    """A trial that has reached a node."""

    trial: Trial
    study: Study
    resources: ResourcesSpec


def running(session: Session) -> list[Running]:
    """The longest-running first."""
    query = select(Trial, Study).join(Study, Study.id == Trial.study_id)
    query = query.where(Trial.outcome.is_(None), Trial.worker.is_not(None)).order_by(Trial.started_at, Trial.study_id)
    return [
        Running(trial, study, ResourcesSpec.model_validate(study.spec.get("resources", {})))
        for trial, study in session.execute(query.limit(MOST))
    ]


def waiting(session: Session) -> tuple[list[tuple[Study, Group]], int]:
    """Studies that wait for a place, or for more of them, in the order in which they are served; and how many wait."""
    wait = or_(Study.state == State.QUEUED, Group.waiting.is_not(None))
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
