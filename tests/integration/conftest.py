"""A real Postgres for the session, and a freshly migrated database for each test module that asks for one."""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import make_url

from service.app import create_app
from service.store.database import Database
from service.store.migrate import migrate
from service.store.settings import Settings
from workers.embedded.instance import free_port
from workers.embedded.postgres import Postgres

_TEMPLATE = "migrated"


class Server:
    """A private Postgres that tests may stop and start again. It is not durable: nothing outlives the session."""

    def __init__(self, folder: Path):
        # A short path of its own: that of a socket is limited to 107 bytes, and pytest's temporary folders are closed
        # to the user that Postgres runs as under root. Given, so that the address survives a restart.
        self._postgres = Postgres(folder / "data", sockets=folder / "socket", log=folder / "log", durable=False)
        self._numbers = itertools.count(1)

    def start(self) -> None:
        self._postgres.start()
        self._postgres.wait()

    def stop(self) -> None:
        """Open connections are cut, what was committed stays."""
        self._postgres.stop()

    def kill(self) -> None:
        """As by ``kill -9``."""
        self._postgres.process.kill()
        self._postgres.process.wait()

    def url(self, database: str) -> str:
        return make_url(self._postgres.url()).set(database=database).render_as_string(hide_password=False)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def create(self, template: str = _TEMPLATE) -> str:
        """A new database; returns its URL. ``template``: ``migrated``, or ``template1`` for an empty one."""
        name = f"test_{next(self._numbers)}"
        self.execute(f'create database "{name}" template "{template}"')
        return self.url(name)


def _quick_place() -> str:
    """Memory, where there is enough of it: a database is 300 files, and on a busy disk each copy takes a second."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK):
        about = os.statvfs(memory)
        if about.f_bavail * about.f_frsize > 2 * 2**30 and not about.f_flag & os.ST_NOEXEC:
            return str(memory)
    return "/tmp"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="mm-", dir=_quick_place()) as folder:
        Path(folder).chmod(0o711)
        server = Server(Path(folder))
        server.start()
        try:
            server.execute(f"create database {_TEMPLATE}")
            migrate(server.url(_TEMPLATE))
            yield server
        finally:
            server.stop()


@contextmanager
def _databases(postgres: Server) -> Iterator[Callable[..., Database]]:
    made: list[Database] = []

    def make(**options) -> Database:
        made.append(Database(postgres.create(), **options))
        return made[-1]

    yield make
    for database in made:
        database.close()


@pytest.fixture
def new_database(postgres: Server) -> Iterator[Callable[..., Database]]:
    """Makes freshly migrated databases; all are closed at the end of the test."""
    with _databases(postgres) as make:
        yield make


@pytest.fixture(scope="module")
def new_module_database(postgres: Server) -> Iterator[Callable[..., Database]]:
    """As ``new_database``, for tests that share one; all are closed at the end of the module."""
    with _databases(postgres) as make:
        yield make


@pytest.fixture(scope="module")
def database(new_module_database: Callable[..., Database]) -> Database:
    """Freshly migrated, shared by the tests of one module."""
    return new_module_database()


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder below which specs may name folders."""
    return tmp_path_factory.mktemp("data_root")


@pytest.fixture(scope="module")
def api(database: Database, data_root: Path) -> Iterator[TestClient]:
    """The API over the module's database. Server errors come back as answers, as over the network."""
    app = create_app(Settings(database_url=database.url, data_root=data_root))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """Address of an empty bucket of a server that speaks S3; the variables that lead there are set for the session."""
    address = f"http://127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    variables = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in variables}
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert httpx.put(f"{address}/kept", trust_env=False).status_code == 200
                break
            except httpx.TransportError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        os.environ.update(variables)
        yield "s3://kept/below/this"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
