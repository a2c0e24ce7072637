"""Whether studies get on: somebody dispatches, nodes are large enough, and every lease has a holder."""

from collections.abc import Iterator

from sqlalchemy import Float, func, or_, select
from sqlalchemy.orm import Session

from service.doctor import Finding, Site
from service.store import gauges, migrate, nodes
from service.store.database import Database, DatabaseUnavailable
from service.store.states import LIVE, State
from service.store.tables import Event, Group, Study

LATE = 30.0
"""Seconds after which somebody should have claimed a group that is free."""


def checks(site: Site) -> Iterator[Finding]:
    if site.database_url is None:
        return
    database = Database(site.database_url, application="mudman-doctor")
    try:
        with database.begin() as session:
            if migrate.is_current(session):  # otherwise that has been said
                yield dispatcher(session, site.settings.dispatcher_lives)
                yield room(session)
                yield leases(session)
    except DatabaseUnavailable:
        return  # and so has this
    finally:
        database.close()


def dispatcher(session: Session, within: float) -> Finding:
    """``within``: seconds after which one that was not seen counts as gone."""
    read = gauges.read(session, within)
    if read.dispatchers:
        return Finding("dispatcher", True, f"{read.dispatchers}, seen {read.dispatcher_age:.0f} s ago")
    says = "none was ever seen" if read.dispatcher_age is None else f"last seen {read.dispatcher_age:.0f} s ago"
    return Finding("dispatcher", False, says, "start one: python -m workers dispatcher (`mudman up` brings its own)")


def room(session: Session) -> Finding:
    """What unfinished studies ask for against the nodes that are alive and can run trials."""
    there = [node for node, alive in nodes.able(session) if alive]
    cpus, gpus = gauges.held("cpus").label("cpus"), gauges.held("gpus").label("gpus")
    wanted = session.execute(
        select(cpus, gpus, func.count().label("studies")).where(Study.state.in_(LIVE)).group_by(cpus, gpus)
    ).all()
    words = f"{len(there)} alive, {sum(n.cpus for n in there):g} CPUs, {sum(n.gpus for n in there):g} GPUs"
    for ask in wanted:
        if not any(node.cpus >= ask.cpus and node.gpus >= ask.gpus for node in there):
            says = f"{words}: none has the {ask.cpus:g} CPUs and {ask.gpus:g} GPUs that {ask.studies} studies ask for"
            return Finding("nodes", False, says, "start a worker that is large enough, or ask for less")
    if not there and not wanted:
        return Finding("nodes", None, "none that runs trials is alive, and no study asks for one")
    return Finding("nodes", True, words)


def leases(session: Session) -> Finding:
    """A group without a place waits its turn, and needs no holder; one that was left says so by its last event."""
    told = select(Event.at).where(Event.study_id == Study.id, Event.sequence == Study.last_event).scalar_subquery()
    left = func.greatest(Group.not_before, func.max(Study.queued_at), func.max(told))
    free_for = func.now() - func.coalesce(Group.expires_at, left)
    seconds = func.extract("epoch", free_for).cast(Float)
    has_place = or_(Group.expires_at.is_not(None), func.coalesce(Group.max_live, 1) > 0)
    query = (
        select(
            Group.id, Group.expires_at, func.bool_or(Study.state != State.QUEUED).label("begun"), seconds.label("late")
        )
        .join(Study, Study.group_id == Group.id)
        .where(Study.state.in_(LIVE), has_place)
        .group_by(Group.id)
        .having(seconds > LATE)
        .order_by(Group.id)
    )
    free = session.execute(query).all()
    expired = [row.id for row in free if row.expires_at is not None]
    holderless = [row.id for row in free if row.expires_at is None and row.begun]
    remedy = "a dispatcher claims them within seconds: see that one runs and what it logs"
    if expired:
        says = f"{len(expired)} expired and nobody claims them: {', '.join(expired[:5])}"
        return Finding("leases", False, says, remedy)
    if holderless:
        says = f"{len(holderless)} groups with running studies have none: {', '.join(holderless[:5])}"
        return Finding("leases", False, says, remedy)
    return Finding("leases", True, "every group that runs has a holder")
