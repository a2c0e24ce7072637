"""What the groups with work could run now, and what they run: the planner's view of the queue."""

import datetime
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Float, func, or_, select
from sqlalchemy.orm import Session

from mudman.results import Outcome
from mudman.specs import ResourcesSpec
from service.store import standing
from service.store.standing import COUNTING
from service.store.states import LIVE, State
from service.store.tables import Group, OutcomeCount, Study, Trial

TURN = 10.0
"""Seconds that studies which take turns at a place keep it at least: each change ends a process and starts another."""


_NOT_COUNTING = tuple(str(outcome) for outcome in Outcome if not outcome.counts)


@dataclass
class Demand:
    """Of one group."""

    group: Group
    owner: str
    resources: ResourcesSpec
    """Of one trial, the same for all studies of the group."""
    pause: float
    """Seconds until it may be claimed again, after a runner that failed; 0 or less: now."""
    trials: int = 0
    """That could run at once if there were room for all."""
    open: int = 0
    """Attempts that were started and have not ended; and one where studies are being prepared."""
    running: list[dict[str, Any]] = field(default_factory=list)
    """Where those of them are that have reached a node."""
    unready: bool = False
    """A study of it has not been prepared yet."""
    turns: list[datetime.datetime] = field(default_factory=list)
    """Of each study at work: when a trial of it reached a node last, a turn ago or longer; before, when it was queued.

    So who has just got a place keeps it for a turn, counted from the moment that its process was there."""


def demands(session: Session, *, lock: bool = False) -> list[Demand]:
    """By group id. ``lock``: until the transaction ends no trial of theirs starts, so that the numbers stay true."""
    at_work = Study.state.in_(LIVE)
    # Trials of a study that was cancelled or paused hold their places until they have ended.
    wanted = or_(at_work, Study.id.in_(select(Trial.study_id).where(Trial.outcome.is_(None))))
    if lock:
        groups = select(Group.id).where(Group.id.in_(select(Study.group_id).where(wanted))).order_by(Group.id)
        session.execute(groups.with_for_update(key_share=True)).all()
    places = func.jsonb_agg(Trial.worker).filter(Trial.worker.is_not(None))
    trials = select(func.count(), places).where(Trial.study_id == Study.id, Trial.outcome.is_(None))
    open_ = trials.subquery().lateral()
    again = select(func.count()).where(
        Trial.study_id == Study.id, Trial.outcome.in_(_NOT_COUNTING), standing.runs_again(), standing.is_last()
    )
    counted = select(func.sum(OutcomeCount.attempts)).where(
        OutcomeCount.study_id == Study.id, OutcomeCount.outcome.in_(COUNTING)
    )
    earlier = Trial.started_at < func.now() - datetime.timedelta(seconds=TURN)
    latest = select(Trial.started_at).where(Trial.study_id == Study.id, Trial.worker.is_not(None), earlier)
    latest = latest.order_by(Trial.ordinal.desc(), Trial.attempt.desc()).limit(1)
    pause = func.extract("epoch", Group.not_before - func.now()).cast(Float)
    query = (
        select(
            Group,
            Study.owner,
            Study.state,
            Study.prepared_on,
            Study.spec["resources"],
            Study.spec["budget"]["trials"].as_integer(),
            func.coalesce(counted.scalar_subquery(), 0),
            again.scalar_subquery(),
            open_.c[0],
            open_.c[1],
            func.coalesce(latest.scalar_subquery(), Study.queued_at),
            func.coalesce(pause, 0.0),
        )
        .join(Study, Study.group_id == Group.id)
        .join(open_, onclause=Study.id.is_not(None))
        .where(wanted)
        .order_by(Group.id, Study.id)
        .execution_options(populate_existing=True)
    )
    found: dict[str, Demand] = {}
    prepared: dict[str, list[dict[str, Any] | None]] = {}
    for row in session.execute(query):
        group, owner, state, prepared_on, resources, budget, counts, retried, started, places, turn, pause_ = row
        resources = ResourcesSpec.model_validate(resources or {})
        demand = found.setdefault(group.id, Demand(group, owner, resources, pause_))
        demand.open += started
        demand.running += places or []
        if state in LIVE:
            demand.turns.append(turn)
            demand.unready = demand.unready or state != State.RUNNING
        if state == State.RUNNING:
            # Trials that are retried may count beyond the budget.
            demand.trials += min(resources.max_concurrent, max(budget - int(counts), started + retried))
        if state == State.PREPARING:
            prepared.setdefault(group.id, []).append(prepared_on)
    for group_id, places in prepared.items():
        # All studies of a group are prepared in one process.
        found[group_id].open += 1
        found[group_id].running += [place for place in places if place][:1]
    for demand in found.values():
        # To prepare takes one place, and a study whose budget is spent needs somebody who says so.
        demand.trials = max(demand.trials, int(bool(demand.turns)))
    return list(found.values())
