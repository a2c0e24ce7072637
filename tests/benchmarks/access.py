"""What access costs a request, and what Optuna's dashboard costs at a size.

    python tests/benchmarks/access.py [--trials 50000]

Starts a private Postgres of its own. The same calls with and without tokens, in turn, in this process. Prints; nothing
passes or fails.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import psutil
from fastapi.testclient import TestClient
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

import large
from guarded import shown, token

from service.app import create_app
from service.store.database import Database
from service.store.migrate import migrate
from service.store.settings import Settings
from workers.embedded.postgres import temporary

CALLS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=50_000, help="of the study that the dashboard shows")
    options = parser.parse_args()
    with temporary() as postgres:
        migrate(postgres.url())
        database = Database(postgres.url(), patience=600)
        settings = {"database_url": database.url, "hosts": ["testserver"]}
        unlimited = {"requests_per_minute": 0, "dashboard_trials": 10**9}
        with (
            TestClient(create_app(Settings(**settings))) as without,
            TestClient(create_app(Settings(**settings, **unlimited, access="tokens"))) as guarded,
        ):
            study_id = without.post("/studies", json={"preset": "quickstart"}).json()["id"]
            requests(without, guarded, shown(token(database, "ann")), study_id)
            with database.begin() as session:
                large.fill(session, study_id, options.trials)
                large.analyze(session)
            dashboard(guarded, database, options.trials)
        database.close()


def requests(without: TestClient, guarded: TestClient, who: dict[str, str], study_id: str) -> None:
    for path in ("/presets/quickstart", f"/studies/{study_id}"):
        took: dict[str, list[float]] = {"without": [], "with": []}
        for _ in range(CALLS):
            for name, api in (("without", without), ("with", guarded)):
                started = time.perf_counter()
                api.get(path, headers=who).raise_for_status()
                took[name].append((time.perf_counter() - started) * 1000)
        median = {name: statistics.median(times) for name, times in took.items()}
        shown_path = path.replace(study_id, "ID")
        print(f"GET {shown_path}: {median['without']:.2f} ms without tokens, {median['with']:.2f} ms with (p50)")


def dashboard(guarded: TestClient, database: Database, trials: int) -> None:
    root = shown(token(database, "root", "admin"))
    with database.begin() as session:
        number = session.scalar(text("select study_id from optuna.studies"))
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    for what, path in {"page, first": "/dashboard", "page": "/dashboard", "list": "/api/studies"}.items():
        _dashboard(guarded, root, f"{what}", path)
    for what in ("study, first", "study, again"):
        _dashboard(guarded, root, f"{what}, {trials:,} trials", f"/api/studies/{number}")
    print(f"memory that it takes of the API: {(process.memory_info().rss - before) / 1e6:.0f} MB")


def _dashboard(guarded: TestClient, root: dict[str, str], what: str, path: str) -> None:
    started = time.perf_counter()
    answer = guarded.get(path, headers=root)
    took, size = time.perf_counter() - started, len(answer.content) / 1e6
    print(f"dashboard, {what}: {took:.2f} s, {size:.1f} MB, status {answer.status_code}")


if __name__ == "__main__":
    main()
