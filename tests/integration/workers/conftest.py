"""A private Ray head for the session, and sites: a fresh database with dispatchers and runners as real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cases import Case
from clusters import Cluster, cluster
from sqlalchemy import func, select

from mudman.specs import StudySpec, parse
from service.store import studies
from service.store.database import Database
from service.store.settings import Settings
from service.store.states import Action
from service.store.tables import Event, Group, Study, Trial
from workers.database_url import handed_over
from workers.dispatcher import Dispatcher

T = TypeVar("T")


@pytest.fixture(scope="session")
def ray_head() -> Iterator[Cluster]:
    """Two cores and two cards. The cards are Ray's word only, for it to hand out: simulated trials touch none."""
    with cluster() as one:
        one.head("--num-gpus", "2")
        yield one


@dataclass
class Site:
    """One database with its dispatchers and runners."""

    database: Database
    environment: dict[str, str]
    folder: Path
    inside: tuple[str, ...] = ()
    """Command that puts its processes into a network namespace."""
    started: list[subprocess.Popen] = field(default_factory=list)

    def submit(self, **changes: Any) -> str:
        with self.database.begin() as session:
            return studies.create(session, simulated(**changes)).study.id

    def start(self, *arguments: str) -> subprocess.Popen:
        """``python -m workers …``, in a session of its own."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*self.inside, sys.executable, "-m", "workers", *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def dispatch(self) -> subprocess.Popen:
        return self.start("dispatcher")

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def spec(self, study_id: str) -> StudySpec:
        with self.database.begin() as session:
            return StudySpec.model_validate(session.get_one(Study, study_id).spec)

    def change_state(self, study_id: str, action: Action) -> None:
        """As the API does it."""
        with self.database.begin() as session:
            studies.change_state(session, study_id, action)

    def state(self, study_id: str) -> str:
        with self.database.begin() as session:
            return session.get_one(Study, study_id).state

    def group(self, study_id: str) -> Group:
        with self.database.begin() as session:
            return session.get_one(Group, session.get_one(Study, study_id).group_id)

    def trials(self, study_id: str) -> list[Trial]:
        with self.database.begin() as session:
            query = select(Trial).where(Trial.study_id == study_id).order_by(Trial.ordinal, Trial.attempt)
            return list(session.scalars(query))

    def events(self, study_id: str) -> list[Event]:
        with self.database.begin() as session:
            query = select(Event).where(Event.study_id == study_id).order_by(Event.sequence)
            return list(session.scalars(query))

    def finished(self, study_id: str) -> int:
        with self.database.begin() as session:
            ended = select(func.count()).where(Trial.study_id == study_id, Trial.outcome.is_not(None))
            return session.scalars(ended).one()

    def runner_of(self, study_id: str) -> int | None:
        """Process id of the runner that works on the study."""
        group = self.group(study_id)
        wanted = f"--group\0{group.id}\0--epoch\0{group.epoch}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if wanted in (entry / "cmdline").read_bytes():
                        return int(entry.name)
                except (FileNotFoundError, ProcessLookupError):
                    continue
        return None

    def worker_of(self, study_id: str) -> int | None:
        """Process id of the trial actor that runs a trial of the study now."""
        return next((t.worker["pid"] for t in self.trials(study_id) if t.outcome is None and t.worker), None)

    def until(self, what: str, question: Callable[[], T], timeout: float = 120) -> T:
        deadline = time.monotonic() + timeout
        while not (answer := question()):
            assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}\n{self.log()}"
            time.sleep(0.05)
        return answer

    def until_state(self, study_id: str, state: str, timeout: float = 120) -> None:
        self.until(f"{study_id} is {state}", lambda: self.state(study_id) == state, timeout)

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.terminate()
        for process in self.started:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # Runners of a dispatcher that a test killed have no parent here that would end them.
        with self.database.begin() as session:
            for study_id in session.scalars(select(Study.id)).all():
                if pid := self.runner_of(study_id):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def site(new_database: Callable[..., Database], ray_head: Cluster, tmp_path: Path) -> Iterator[Site]:
    database = new_database()
    url = tmp_path / "url"
    url.touch(mode=0o600)
    url.write_text(database.url)
    own = {
        "MUDMAN_DATABASE_URL_FILE": str(url),
        "MUDMAN_STATE_DIR": str(tmp_path),
        "MUDMAN_RAY_ADDRESS": ray_head.address,
        "MUDMAN_LEASE_RENEWAL": "0.5",
        "MUDMAN_LEASE_EXPIRY": "5",
        "MUDMAN_DISPATCHER_POLL": "0.2",
        "MUDMAN_RESOURCE_GRACE": "1",
        "MUDMAN_RUNNER_LINGER": "0",  # tests of that say so
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MUDMAN_")}
    site = Site(database, inherited | ray_head.environment | own, tmp_path, ray_head.inside)
    yield site
    site.end()


@pytest.fixture
def dispatcher(new_database, tmp_path, monkeypatch):
    database = new_database()
    monkeypatch.setenv("MUDMAN_DATABASE_URL", database.url)
    monkeypatch.setenv("MUDMAN_STATE_DIR", str(tmp_path))
    settings = Settings()
    one = Dispatcher(settings, database, "one", handed_over(settings))
    yield one
    if one.sweeping:
        one.sweeping.join(30)


@pytest.fixture
def case(new_database, make_spec):
    made = []

    def make(**changes) -> Case:
        made.append(Case(new_database(), make_spec(**changes)))
        return made[-1]

    yield make
    for one in made:
        one.database.close()


@pytest.fixture
def make_spec() -> Callable[..., StudySpec]:
    return simulated


def simulated(
    name: str = "study",
    trials: int = 8,
    seconds: float = 0.0,
    outcome: str = "valid",
    max_concurrent: int = 1,
    startup_trials: int = 4,
    sampler: str = "tpe",
    model: str = "simulated",
    pruner: str | None = None,
    **resources: float,
) -> StudySpec:
    """A study of simulated trials: an ordinary one to everything but the core."""
    return parse(
        {
            "name": name,
            "labels": {"seconds": str(seconds), "outcome": outcome},
            "model": {"id": model},
            "forget": {"corpus": "python-functions"},
            "retain": {"corpus": "wikitext"},
            "method": {
                "type": "mudman",
                "target_modules": ["gate_proj"],
                "unlearning_rate": {"low": 1e-7, "high": 0.3, "log": True},
                "retaining_rate": {"low": 1e-4, "high": 1e-2, "log": True},
                "fork_every": {"low": 6, "high": 42, "int": True},
            },
            "attack": {"rate": 3e-3, "passes": 20},
            "budget": {"unlearn_passes": 50, "trials": trials},
            "constraint": {"retain_loss_increase": 0.05},
            "sampler": {"type": sampler, "seed": 7, "startup_trials": startup_trials},
            "resources": {"max_concurrent": max_concurrent, **resources},
        }
        | ({"pruner": pruner} if pruner else {})
    )
