"""A runner: holds the lease of one group and drives its studies to their end on Ray.

``python -m workers runner --group G --epoch E``, spawned by a dispatcher that has claimed the group. Ends with 0 when
it has given the lease back, and otherwise as ``workers.exits`` says; the dispatcher tries again, and after five
failures in a row the studies fail.
"""

import argparse
import functools
import logging
import signal
import threading
from collections.abc import Callable

from sqlalchemy import select

from mudman import logs
from service.store import events, leases
from service.store.database import Database, DatabaseUnavailable
from service.store.leases import Lease, LeaseLost
from service.store.settings import Settings
from service.store.states import FINISHED, State
from service.store.tables import Study
from workers import lifeline
from workers.desk import Desk
from workers.exits import FAILED, LEASE_LOST, NO_RAY, RayUnavailable
from workers.keeper import LAST_WORDS, LeaseKeeper
from workers.ledger import Ledger
from workers.outage import outlast
from workers.study import StudyInHand

log = logging.getLogger(__name__)

WAIT = 1.0
"""Seconds between two looks for a place, so that signals are heard in between."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m workers runner", description=__doc__.splitlines()[0])
    parser.add_argument("--group", required=True, help="group of studies whose lease the dispatcher has claimed")
    parser.add_argument("--epoch", required=True, type=int, help="epoch of that lease")
    arguments = parser.parse_args(argv)
    settings, lease = Settings(), Lease(arguments.group, arguments.epoch)
    logs.configure(settings.log_level, settings.log_format, group=lease.group_id, epoch=lease.epoch)
    desk = Desk()
    _obey_signals(desk)
    lifeline.watch()
    database = Database(settings.read_database_url(), application="mudman-runner")
    keeper = LeaseKeeper(database, lease, desk, settings.lease_renewal, settings.lease_expiry)
    # Before anything slow: importing Ray alone takes seconds.
    keeper.start()
    try:
        _run(settings, database, lease, desk, keeper)
    except LeaseLost as error:
        log.error("%s", error)
        return LEASE_LOST
    except Exception as error:  # noqa: BLE001 - logged and stored there
        return _failed(database, lease, keeper, error)
    return LEASE_LOST if keeper.lost.is_set() else 0


def _failed(database: Database, lease: Lease, keeper: LeaseKeeper, error: Exception) -> int:
    """Exit status. Whatever else went wrong after the keeper broke, that was the cause."""
    error = keeper.failure or error
    log.error("the runner failed", exc_info=error)
    _say_why(database, lease, error)
    if keeper.lost.is_set() and keeper.failure is None:
        return LEASE_LOST
    return NO_RAY if isinstance(error, RayUnavailable) else FAILED


def _run(settings: Settings, database: Database, lease: Lease, desk: Desk, keeper: LeaseKeeper) -> None:
    study_ids = outlast(desk, functools.partial(_to_take_over, database, lease))
    studies = [outlast(desk, functools.partial(StudyInHand, database, lease, study_id)) for study_id in study_ids]
    unfinished = [study for study in studies if not study.state.finished]
    if not (all(study.state is State.PAUSED for study in unfinished) or desk.halted):
        try:
            _drive(settings, database, lease, desk, keeper, unfinished)
        except RayUnavailable:
            if not desk.halted:  # asked to end while it waited for Ray: no failure
                raise
    if keeper.failure:
        raise keeper.failure  # the dispatcher gives the lease back, and counts
    keeper.give_back()
    log.info("group %s: given back", lease.group_id)


def _to_take_over(database: Database, lease: Lease) -> list[str]:
    with database.begin() as session:
        return leases.to_take_over(session, lease.group_id)


def _drive(
    settings: Settings,
    database: Database,
    lease: Lease,
    desk: Desk,
    keeper: LeaseKeeper,
    unfinished: list[StudyInHand],
) -> None:
    resources = unfinished[0].spec.resources
    if len({(study.spec.resources.cpus, study.spec.resources.gpus) for study in unfinished}) > 1:
        raise ValueError(f"the studies of group {lease.group_id} ask for different resources")
    # Ray is imported now, not at the top, so that the lease is renewed while that goes on.
    from workers import preparing, tuning
    from workers.cluster import attached
    from workers.places import Places

    with attached(settings.ray_address, desk):
        _obey_signals(desk)  # once more: Ray has put a handler of its own in their place
        paused = [study for study in unfinished if study.state is State.PAUSED]
        others = [study for study in unfinished if study not in paused]
        running = preparing.prepare(database, lease, desk, others, settings)
        if not running:
            return
        hands = {study.id: study for study in [*running, *paused]}
        ledger = Ledger(database, lease, desk, hands, lambda: keeper.max_live)
        ledger.start()
        try:
            books, where = {study.id: study.book for study in hands.values()}, Places(desk, resources)
            _again_and_again(desk, lambda: tuning.run(lease.group_id, desk, books, where, settings.start_seconds))
        finally:
            desk.halt()
            ledger.finish(timeout=LAST_WORDS / 2)


def _again_and_again(desk: Desk, run: Callable[[], None]) -> None:
    """Tune ends while the group has no place, and may before the database agrees that all is done."""
    while not desk.halted:
        if desk.wait_for_place(WAIT) and not desk.halted:
            run()
            desk.clear()


def _obey_signals(desk: Desk) -> None:
    """Ending on request is no failure: trials are stopped and recorded, and the lease is given back."""

    def end(number: int) -> None:
        log.info("ended by %s: trials are stopped", signal.Signals(number).name)
        desk.halt()

    for number in (signal.SIGTERM, signal.SIGINT):
        # In another thread: this one may be at the desk, in the middle of taking a trial's result.
        signal.signal(number, lambda number, _: threading.Thread(target=end, args=(number,)).start())


def _say_why(database: Database, lease: Lease, error: Exception) -> None:
    """Leave the reason with the studies, for whoever reads why they do not go on."""
    data = {"reason": f"{type(error).__name__}: {error}"[:2000], "epoch": lease.epoch}
    try:
        with database.begin() as session:
            leases.guard(session, lease)
            query = select(Study.id).where(Study.group_id == lease.group_id, Study.state.not_in(FINISHED))
            for study_id in session.scalars(query.order_by(Study.id)).all():  # all take their locks in this order
                events.append(session, study_id, "runner_failed", data)
    except (DatabaseUnavailable, LeaseLost) as silenced:
        log.warning("the reason could not be stored: %s", silenced)
