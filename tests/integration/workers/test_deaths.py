"""Deaths and illnesses of what the engine stands on: the disk, the clock, the API, dispatchers in turn.

Trial processes, runners and Postgres: ``test_kill``; nodes and the head of Ray: ``test_nodes``, ``test_machines``.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select
from test_kill import assert_undisturbed, kinds, small

from service.client import Client
from service.store.database import Database, DatabaseUnavailable
from service.store.migrate import migrate
from service.store.tables import Group
from workers.embedded.postgres import Postgres

SKEW = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static const time_t HOUR = 3600;
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += HOUR;
    return status;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec, now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"""
"""A C library's clock, an hour ahead."""


def test_a_dispatcher_and_its_runner_an_hour_ahead(site, tmp_path):
    """Leases are by the database's clock: nobody takes them over early, none lasts longer, times stay true."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("no C compiler, which makes the wrong clock")
    (tmp_path / "skew.c").write_text(SKEW)
    library = tmp_path / "skew.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "skew.c"], check=True)
    preload = {"LD_PRELOAD": str(library)}
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"], env=os.environ | preload, capture_output=True
    )
    assert 3500 < float(told.stdout) - time.time() < 3700, "the clock is not wrong"

    study_id = small(site, "ahead")
    right = site.environment
    site.environment = right | preload
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
    first.terminate()
    assert first.wait(20) == 0
    site.until("the next has it", lambda: site.group(study_id).epoch == 2, 5)
    site.until_state(study_id, "completed")
    assert_undisturbed(site, study_id)
    assert kinds(site, study_id, "lease_lost") == []
    assert {row.outcome for row in site.trials(study_id)} <= {"valid", "over_retain_budget", "diverged", "cancelled"}


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
        site.until_state(study_id, "completed")
        assert client.best(study_id)["value"] == max(row.value or 0 for row in site.trials(study_id))
    assert_undisturbed(site, study_id)


def _serve(site) -> tuple[subprocess.Popen, str]:
    """The API as a process of its own."""
    port = _free_port()
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 120 MB: room for a database, its journal, and not much more. A fresh cluster of Postgres 18
    alone takes 41 MB, 42 MB with our schema: none fits into 20 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder = Path(tempfile.mkdtemp(prefix="mm-", dir="/tmp"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m,mode=711", "tmpfs", folder]).returncode:
        folder.rmdir()
        pytest.skip("this machine lets nobody mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()


def test_a_full_disk_only_delays(site, small_disk):
    """Results wait in the runner until there is room again, also where Postgres itself has died of it meanwhile."""
    server = Postgres(small_disk / "data", sockets=small_disk / "socket", log=small_disk / "log")
    server.start()
    server.wait()
    url = server.url()
    migrate(url)
    site.database, before = Database(url), site.database
    (site.folder / "url").write_text(url)
    try:
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
    finally:
        site.end()
        site.database.close()
        site.database = before
        server.stop()


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
