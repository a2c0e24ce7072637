"""What the engine costs beside a trial's own work: ``python tests/benchmarks/overhead.py [--quick]``.

Three measurements in one run, on the embedded system as a user starts it and on bare Ray Tune beside it:

* milliseconds per trial of 0 s, near the start of a study and after 1,000 of its trials, against bare Ray Tune with the
  same reuse of actors and its loggers off: medians of three studies, and of four runs of bare Tune around them;
* the share of the workers' time that is idle while trials of 1 s wait.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "acceptance"))

import psycopg
from embedded_system import System, simulated

from service.client import Client

BARE = """
import os, sys, time, json
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
               "TUNE_MAX_PENDING_TRIALS_PG": "1", "TUNE_GLOBAL_CHECKPOINT_S": "86400"}
import ray, tempfile
from ray import tune

class Instant(tune.Trainable):
    def setup(self, config): self.seconds = config["seconds"]
    def reset_config(self, config): return True
    def step(self):
        time.sleep(self.seconds)
        return {"done": True, "score": 0.0, "ended": time.time()}
    def save_checkpoint(self, folder): return None
    def load_checkpoint(self, checkpoint): pass

trials, seconds = int(sys.argv[1]), float(sys.argv[2])
ray.init(num_cpus=2, logging_level="ERROR", include_dashboard=False)
with tempfile.TemporaryDirectory() as folder:
    results = tune.Tuner(
        tune.with_resources(Instant, {"cpu": 1}),
        param_space={"x": tune.uniform(0, 1), "seconds": seconds},
        tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True, max_concurrent_trials=2),
        run_config=tune.RunConfig(storage_path=folder, name="bare", verbose=0,
                                  checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)),
    ).fit()
    print(json.dumps(sorted(result.metrics["ended"] for result in results)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="200 trials of 0 s instead of 1,100, 20 of 1 s instead of 60"
    )
    quick = parser.parse_args().quick
    many, few = (200, 20) if quick else (1100, 60)
    print(f"# {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}\n")

    bare = [bare_tune(120, 0) for _ in range(2)]
    system = System()
    try:
        instance = system.start("up", "--port", "0")
        endpoint = system.endpoint(instance)
        with Client(endpoint.url) as client:
            specs = [simulated(f"instant {number}", seconds=0, trials=many) for number in range(3)]
            studies = [ends_of(client, endpoint, spec) for spec in specs]
            one = simulated("a second", seconds=1, trials=few)
            idle = idle_share(client, endpoint, one)
            one["resources"], one["name"], one["budget"]["trials"] = {"max_concurrent": 1}, "one worker", few // 2
            idle_alone = idle_share(client, endpoint, one)
        instance.terminate()
        instance.wait(60)
    finally:
        system.close()
    paces = [pace(ends, 10, 110) for ends in (*bare, bare_tune(120, 0), bare_tune(120, 0))]
    reference = statistics.median(paces)
    print("| trials of 0 s, two places | ms per trial | of bare Tune |\n|---|---|---|")
    print(f"| bare Ray Tune | {reference:.1f} ({_each(paces)}) | 1 |")
    for first in (10, 60) if quick else (10, 500, 1000):
        paces = [pace(ends, first, first + 100) for ends in studies]
        median = statistics.median(paces)
        print(
            f"| trials {first} to {first + 100} of a study | {median:.1f} ({_each(paces)}) | {median / reference:.2f} |"
        )
    print("\n| trials of 1 s | idle share of the workers |\n|---|---|")
    print(f"| two workers | {idle:.1%} |\n| one worker | {idle_alone:.1%} |")


def bare_tune(trials: int, seconds: float) -> list[float]:
    """Moments (seconds) at which the trials ended, in order."""
    done = subprocess.run([sys.executable, "-c", BARE, str(trials), str(seconds)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def pace(ends: list[float], first: int, last: int) -> float:
    """Milliseconds per trial between two of them."""
    last = min(last, len(ends) - 1)
    return 1000 * (ends[last] - ends[first]) / (last - first)


def _each(paces: list[float]) -> str:
    return ", ".join(f"{pace:.0f}" for pace in paces)


def run(client: Client, endpoint, spec: dict) -> list[tuple[float, float]]:
    """(end by the database's clock, seconds of its own) of every trial of a whole study, in order of ends."""
    study_id = client.submit(spec)["id"]
    while (state := client.study(study_id)["state"]) != "completed":
        if state in ("failed", "cancelled"):
            raise RuntimeError(client.study(study_id)["problem"])
        time.sleep(1)
    url = (Path(endpoint.database_url_file)).read_text().strip()
    with psycopg.connect(url) as connection:
        query = (
            "select extract(epoch from finished_at)::float8, (result->>'seconds')::float8 from mudman.trial "
            "where study_id = %s order by finished_at"
        )
        return connection.execute(query, [study_id]).fetchall()


def ends_of(client: Client, endpoint, spec: dict) -> list[float]:
    return [end for end, _ in run(client, endpoint, spec)]


def idle_share(client: Client, endpoint, spec: dict) -> float:
    """Of the time from when every worker has ended a few trials to when the first one finds none left, what the workers
    did not spend in trials."""
    places = spec["resources"]["max_concurrent"]
    rows = run(client, endpoint, spec)
    begin, end = rows[4 * places][0], rows[-places][0]
    busy = sum(max(min(ended, end) - max(ended - seconds, begin), 0) for ended, seconds in rows)
    return 1 - busy / (places * (end - begin))


if __name__ == "__main__":
    main()
