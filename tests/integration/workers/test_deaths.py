"""Deaths and illnesses of what the engine stands on: the disk, the clock, the API, dispatchers in turn.

Trial processes, runners and Postgres: ``test_kill``; nodes and the head of Ray: ``test_nodes``, ``test_machines``.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from clocks import Clock
from sqlalchemy import func, select
from test_kill import assert_undisturbed, kinds, small

from service.client import Client
from service.store.database import Database, DatabaseUnavailable
from service.store.migrate import migrate
from service.store.tables import Group
from workers.embedded import postgres as postgres_module
from workers.embedded.instance import free_port
from workers.embedded.postgres import CLEAN_ENVIRONMENT, Postgres


def test_a_dispatcher_and_its_runner_an_hour_ahead(site, tmp_path):
    """Leases are by the database's clock: nobody takes them over early, none lasts longer, times stay true."""
    clock = Clock(tmp_path)
    clock.set(3600)
    study_id = small(site, "ahead")
    right = site.environment
    site.environment = right | clock.environment
    ahead = site.dispatch()
    site.until("a trial runs", lambda: site.worker_of(study_id))
    site.environment = right
    site.dispatch()  # one with the right clock, which must leave the lease alone
    site.until("two trials have ended", lambda: site.finished(study_id) >= 2)
    with site.database.begin() as session:
        remaining = session.scalar(
            select(func.extract("epoch", Group.expires_at - func.now())).where(Group.id == site.group(study_id).id)
        )
        moments = [row.finished_at for row in site.trials(study_id) if row.finished_at]
        now = session.scalar(select(func.now()))
    assert remaining <= 5, "the lease lasts as long as asked, by the database's clock"
    assert all(moment <= now for moment in moments)
    assert kinds(site, study_id, "claimed", "lease_lost") == ["claimed"]
    ahead.kill()
    os.kill(site.runner_of(study_id), signal.SIGKILL)
    site.until_state(study_id, "completed")
    assert_undisturbed(site, study_id)
    assert kinds(site, study_id, "claimed", "lease_lost") == ["claimed", "lease_lost", "claimed"]


def test_dispatchers_replaced_one_after_the_other(site):
    """A rolling restart: whoever is asked to end gives its leases back, and the next one goes on at once."""
    study_id = small(site, "rolling")
    first = site.dispatch()
    site.until("a trial has ended", lambda: site.finished(study_id) >= 1)
    site.dispatch()
    site.until("a trial runs", lambda: site.worker_of(study_id))
    first.terminate()
    assert first.wait(20) == 0
    site.until("the next has it", lambda: site.group(study_id).epoch == 2, 5)
    site.until_state(study_id, "completed")
    assert_undisturbed(site, study_id)
    assert kinds(site, study_id, "lease_lost") == []
    outcomes = [row.outcome for row in site.trials(study_id)]
    assert outcomes.count("cancelled") == 1, outcomes
    assert set(outcomes) <= {"valid", "over_retain_budget", "diverged", "cancelled"}


def test_the_api_dies_and_comes_back(site):
    """It keeps nothing: studies go on without it, and a request that was cut off is made once more."""
    study_id = small(site, "goes on")
    site.dispatch()
    api, url = _serve(site)
    spec = site.spec(study_id).model_dump(mode="json", exclude_unset=True) | {"name": "asked twice"}
    with Client(url) as client:
        posted = client.submit(spec)
    api.kill()
    api.wait()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")
    ended = site.finished(study_id)
    site.until("another trial has ended", lambda: site.finished(study_id) > ended)
    api, url = _serve(site)
    with Client(url) as client:
        assert client.submit(spec)["id"] == posted["id"]
        client.cancel(posted["id"])
    api.terminate()  # as a rolling restart does
    assert api.wait(20) == -signal.SIGTERM, "the server raises it again once it has shut down"
    api, url = _serve(site)
    with Client(url) as client:
        site.until_state(study_id, "completed")
        assert client.best(study_id)["value"] == max(row.value or 0 for row in site.trials(study_id))
    assert_undisturbed(site, study_id)


def _serve(site) -> tuple[subprocess.Popen, str]:
    """The API as a process of its own."""
    port = free_port()
    command = ["uvicorn", "--factory", "service.app:create_app", "--port", str(port), "--log-level", "warning"]
    api = subprocess.Popen([sys.executable, "-m", *command], env=site.environment, start_new_session=True)
    site.started.append(api)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/healthz").status_code == 200
        except httpx.ConnectError:
            return False

    site.until("the API answers", answers, 60)
    return api, url


@pytest.fixture
def folder() -> Iterator[Path]:
    """That any user may pass through: root's Postgres runs as ``nobody``."""
    one = Path(tempfile.mkdtemp(prefix="mm-", dir="/tmp"))
    one.chmod(0o755)
    yield one
    shutil.rmtree(one, ignore_errors=True)


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 120 MB: room for a database, its journal, and not much more. A fresh cluster of Postgres 18
    alone takes 41 MB, 42 MB with our schema: none fits into 20 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m,mode=711", "tmpfs", folder]).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def served_by(site, server: Postgres) -> Iterator[None]:
    """The site over a Postgres of its own."""
    server.start()
    server.wait()
    url = server.url()
    migrate(url)
    site.database, before = Database(url), site.database
    (site.folder / "url").write_text(url)
    try:
        yield
    finally:
        site.end()
        site.database.close()
        site.database = before
        server.stop()


def test_a_full_disk_only_delays(site, small_disk):
    """Results wait in the runner until there is room again, also where Postgres itself has died of it meanwhile."""
    server = Postgres(small_disk / "data", sockets=small_disk / "socket", log=small_disk / "log")
    with served_by(site, server):
        study_id = small(site, "no room")
        site.dispatch()
        site.until("a trial has ended", lambda: site.finished(study_id) >= 1)
        # Without a buffer: one that could not be written would be tried again as the file is closed.
        with (small_disk / "ballast").open("wb", 0) as ballast, pytest.raises(OSError, match="No space left"):
            while True:
                ballast.write(b"x" * 2**16)
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "more").write_bytes(b"x" * 2**20)
        site.until("the runner says so", lambda: "result(s) wait" in site.log() or "cannot be" in site.log(), 60)
        time.sleep(3)
        (small_disk / "ballast").unlink()
        (small_disk / "more").unlink()
        if not _accepts(site.database):
            server.stop()
            server.start()
            server.wait()
        site.until_state(study_id, "completed")
        assert_undisturbed(site, study_id)


@pytest.mark.long
def test_the_clock_of_the_database_is_set(site, folder, monkeypatch):
    """An hour ahead, and right again: no holder that renews loses its lease, and one that is dead does not keep it."""
    clock = Clock(folder)
    monkeypatch.setattr(postgres_module, "CLEAN_ENVIRONMENT", CLEAN_ENVIRONMENT | clock.environment)
    server = Postgres(folder / "postgres", sockets=folder / "socket", log=folder / "log", durable=False)
    with served_by(site, server):
        study_id = small(site, "timeless")
        site.dispatch()
        site.dispatch()
        site.until("a trial has ended", lambda: site.finished(study_id) >= 1)
        clock.set(3600)
        site.until("three trials have ended", lambda: site.finished(study_id) >= 3)
        assert kinds(site, study_id, "claimed", "lease_lost") == ["claimed"]
        runner = site.runner_of(study_id)
        for process in site.started:
            process.kill()
        os.kill(runner, signal.SIGKILL)  # nobody reaps it: its lease lasts an hour once the clock is right
        clock.set(0)
        site.dispatch()
        site.until_state(study_id, "completed")
        assert_undisturbed(site, study_id)
        assert kinds(site, study_id, "claimed", "lease_lost") == ["claimed", "lease_lost", "claimed"]


def _accepts(database: Database) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with database.begin() as session:
                session.execute(select(1))
            return True
        except DatabaseUnavailable:
            time.sleep(0.5)
    return False
