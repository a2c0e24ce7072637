"""What nodes hold, and whether one more trial fits: pure arithmetic over CPUs and cards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Place:
    """Where a trial runs."""

    node: str
    cards: tuple[str, ...] = ()
    """By the names that the node has for them."""

    @classmethod
    def of(cls, worker: Mapping[str, Any]) -> "Place":
        """From what the trial's process said of itself."""
        device = worker.get("device") or ""
        return cls(worker.get("node_id") or "", tuple(device[5:].split(",")) if device.startswith("cuda:") else ())


class _Room:
    """What is left of one node. A card is a number between 0 and 1."""

    def __init__(self, node: Node):
        self.cpus = node.cpus
        self.cards = [1.0] * int(node.gpus)
        self._names: dict[str, int] = {}

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

    def called(self, names: Iterable[str]) -> list[int]:
        """The cards of these names: which is which matters to nobody, as long as it stays the same."""
        cards = [self._names.setdefault(name, len(self._names)) for name in names]
        return [card for card in cards if card < len(self.cards)]

    @property
    def left(self) -> tuple[float, float]:
        return sum(self.cards), self.cpus


class Packing:
    """Trials on nodes: each where it leaves least free, cards before CPUs."""

    def __init__(self, nodes: Iterable[Node]):
        nodes = sorted(nodes, key=lambda node: node.id)
        self._rooms = {node.id: _Room(node) for node in nodes}
        self._total = Resources(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes))

    def place(self, trial: Resources) -> bool:
        """Take the room that one more trial needs, if there is any."""
        rooms = self._rooms.values()
        fitting = [(room.left, room, cards) for room in rooms if (cards := room.cards_for(trial)) is not None]
        if not fitting:
            return False
        _, room, cards = min(fitting, key=lambda fit: fit[0])
        room.take(trial, cards)
        return True

    def hold(self, place: Place, trial: Resources) -> None:
        """Take the room of a trial that runs there, whatever else does."""
        if room := self._rooms.get(place.node):
            room.take(trial, room.called(place.cards))

    def fits(self, trial: Resources) -> bool:
        """Whether there is room for one more."""
        return any(room.cards_for(trial) is not None for room in self._rooms.values())

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
