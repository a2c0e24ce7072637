"""Whether whoever fits in the plan comes to run: the plan and its reservations, turn by turn, beside a placement that
is not ours."""

import random
from dataclasses import dataclass, field, replace

import pytest

from service.store import leads
from service.store.leads import Holding
from workers.capacity import Node, Place, Resources, share
from workers.reservations import BAN, GRACE, PATIENCE, Reservations
from workers.shares import EVEN, Owner, Share, Work, plan, wants

HALF, WHOLE = Resources(0.25, 0.5), Resources(0.25, 1)
CARDS = [Node("n", 8, 2)]
TWO_NODES = [Node("n", 2), Node("m", 2)]


def running(name: str, owner: str, trial: Resources, *places: Place, **more) -> Work:
    return Work(name, owner, trial, 10, (0.0,), live=len(places), running=places, **more)


def small_and_large(*places: Place) -> list[Work]:
    return [running("a", "ann", HALF, *places), Work("b", "bob", WHOLE, 1, (0.0,))]


def keep(reservations: Reservations, groups: list[Work], now: float, nodes=CARDS) -> dict[str, Share]:
    return reservations.keep(nodes, groups, plan(nodes, groups, {}), now)


ASTRIDE = Place("n", ("0",)), Place("n", ("1",))


def test_whoever_is_in_the_way_lets_go_one_by_one_until_the_large_one_runs():
    reservations, groups = Reservations(), small_and_large(*ASTRIDE)
    assert keep(reservations, groups, 100)["a"].max_live == 2, "the processes may just be ending"
    shares = keep(reservations, groups, 100 + PATIENCE)
    assert shares["a"] == Share(1, "room is made for a trial of bob that fits nowhere else")
    assert shares["b"] == Share(1, "has 1 place, free as soon as trials of ann end")
    groups = small_and_large(ASTRIDE[0])
    assert keep(reservations, groups, 110)["a"].max_live == 1, "nor does it get its place back before bob is there"
    groups[1] = running("b", "bob", WHOLE, ASTRIDE[1])
    assert keep(reservations, groups, 120)["a"].max_live == 2


def test_nothing_is_kept_for_a_group_that_does_not_come():
    reservations, groups = Reservations(), small_and_large(ASTRIDE[0])
    keep(reservations, small_and_large(*ASTRIDE), -PATIENCE)
    told = [keep(reservations, groups, now)["a"].max_live for now in (0, GRACE, GRACE + 1, GRACE + BAN + 2)]
    assert told == [1, 1, 2, 1]


def test_nobody_makes_room_for_a_lower_priority_or_where_it_would_not_help():
    groups = small_and_large(*ASTRIDE)
    for ann, nodes in (
        (replace(groups[0], priority=1), CARDS),
        (replace(groups[0], running=(Place("m"), Place("m"))), [*CARDS, Node("m", 2)]),
    ):
        reservations, both = Reservations(), [ann, groups[1]]
        before = keep(reservations, both, 0, nodes)
        assert keep(reservations, both, PATIENCE, nodes)["a"] == before["a"]


def test_trials_that_are_alike_wait_for_each_other_only():
    groups = [
        running("a", "ann", HALF, *ASTRIDE, *ASTRIDE[:1]),
        running("c", "cyd", HALF, ASTRIDE[1]),
        Work("b", "bob", HALF, 1, (0.0,)),
    ]
    reservations = Reservations()
    before = keep(reservations, groups, 0)
    assert keep(reservations, groups, PATIENCE) == before


# ----------------------------------------------------------------------------------- a cluster that places at random


@dataclass
class Cluster:
    """Trials are put wherever they fit, whoever asks first by chance, and those that run have first call on their
    places."""

    nodes: list[Node]
    groups: dict[str, tuple[Resources, int, int]]
    """A trial, how long it is, how many at once."""
    random: random.Random
    now: int = 0
    live: dict[str, list[tuple[Place, int]]] = field(default_factory=dict)
    """Where each runs, until when."""
    last: dict[str, int] = field(default_factory=dict)
    """When it began a trial last."""
    ahead: dict[str, float] = field(default_factory=dict)
    idle: float = 0.0
    """Core-seconds that were free."""
    reservations: Reservations = field(default_factory=Reservations)

    def turn(self) -> None:
        groups = [
            Work(
                name,
                name,
                trial,
                most,
                (0.0,),
                live=len(self.live.get(name, ())),
                running=tuple(place for place, _ in self.live.get(name, ())),
            )
            for name, (trial, _, most) in self.groups.items()
        ]
        total = Resources(sum(node.cpus for node in self.nodes), sum(node.gpus for node in self.nodes))
        holdings = {
            work.owner: Holding(share(work.resources * work.live, total), 1.0, wants(self.nodes, [work]), 1.0)
            for work in groups
        }
        self.ahead = leads.after(self.ahead, holdings)
        owners = {name: Owner(lead=lead) for name, lead in self.ahead.items()}
        shares = self.reservations.keep(self.nodes, groups, plan(self.nodes, groups, owners), self.now)
        names = sorted(self.groups)
        self.random.shuffle(names)
        for name in names:
            trial, seconds, _ = self.groups[name]
            there = self.live.setdefault(name, [])
            for place, end in [one for one in there if one[1] <= self.now]:
                there.remove((place, end))
                if len(there) < shares[name].max_live:
                    there.append((place, self.now + seconds))
                    self.last[name] = self.now
        for name in names:
            trial, seconds, _ = self.groups[name]
            while len(self.live[name]) < shares[name].max_live and (place := self._free(trial)):
                self.live[name].append((place, self.now + seconds))
                self.last[name] = self.now
        used = sum(self.groups[name][0].cpus * len(there) for name, there in self.live.items())
        self.idle += sum(node.cpus for node in self.nodes) - used
        self.now += 1

    def _free(self, trial: Resources) -> Place | None:
        found = []
        for node in self.nodes:
            cpus, cards = node.cpus, {str(card): 1.0 for card in range(int(node.gpus))}
            for name, there in self.live.items():
                for place, _ in there:
                    if place.node == node.id:
                        cpus -= self.groups[name][0].cpus
                        for card in place.cards:
                            cards[card] -= min(self.groups[name][0].gpus, 1)
            if cpus + 1e-6 >= trial.cpus:
                free = [card for card, left in cards.items() if left + 1e-6 >= min(trial.gpus, 1)]
                count = max(1, round(trial.gpus)) if trial.gpus else 0
                if len(free) >= count:
                    found.append(Place(node.id, tuple(self.random.sample(free, count))))
        return self.random.choice(found) if found else None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("nodes", "groups"),
    [
        (CARDS, {"ann": (HALF, 40, 4), "bob": (WHOLE, 10, 1)}),
        (CARDS, {"ann": (HALF, 37, 4), "bob": (Resources(0.25, 2), 20, 1)}),
        (TWO_NODES, {"ann": (Resources(1), 30, 4), "bob": (Resources(2), 30, 1)}),
        (TWO_NODES, {"ann": (Resources(1), 30, 4), "bob": (Resources(2), 30, 1), "cyd": (Resources(0.5), 7, 8)}),
        ([Node("n", 4), Node("c", 4, 1)], {"ann": (Resources(3), 50, 2), "bob": (Resources(2, 1), 20, 1)}),
        (
            [Node("n", 8, 4), Node("m", 8, 4)],
            {"ann": (HALF, 61, 16), "bob": (Resources(1, 4), 30, 1), "cyd": (Resources(1, 1), 43, 8)},
        ),
    ],
)
def test_nobody_starves_wherever_trials_are_put(nodes, groups, seed):
    longest = max(seconds for _, seconds, _ in groups.values())
    cluster = Cluster(nodes, groups, random.Random(seed))
    small = {name: one for name, one in groups.items() if name != "bob"}
    cluster.groups = small
    for _ in range(200):
        cluster.turn()
    cluster.groups = groups
    for _ in range(2000):
        cluster.turn()
        waited = {name: cluster.now - cluster.last.get(name, 200) for name in groups}
        assert max(waited.values()) <= 2 * longest + EVEN, waited


def test_little_is_idle_where_a_whole_card_comes_and_goes_beside_halves():
    cluster = Cluster(
        [Node("n", 4, 2)], {"ann": (Resources(1, 0.5), 40, 4), "bob": (Resources(2, 1), 10, 1)}, random.Random(0)
    )
    for _ in range(4000):
        cluster.turn()
    assert cluster.idle < 0.1 * 4 * 4000
