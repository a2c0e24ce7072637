"""What nodes hold, and whether one more trial fits: pure arithmetic over CPUs and cards."""

from collections.abc import Iterable
from dataclasses import dataclass

_ROUNDING = 1e-6
"""Three thirds of a card are a card."""


@dataclass(frozen=True)
class Resources:
    cpus: float = 0.0
    gpus: float = 0.0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(self.cpus + other.cpus, self.gpus + other.gpus)

    def __mul__(self, times: float) -> "Resources":
        return Resources(self.cpus * times, self.gpus * times)


@dataclass(frozen=True)
class Node:
    id: str
    cpus: float
    gpus: float = 0.0
    usable: bool = True
    """False: in quarantine."""

    def could_hold(self, trial: Resources) -> bool:
        """If it were empty."""
        return _Room(self).cards_for(trial) is not None


class _Room:
    """What is left of one node. A card is a number between 0 and 1."""

    def __init__(self, node: Node):
        self.cpus = node.cpus
        self.cards = [1.0] * int(node.gpus)

    def cards_for(self, trial: Resources) -> list[int] | None:
        """Cards that the trial would take; None if it does not fit."""
        if self.cpus + _ROUNDING < trial.cpus:
            return None
        need = min(trial.gpus, 1.0)
        # A share of a card goes where it leaves least; several cards have to be wholly free.
        fitting = sorted((left, card) for card, left in enumerate(self.cards) if left + _ROUNDING >= need)
        wanted = max(1, round(trial.gpus)) if trial.gpus else 0
        return [card for _, card in fitting[:wanted]] if len(fitting) >= wanted else None

    def take(self, trial: Resources, cards: list[int]) -> None:
        self.cpus -= trial.cpus
        for card in cards:
            self.cards[card] -= min(trial.gpus, 1.0)

    @property
    def left(self) -> tuple[float, float]:
        return sum(self.cards), self.cpus


class Packing:
    """Trials on nodes: each where it leaves least free, cards before CPUs."""

    def __init__(self, nodes: Iterable[Node]):
        nodes = sorted(nodes, key=lambda node: node.id)
        self._rooms = [_Room(node) for node in nodes]
        self._total = Resources(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes))

    def place(self, trial: Resources) -> bool:
        """Take the room that one more trial needs, if there is any."""
        fitting = [(room.left, room, cards) for room in self._rooms if (cards := room.cards_for(trial)) is not None]
        if not fitting:
            return False
        _, room, cards = min(fitting, key=lambda fit: fit[0])
        room.take(trial, cards)
        return True

    def share(self, trial: Resources) -> float:
        """The larger of its parts of all CPUs and of all cards."""
        return share(trial, self._total)


def share(part: Resources, total: Resources) -> float:
    """The larger of the parts of all CPUs and of all cards; 0 where there are none."""
    return max((have / all_ for have, all_ in ((part.cpus, total.cpus), (part.gpus, total.gpus)) if all_), default=0.0)


def amount(held: Resources) -> str:
    """For people: ``2 CPUs and 0.5 GPUs``."""
    parts = [_number(held.gpus, "GPU")] if held.gpus else []
    return " and ".join([_number(held.cpus, "CPU"), *parts])


def _number(count: float, kind: str) -> str:
    return f"{count:g} {kind}" if count == 1 else f"{count:g} {kind}s"
