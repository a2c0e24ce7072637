"""A dispatcher: shares the cluster out, claims groups that have a place, keeps a runner for each. Knows Postgres only.

``python -m workers dispatcher``. Ray ends its driver's process when the head dies, so there is none in here. Runners
have sessions of their own: when a dispatcher is killed they go on, and leases decide who may claim their groups.
"""

import argparse
import logging
import math
import os
import platform
import secrets
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from mudman import logs
from service.store import events, leases, retention, studies
from service.store.database import Database, DatabaseUnavailable
from service.store.leases import Claim
from service.store.settings import Settings
from service.store.states import FINISHED, Action, RefusedTransition, State
from service.store.tables import Event, Study
from workers import lifeline, planner, problems
from workers.database_url import handed_over
from workers.exits import LEASE_LOST, NO_RAY, RAY_ENDED
from workers.patience import Patience
from workers.reservations import Reservations
from workers.watcher import Watcher

log = logging.getLogger(__name__)

START_UP = 30.0
"""Seconds beyond the lease's expiry that a new runner has until its first renewal: imports, on a busy machine."""
MOST_RUNNERS = 16
"""Runners that one dispatcher keeps at a time; each takes some 300 MB."""
MOST_FAILURES = 5
"""Runners in a row that may end without finishing a trial."""
SWEEP = 3600.0
"""Seconds between two looks for what is too old to keep."""
LONGEST_PAUSE = 60.0
"""Seconds until a group whose runner failed is claimed again, at most; the first time one second."""
PATIENCE = 12.0
"""Seconds that runners have to end when the dispatcher is asked to: a trial may take ten to obey."""


@dataclass
class Dispatcher:
    settings: Settings
    database: Database
    id: str
    environment: dict[str, str]
    """Of the runners: names the file that holds the database URL, never the URL."""
    runners: list[tuple[Claim, subprocess.Popen]] = field(default_factory=list)
    asked: dict[int, float] = field(default_factory=dict)
    """Process ids of runners that were asked to make room, with when (monotonic seconds)."""
    watcher: Watcher | None = None
    reservations: Reservations = field(default_factory=Reservations)
    swept: float = -math.inf
    """When old logs, events and keys were dropped last (monotonic seconds)."""
    sweeping: threading.Thread | None = None
    patience: Patience = field(init=False)

    def __post_init__(self) -> None:
        self.patience = Patience(self.settings.lease_renewal, self.settings.lease_expiry, time.monotonic())

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set; then every runner is asked to end and waited for."""
        log.info("dispatcher %s looks for work", self.id)
        while not stop.is_set():
            try:
                self.turn()
            except DatabaseUnavailable as error:
                log.warning("%s", error)
                self.patience.away(time.monotonic())
            stop.wait(self.settings.dispatcher_poll)
        self.end_runners()

    def turn(self) -> None:
        """Say that we live, see to runners that ended, share out, claim what is free and has a place."""
        asked = time.monotonic()
        with self.database.begin() as session:
            now = leases.seen(session, self.id, platform.node(), os.getpid())
        self.patience.look(now, asked, time.monotonic())
        for claim, process in list(self.runners):
            if process.poll() is not None:
                self._ended(claim, 0 if process.pid in self.asked else process.returncode)
                self.asked.pop(process.pid, None)
                self.runners.remove((claim, process))
            elif time.monotonic() - self.asked.get(process.pid, math.inf) > PATIENCE:
                log.warning("the runner of group %s does not end: killed", claim.group_id, extra=claim.log_fields)
                process.kill()
        if self.watcher:
            self.watcher.keep()
        self._plan()
        if len(self.runners) >= MOST_RUNNERS:
            self._retire()
        while len(self.runners) < MOST_RUNNERS and (claim := self._claim()):
            if claim.failures >= MOST_FAILURES:
                self._give_up(claim)
            else:
                self.runners.append((claim, self._spawn(claim)))

        if time.monotonic() - self.swept > SWEEP and not (self.sweeping and self.sweeping.is_alive()):
            self.swept = time.monotonic()
            # In a thread: an artifact store that does not answer holds up no claim.
            self.sweeping = threading.Thread(target=self._sweep, name="sweep", daemon=True)
            self.sweeping.start()

    def _sweep(self) -> None:
        try:
            log.info("dropped what was old: %s", retention.drop_old(self.database, self.settings))
        except DatabaseUnavailable as error:
            log.warning("what is old stays for now: %s", error)

    def _plan(self) -> None:
        try:
            with self.database.begin() as session:
                planner.plan(session, self.settings, MOST_RUNNERS, self.reservations)
        except DatabaseUnavailable as error:
            log.warning("shares stay as they are: %s", error)  # a database that is away says so to the next statement

    def _retire(self) -> None:
        """A runner keeps its process while its group waits, for it may have a place again soon, or rests; but not where
        another group needs the process. They make room one at a time; one that does not even end when killed holds up
        none."""
        now = time.monotonic()
        if any(now - asked <= PATIENCE for asked in self.asked.values()):
            return
        with self.database.begin() as session:
            if not leases.claimable(session, self._expiry, take_over=self._may_judge):
                return
            idle = leases.without_place(session, [claim.group_id for claim, _ in self.runners])
        for claim, process in self.runners:
            if claim.group_id in idle and process.pid not in self.asked:
                log.info("group %s waits: its runner makes room", claim.group_id, extra=claim.log_fields)
                process.terminate()
                self.asked[process.pid] = now
                return

    def end_runners(self) -> None:
        """Ended on request is no failure, also where a runner had to be killed: its lease is given back for it."""
        for _, process in self.runners:
            process.terminate()
        deadline = time.monotonic() + PATIENCE
        for claim, process in self.runners:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("the runner of group %s does not end: killed", claim.group_id, extra=claim.log_fields)
                process.kill()
                process.wait()
        if self.watcher:
            self.watcher.end()
        try:
            with self.database.begin() as session:
                for claim, _ in self.runners:
                    leases.release(session, claim.group_id, claim.epoch)
        except DatabaseUnavailable as error:
            log.warning("%s Leases that were not given back expire.", error)

    @property
    def _expiry(self) -> float:
        return self.settings.lease_expiry + START_UP

    @property
    def _may_judge(self) -> bool:
        return self.patience.over(time.monotonic())

    def _claim(self) -> Claim | None:
        with self.database.begin() as session:
            claim = leases.claim(session, self.id, self._expiry, take_over=self._may_judge)
        if claim and claim.expired:
            log.warning("group %s: its lease had expired", claim.group_id, extra=claim.log_fields)
        return claim

    def _spawn(self, claim: Claim) -> subprocess.Popen:
        command = [sys.executable, "-m", "workers", "runner", "--group", claim.group_id, "--epoch", str(claim.epoch)]
        process = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=lifeline.inherited(),
        )
        log.info("group %s epoch %d: runner %d", claim.group_id, claim.epoch, process.pid, extra=claim.log_fields)
        return process

    def _ended(self, claim: Claim, status: int) -> None:
        """A runner that ended by itself has given the lease back; any other one has not, so it is done here."""
        failed = status not in (0, RAY_ENDED, LEASE_LOST, NO_RAY)
        reason = _reason(status)
        level = logging.WARNING if status else logging.INFO
        log.log(level, "group %s: runner %s", claim.group_id, reason, extra=claim.log_fields)
        pause = min(LONGEST_PAUSE, 2.0**claim.failures)
        with self.database.begin() as session:
            held = leases.release(
                session, claim.group_id, claim.epoch, retry_after=pause if status else None, failed=failed
            )
            if held and (failed or status == RAY_ENDED):
                for study in _unfinished(session, claim.group_id):
                    events.append(session, study.id, "lease_lost", {"reason": f"runner {reason}", "epoch": claim.epoch})

    def _give_up(self, claim: Claim) -> None:
        """One runner after another failed: the studies fail, with the reason that the last one left."""
        with self.database.begin() as session:
            leases.forget_failures(session, claim.group_id, claim.epoch)
            for study in _unfinished(session, claim.group_id):
                problem = problems.runners_failed(claim.failures, _last_reason(session, study.id))
                try:
                    _fail(session, study, problem)
                except RefusedTransition as refusal:
                    log.info("%s", refusal)  # cancelled in the meantime
                else:
                    log.error(
                        "study %s: %s", study.id, problem["detail"], extra={"study_id": study.id} | claim.log_fields
                    )
            leases.release(session, claim.group_id, claim.epoch)


def _fail(session: Session, study: Study, problem: dict[str, Any]) -> None:
    if study.state == State.QUEUED:
        studies.change_state(session, study.id, Action.PREPARE)
    data = {"reason": problem["detail"]}
    studies.change_state(session, study.id, Action.FAIL, data=data, problem=problem)


def _unfinished(session: Session, group_id: str) -> list[Study]:
    """In the order in which everybody locks studies."""
    query = select(Study).where(Study.group_id == group_id, Study.state.not_in(FINISHED | {State.PAUSED}))
    return list(session.scalars(query.order_by(Study.id)))


def _last_reason(session: Session, study_id: str) -> str:
    query = (
        select(Event.data["reason"].astext)
        .where(
            Event.study_id == study_id, Event.kind.in_(("runner_failed", "lease_lost")), Event.data.has_key("reason")
        )
        .order_by((Event.kind == "runner_failed").desc(), Event.sequence.desc())
        .limit(1)
    )
    return session.scalars(query).one_or_none() or "its process vanished"


def _reason(status: int) -> str:
    if status < 0:
        return f"was killed by signal {-status} ({signal.Signals(-status).name})"
    if status == RAY_ENDED:
        return "was ended by Ray: the head of the cluster is gone"
    return "ended" if status == 0 else f"ended with exit status {status}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m workers dispatcher", description=__doc__.splitlines()[0])
    parser.add_argument("--id", help="name of this dispatcher; default: host, process and a random part")
    arguments = parser.parse_args(argv)
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format)
    lifeline.watch()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Set from another thread: the handler may run while this one holds the event's own lock.
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    name = arguments.id or f"{platform.node()}-{os.getpid()}-{secrets.token_hex(3)}"
    database = Database(settings.read_database_url(), pool_size=2, application="mudman-dispatcher")
    try:
        environment = handed_over(settings)
        Dispatcher(settings, database, name, environment, watcher=Watcher(environment)).run(stop)
    finally:
        database.close()
    return 0
