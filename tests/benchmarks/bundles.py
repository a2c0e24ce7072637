"""What an evidence bundle of a large study costs to write and to check, in time, size and memory.

    python tests/benchmarks/bundles.py [--trials 50000]

Starts a private Postgres and fills it in bulk, with curves and a trace of fifty loops for each trial. Writing
and checking run in processes of their own, whose largest memory is told. Nothing passes or fails.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parent))

from storage import NAMES, large, result, spec

from mudman.specs import parse
from service.evidence.stored import write_study
from service.evidence.verification import verify
from service.store import studies
from service.store.database import Database
from service.store.migrate import migrate
from workers.embedded.postgres import temporary

_AS_THEIR_CURVES_SAY = text(
    """
    update mudman.trial set result = result || jsonb_build_object(
        'outcome', outcome, 'value', value, 'device', 'simulated',
        'relearning', jsonb_build_object('passes', jsonb_build_array(0, 150, 300), 'forget_loss',
            jsonb_build_array(9.0, value + 1, value), 'retain_loss', jsonb_build_array(3.0, 3.0, 3.0)))
    where study_id = :study and outcome is not null
    """
)


def fill(url: str, trials: int) -> str:
    database = Database(url, patience=600)
    with database.begin() as session:
        study = studies.create(session, parse(spec("large"))).study
        large.fill(session, study.id, trials, names=NAMES, result=result())
        session.execute(_AS_THEIR_CURVES_SAY, {"study": study.id})
    database.close()
    return study.id


def apart(*arguments: str) -> None:
    subprocess.run([sys.executable, __file__, *arguments], check=True)


def told(what: str, started: float, more: str) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:6} {time.monotonic() - started:7.1f} s {memory:7.0f} MB at most  {more}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=50_000)
    parser.add_argument("--write", nargs=3, metavar=("URL", "STUDY", "FILE"), help="as a process of its own")
    parser.add_argument("--check", metavar="FILE", help="as a process of its own")
    given, started = parser.parse_args(), time.monotonic()
    if given.write:
        url, study, file = given.write
        with open(file, "wb") as out:
            write_study(Database(url), study, out, 0)
        told("write", started, f"{Path(file).stat().st_size / 1e6:.0f} MB")
    elif given.check:
        report = verify(Path(given.check))
        told("check", started, f"{report.trials} trials, {report.numbers} numbers, {len(report.faults)} faults")
    else:
        with temporary() as postgres, tempfile.TemporaryDirectory() as folder:
            migrate(postgres.url())
            for trials in (given.trials // 10, given.trials):
                study = fill(postgres.url(), trials)
                print(f"{trials} trials", flush=True)
                apart("--write", postgres.url(), study, f"{folder}/bundle.zip")
                apart("--check", f"{folder}/bundle.zip")
                with Database(postgres.url()).begin() as session:
                    session.execute(text("delete from mudman.study"))


if __name__ == "__main__":
    main()
