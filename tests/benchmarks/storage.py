"""What reads and writes cost with many trials in one study, and with many studies.

    python tests/benchmarks/storage.py [--trials 50000] [--studies 5000]

Starts a private Postgres of its own and fills it in bulk. Reads go through the API in this process; writes are those of
a runner, without sampler. Prints tables; nothing passes or fails.
"""

import argparse
import logging
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

import large

from mudman.results import Curve, Outcome, Trace, TrialResult
from mudman.specs import parse
from mudman.specs.comparison import parse_comparison
from service.app import create_app
from service.store import attempts, comparisons, leases, pages, retention, studies
from service.store.attempts import Report
from service.store.database import Database
from service.store.leases import Lease
from service.store.migrate import migrate
from service.store.settings import Settings
from service.store.states import Action
from service.store.tables import Study
from workers.embedded.postgres import temporary
from workers.study import StudyInHand

NAMES = ["unlearning_rate", "retaining_rate", *(f"other_{n}" for n in range(7))]
"""Nine hyper-parameters, as the presets have."""


def spec(name: str) -> dict:
    ranges = {
        "unlearning_rate": {"low": 1e-7, "high": 0.3, "log": True},
        "retaining_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    }
    return {
        "name": name,
        "model": {"id": "simulated"},
        "forget": {"corpus": "python-functions"},
        "retain": {"corpus": "wikitext"},
        "method": {"type": "mudman", "target_modules": ["gate_proj"], **ranges},
        "attack": {"rate": 3e-3, "passes": 300, "check_every": 30},
        "budget": {"unlearn_passes": 300, "trials": 100_000},
    }


def result() -> TrialResult:
    """As large as a real one: two curves, a trace of fifty loops."""
    numbers = tuple(0.123456789 * n for n in range(11))
    curve = Curve(passes=tuple(range(0, 330, 30)), forget_loss=numbers, retain_loss=numbers)
    loops = {name: tuple(0.987654321 / (n + 1) for n in range(50)) for name in Trace.model_fields if name != "loop"}
    return TrialResult(
        outcome=Outcome.VALID,
        value=1.0,
        violation=-0.5,
        seconds=9.0,
        passes_booked=600,
        passes_made=600,
        unlearning=curve,
        relearning=curve,
        trace=Trace(loop=tuple(range(50)), **loops),
        log="a line of the log\n" * 50,
    )


def timed(work: Callable[[], object], times: int = 40) -> tuple[float, float]:
    """Median and 95th percentile in milliseconds, the first three (cold caches, unprepared statements) left out."""
    taken = []
    for _ in range(times + 3):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    ordered = sorted(taken[3:])
    return statistics.median(ordered), ordered[int(len(ordered) * 0.95) - 1]


def reads(database: Database, large_study: str, ordinals: int, listed: str) -> None:
    with TestClient(create_app(Settings(database_url=database.url, hosts=["testserver"]))) as api:

        def get(path: str) -> Callable[[], object]:
            def request():
                answer = api.get(path)
                answer.raise_for_status()
                return answer

            return request

        study = f"/studies/{large_study}"
        middle, last = pages._write(ordinals // 2, 1), pages._write(ordinals - 50, 1)
        rows = {
            "best": f"{study}/best",
            "trials, first page": f"{study}/trials",
            "trials, middle": f"{study}/trials?cursor={middle}",
            "trials, last": f"{study}/trials?cursor={last}",
            "trials, first page of 200": f"{study}/trials?limit=200",
            "diverged, first page": f"{study}/trials?outcome=diverged",
            "diverged, middle": f"{study}/trials?outcome=diverged&cursor={middle}",
            "diverged, last": f"{study}/trials?outcome=diverged&cursor={pages._write(ordinals - 500, 1)}",
            "one trial": f"{study}/trials/{ordinals // 2}",
            "the study (counts, ETA)": study,
            "studies, first page": "/studies",
            "studies, page of 200": "/studies?limit=200",
            "studies by state": "/studies?state=running",
            "studies by name, no match": "/studies?text=nothing",
            "studies by model, no match": "/studies?model=nothing",
            "comparisons": "/comparisons",
            "comparison": f"/comparisons/{listed}",
            "comparison's table": f"/comparisons/{listed}/table",
            "comparison's bars": f"/comparisons/{listed}/figures/bars",
            "page: studies": "/",
            "page: the study": f"/ui{study}",
            "page: its failed trials": f"/ui{study}?outcome=error",
            "page: one trial": f"/ui{study}/trials/{ordinals // 2}",
            "page: comparison": f"/ui/comparisons/{listed}",
            "page: cluster": "/ui/cluster",
            "page: new study": "/ui/new",
        }
        print(f"\n{'GET':30} {'p50 ms':>8} {'p95 ms':>8}")
        for name, path in rows.items():
            p50, p95 = timed(get(path))
            print(f"{name:30} {p50:8.1f} {p95:8.1f}")


class Writer:
    """A runner's writes to one study, a transaction each, with the milliseconds that each kind took, and those in which
    this process was busy."""

    def __init__(self, database: Database, study_id: str, ordinal: int):
        self.database, self.study_id, self.ordinal = database, study_id, ordinal
        self.taken: dict[str, list[tuple[float, float]]] = {"start": [], "report": [], "end": []}
        with database.begin() as session:
            group = studies.get(session, study_id).group_id
            session.execute(text("update mudman.study_group set epoch = 1 where id = :id"), {"id": group})
        self.lease, self.result = Lease(group, 1), result()
        self.distributions = dict.fromkeys(NAMES, large.DISTRIBUTION)

    def write(self) -> None:
        """One trial, from its start to its end."""
        key, chosen = (self.study_id, self.ordinal, 1), dict.fromkeys(NAMES, 0.5)
        told = {"distributions": self.distributions, "opened": ()}
        said = Report(*key, {"passes": 30, "unlearning": self.result.unlearning.model_dump()}, {"pid": 1})
        self._time("start", lambda session: attempts.start(session, self.lease, *key, chosen, **told))
        self._time("report", lambda session: attempts.progress(session, self.lease, [said]))
        self._time("end", lambda session: attempts.record(session, self.lease, *key, self.result))
        self.ordinal += 1

    def _time(self, name: str, work: Callable[[Session], object]) -> None:
        began, busy = time.perf_counter(), time.process_time()
        with self.database.begin() as session:
            work(session)
        self.taken[name].append(((time.perf_counter() - began) * 1000, (time.process_time() - busy) * 1000))

    def median(self, name: str) -> tuple[float, float]:
        wall, busy = zip(*self.taken[name][10:], strict=True)
        return statistics.median(wall), statistics.median(busy)


def writes(database: Database, sizes: dict[int, str], times: int = 200) -> None:
    """Taking turns, so that whatever else the machine does hits all sizes alike."""
    writers = {size: Writer(database, study_id, size + 4) for size, study_id in sizes.items()}
    for _ in range(times):
        for writer in writers.values():
            writer.write()
    print("\nms, p50, and those of them in which the client's CPU is busy")
    print(f"{'trials':>8} {'start':>7} {'CPU':>5} {'report':>7} {'CPU':>5} {'end':>7} {'CPU':>5}", end="")
    print(f" {'start+end':>10} {'CPU':>5} {'ratio':>6}")
    first = None
    for size, writer in writers.items():
        medians = {name: writer.median(name) for name in writer.taken}
        both, busy = (sum(numbers) for numbers in zip(medians["start"], medians["end"], strict=True))
        first = first or both
        each = " ".join(f"{wall:7.2f} {cpu:5.2f}" for wall, cpu in medians.values())
        print(f"{size:8} {each} {both:10.2f} {busy:5.2f} {both / first:6.2f}")


def memory() -> float:
    """MiB that this process took at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def take_over(database: Database, study_id: str) -> None:
    """By a new runner: its dead predecessor's attempts settled, history read, book and sampler's mirror rebuilt."""
    with database.begin() as session:
        lease = Lease(studies.get(session, study_id).group_id, 1)
    before, began, busy = memory(), time.perf_counter(), time.process_time()
    with database.begin() as session:
        rows = attempts.history(session, study_id)
    taken, busy = time.perf_counter() - began, time.process_time() - busy
    print(f"\nhistory of {len(rows)} attempts: {taken:.2f} s ({busy:.2f} s of them busy), {memory() - before:.0f} MiB")
    del rows
    began, busy = time.perf_counter(), time.process_time()
    StudyInHand(database, lease, study_id)
    taken, busy = time.perf_counter() - began, time.process_time() - busy
    print(f"take-over, with book and mirror: {taken:.2f} s ({busy:.2f} s of them busy)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=50_000)
    parser.add_argument("--studies", type=int, default=5_000)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with temporary(durable=True) as postgres:
        migrate(postgres.url())
        database = Database(postgres.url(), patience=600)
        with database.begin() as session:
            version = session.scalar(text("show server_version"))
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, ", end="")
        print(f"Postgres {version} with fsync over a Unix socket")
        print(f"{asked.trials} trials in one study and in a comparison of two, {asked.studies} studies")
        began = time.perf_counter()
        sizes = {}
        with database.begin() as session:
            for size in (10, 1000, asked.trials):
                sizes[size] = studies.create(session, parse(spec(f"of {size}"))).study.id
                large.fill(session, sizes[size], size, names=["unlearning_rate", "retaining_rate"], result=result())
            document = spec("compared") | {"variants": {"a": {}, "b": {"budget.trials": 4}}}
            made = comparisons.create(session, parse_comparison(document)).comparison
            for study in comparisons.studies_of(session, made)[:2]:
                large.fill(session, study.id, asked.trials // 2, result=result())
            for study_id in sizes.values():
                studies.change_state(session, study_id, Action.PREPARE)
                studies.change_state(session, study_id, Action.RUN)
            large.multiply(session, sizes[10], asked.studies - 6, trials=10)
        with database.begin() as session:
            large.analyze(session)
        print(f"filled in {time.perf_counter() - began:.0f} s")

        reads(database, sizes[asked.trials], asked.trials, made.id)
        writes(database, sizes)
        with database.begin() as session:
            found = timed(lambda: leases.claim(session, "one", 30))
            print(
                f"\na dispatcher's look for work, {asked.studies} studies: p50 {found[0]:.1f} ms, p95 {found[1]:.1f} ms"
            )
            session.rollback()
        began = time.perf_counter()
        retention.drop_old(database, Settings(database_url=database.url))
        print(f"retention with nothing to drop: {(time.perf_counter() - began) * 1000:.1f} ms")
        take_over(database, sizes[asked.trials])
        with database.begin() as session:
            states = session.execute(text("select pg_size_pretty(pg_database_size(current_database()))")).scalar_one()
            print(f"database: {states}, {session.query(Study).count()} studies")
        database.close()


if __name__ == "__main__":
    main()
