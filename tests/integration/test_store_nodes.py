"""Nodes as several observers see them, who need not agree."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from service.store import nodes
from service.store.nodes import Seen

ROUNDS = 20


def seen(*numbers: int) -> list[Seen]:
    return [Seen(f"n{number:03}", "10.0.0.1", "host", 4.0, 0.0, 2**30, {}) for number in numbers]


def test_observers_who_see_different_nodes_do_not_block_each_other(new_database):
    """Each takes the other's nodes for gone: both change every row."""
    database, together = new_database(), Barrier(2)
    with database.begin() as session:
        nodes.observe(session, seen(*range(60)))

    def observe(view: list[Seen]) -> None:
        for _ in range(ROUNDS):
            together.wait(10)
            with database.begin() as session:
                nodes.observe(session, view)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(observe, seen(*range(start, 60, 2))) for start in (0, 1)]:
            done.result(60)
    with database.begin() as session:
        alive = [node.id for node, there in nodes.known(session) if there]
    assert alive in [[node.id for node in seen(*range(start, 60, 2))] for start in (0, 1)]
