"""How soon what people do to a study is effective: ``python tests/benchmarks/actions.py [--rounds 5]``.

On the embedded system as a user starts it, with simulated trials of 1 s that run meanwhile; each action is asked for
over HTTP, and timed until its effect is seen there. Last: from when a lease has expired, whose runner and dispatcher
were killed, to when another dispatcher has it, by the database's clock. Prints medians and the longest; nothing passes
or fails.
"""

import argparse
import os
import platform
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "acceptance"))

import psycopg
from embedded_system import System, simulated

from service.client import Client


class Watch:
    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, act: Callable[[], object], effective: Callable[[], object]) -> None:
        began = time.monotonic()
        act()
        until(effective)
        self.taken[name].append(time.monotonic() - began)


def until(condition: Callable[[], object], within: float = 120) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    system, watch = System(), Watch()
    try:
        supervisor = system.start("up", "--port", "0")
        endpoint = system.endpoint(supervisor)
        with Client(endpoint.url) as client:
            for number in range(rounds):
                actions(client, watch, number)
            url = Path(endpoint.database_url_file).read_text().strip()
            for number in range(rounds):
                watch.taken["take-over after expiry"].append(take_over(system, client, url, number))
        supervisor.terminate()
        supervisor.wait(60)
    finally:
        system.close()
    load, python = os.getloadavg()[0], platform.python_version()
    print(f"# {os.cpu_count()} cores, load {load:.1f}, Python {python}, {rounds} rounds\n")
    print("| action | s, median | longest |\n|---|---|---|")
    for name, taken in watch.taken.items():
        print(f"| {name} | {statistics.median(taken):.1f} | {max(taken):.1f} |")


def actions(client: Client, watch: Watch, number: int) -> None:
    study = client.submit(simulated(f"acted on {number}", seconds=1.0, trials=500))["id"]

    def live() -> list:
        return client.study(study)["progress"]["live"]

    until(live)
    watch.time("pause", lambda: client.pause(study), lambda: not client.study(study)["progress"]["running"])
    watch.time("resume", lambda: client.resume(study), live)
    chosen = {"unlearning_rate": 0.0123}
    watch.time("enqueue", lambda: client.enqueue(study, chosen), lambda: runs(client, study, chosen))
    watch.time("cancel", lambda: client.cancel(study), lambda: not client.study(study)["progress"]["running"])

    short = client.submit(simulated(f"extended {number}", seconds=1.0, trials=2))["id"]
    until(lambda: client.study(short)["state"] == "completed")
    watch.time("extend", lambda: client.extend(short, 4), lambda: client.study(short)["progress"]["live"])
    client.cancel(short)

    broken = client.submit(simulated(f"broken {number}", seconds=0.1, trials=2, outcome="error"))["id"]
    until(lambda: client.study(broken)["state"] == "failed")
    watch.time(
        "retry", lambda: client.retry(broken), lambda: any(t["attempt"] > 1 for t in client.trials(broken, limit=200))
    )
    until(lambda: client.study(broken)["state"] == "failed")


def runs(client: Client, study: str, chosen: dict[str, float]) -> bool:
    return any(chosen.items() <= trial["hyperparameters"].items() for trial in client.trials(study, limit=200))


def take_over(system: System, client: Client, url: str, number: int) -> float:
    study = client.submit(simulated(f"orphan {number}", seconds=1.0, trials=500))["id"]
    until(lambda: client.study(study)["progress"]["live"])
    for pid, command in system.processes().items():
        if "-m workers dispatcher" in command or "-m workers runner" in command:
            os.kill(pid, signal.SIGKILL)
    lease = (
        "select expires_at, epoch from mudman.study_group where id = (select group_id from mudman.study where id = %s)"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        expiry, epoch = connection.execute(lease, [study]).fetchone()
        until(lambda: connection.execute(lease, [study]).fetchone()[1] > epoch)
        claimed = "select max(at) from mudman.event where study_id = %s and kind = 'claimed'"
        [at] = connection.execute(claimed, [study]).fetchone()
    client.cancel(study)
    until(lambda: not client.study(study)["progress"]["running"])
    return (at - expiry).total_seconds()


if __name__ == "__main__":
    main()
