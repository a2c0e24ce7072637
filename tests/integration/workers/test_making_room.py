"""Dispatchers keep so many runners and no more: who makes room for whom, and who takes what is left. No Ray here."""

import math
import signal
import subprocess
import sys
import time

from sqlalchemy import func, text, update
from test_dispatcher import patient, submit

from service.store import leases, nodes, studies
from service.store.leases import Claim
from service.store.states import Action
from service.store.tables import Group, Study
from workers import dispatcher as dispatcher_module
from workers.dispatcher import Dispatcher


def standing_in(code: str) -> subprocess.Popen:
    """A process in place of a runner's."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def next_claim(dispatcher: Dispatcher, obedient: subprocess.Popen) -> Claim:
    """What the dispatcher claims once the one process has made room."""
    assert obedient.wait(20) == 0
    obedient.stdout.close()
    dispatcher.turn()
    [(claim, runner)] = dispatcher.runners
    runner.kill()
    runner.wait()
    return claim


def test_a_full_dispatcher_makes_room_for_a_group_whose_lease_has_expired(dispatcher, make_spec, monkeypatch):
    monkeypatch.setattr(dispatcher_module, "MOST_RUNNERS", 1)
    submit(dispatcher, make_spec(name="idle"))
    process = standing_in(OBEDIENT)
    idle = dispatcher._claim()
    dispatcher.runners.append((idle, process))
    submit(dispatcher, make_spec(name="orphan"))
    with dispatcher.database.begin() as session:
        orphan = leases.claim(session, "another, dead now", 60)
        session.execute(update(Group).where(Group.id == idle.group_id).values(max_live=0))
        expired = {"expires_at": func.now() - text("interval '1 second'"), "max_live": 1}
        session.execute(update(Group).where(Group.id == orphan.group_id).values(expired))
    monkeypatch.setattr(dispatcher, "_plan", lambda: None)  # shares stay as they are
    dispatcher.turn()
    assert process.poll() is None, "its holder may yet renew"
    patient(dispatcher)
    dispatcher.turn()
    claim = next_claim(dispatcher, process)
    assert (claim.group_id, claim.epoch) == (orphan.group_id, 2)


def test_dispatchers_that_live_share_the_queue(dispatcher, make_spec, monkeypatch):
    """As many groups each as they keep runners for; what one lets go, whoever has room claims."""
    monkeypatch.setattr(dispatcher_module, "MOST_RUNNERS", 1)
    other = Dispatcher(dispatcher.settings, dispatcher.database, "two", dispatcher.environment)
    both = [dispatcher, other]
    for name in ("a", "b", "c"):
        submit(dispatcher, make_spec(name=name))
    for one in both:
        monkeypatch.setattr(one, "_plan", lambda: None)
        one.swept = math.inf
        one.turn()
    held = {one.id: one.runners[0][0].study_ids for one in both}
    assert len({*map(tuple, held.values())}) == 2
    [(claim, process)] = other.runners
    process.terminate()
    process.wait(30)
    with dispatcher.database.begin() as session:
        for study_id in claim.study_ids:
            studies.change_state(session, study_id, Action.CANCEL)
    for one in both:
        one.turn()
    assert dispatcher.runners[0][0].study_ids == held[dispatcher.id]
    assert other.runners[0][0].study_ids not in held.values()
    for one in both:
        for _, process in one.runners:
            process.kill()
            process.wait()


DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
"""A process that does not end when it is asked to."""
OBEDIENT = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); print(flush=True); signal.pause()"
"""A process that ends well when it is asked to, as a runner does."""


def test_a_runner_that_waits_makes_room_where_another_group_needs_the_process(dispatcher, make_spec, monkeypatch):
    monkeypatch.setattr(dispatcher_module, "MOST_RUNNERS", 1)
    patient = submit(dispatcher, make_spec(name="patient"))
    with dispatcher.database.begin() as session:
        nodes.observe(session, [nodes.Seen("n", "10.0.0.1", "host", 1, 0, 2**30, {})])
    process = standing_in(OBEDIENT)
    dispatcher.runners.append((dispatcher._claim(), process))
    dispatcher.turn()
    assert process.poll() is None
    urgent = submit(dispatcher, make_spec(name="urgent").model_copy(update={"priority": 1}))
    dispatcher.turn()
    claim = next_claim(dispatcher, process)
    assert claim.study_ids == [urgent]
    with dispatcher.database.begin() as session:
        group = session.get_one(Group, session.get_one(Study, patient).group_id)
        assert (group.failures, group.expires_at, group.max_live) == (0, None, 0)


def test_a_runner_that_does_not_make_room_is_killed_and_holds_up_nobody(dispatcher, make_spec, monkeypatch):
    monkeypatch.setattr(dispatcher_module, "MOST_RUNNERS", 2)
    monkeypatch.setattr(dispatcher_module, "PATIENCE", 0.3)
    waiting = [submit(dispatcher, make_spec(name=name)) for name in ("deaf", "obedient")]
    processes = deaf, obedient = standing_in(DEAF), standing_in(OBEDIENT)
    try:
        for process in processes:
            dispatcher.runners.append((dispatcher._claim(), process))
        submit(dispatcher, make_spec(name="urgent"))
        with dispatcher.database.begin() as session:
            held = Group.id.in_([claim.group_id for claim, _ in dispatcher.runners])
            session.execute(update(Group).where(held).values(max_live=0))
        monkeypatch.setattr(dispatcher, "_plan", lambda: None)  # shares stay as they are
        dispatcher.turn()
        assert [process.poll() for process in processes] == [None, None], "one is asked, and given time"
        time.sleep(0.35)
        dispatcher.turn()
        assert deaf.wait(10) == -signal.SIGKILL
        assert obedient.wait(10) == 0, "the next one is asked"
        dispatcher.turn()
        [(_, urgent)] = dispatcher.runners
        urgent.kill()
        urgent.wait()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    with dispatcher.database.begin() as session:
        for study_id in waiting:
            group = session.get_one(Group, session.get_one(Study, study_id).group_id)
            assert (group.failures, group.expires_at, group.not_before) == (0, None, None), "asked to end: no failure"
