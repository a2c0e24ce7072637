"""An observer: tells the database which nodes the Ray cluster has.

``python -m workers observer``, kept alive by a dispatcher, which cannot look itself: Ray ends its driver's process when
the head dies. Ends when its standard input does, and so with its dispatcher, however that ends.
"""

import argparse
import logging
import sys
import time
from typing import Any

from mudman import logs
from service.store import nodes
from service.store.database import Database, DatabaseUnavailable
from service.store.settings import Settings
from workers import lifeline

log = logging.getLogger(__name__)

EVERY = 2.0
"""Seconds between two looks."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m workers observer", description=__doc__.splitlines()[0])
    parser.parse_args(argv)
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format)
    lifeline.follow(sys.stdin.fileno())
    database = Database(settings.read_database_url(), pool_size=1, application="mudman-observer")
    import ray

    from workers.cluster import attached

    with attached(settings.ray_address):
        while True:
            seen = [_seen(node) for node in ray.nodes() if node["Alive"]]
            try:
                with database.begin() as session:
                    nodes.observe(session, seen)
            except DatabaseUnavailable as error:
                log.warning("%s", error)
            time.sleep(EVERY)


def _seen(node: dict[str, Any]) -> nodes.Seen:
    held = node["Resources"]
    return nodes.Seen(
        id=node["NodeID"],
        address=node["NodeManagerAddress"],
        host=node["NodeManagerHostname"],
        cpus=held.get("CPU", 0.0),
        gpus=held.get("GPU", 0.0),
        memory_bytes=int(held.get("memory", 0)),
        labels=node.get("Labels") or {},
    )
