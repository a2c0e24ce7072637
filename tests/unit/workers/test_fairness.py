"""What owners come to in the long run: the plan and the account of leads together, turn by turn, without anything
else."""

from dataclasses import dataclass, field

import pytest

from service.store import leads
from service.store.leads import Holding
from workers.capacity import Node, Place, Resources, share
from workers.shares import Owner, Work, plan, wants

TURN = 5
"""Seconds between two plans: fewer only take longer to test."""
MINUTE = 60
HOUR = 3600
ONE = Resources(1)


@dataclass
class User:
    """An owner with one group."""

    seconds: int
    """Of a trial."""
    trial: Resources = ONE
    weight: float = 1.0
    demand: int = 99
    comes: int = 0
    wakes: tuple[int, int] = (0, 99)
    """From when on it has another demand."""
    live: list[int] = field(default_factory=list)
    """When its running trials began."""
    ran: list[tuple[int, int]] = field(default_factory=list)

    def work(self, name: str, now: int) -> Work:
        demand = self.wakes[1] if 0 < self.wakes[0] <= now else self.demand
        return Work(name, name, self.trial, demand, (0.0,), live=len(self.live), running=(Place("n"),) * len(self.live))

    def held(self, begin: float, end: float) -> float:
        """Core-seconds."""
        within = sum(max(0.0, min(last, end) - max(first, begin)) for first, last in self.ran)
        return within * self.trial.cpus


def run(cores: int, users: dict[str, User], seconds: int, trials: int = 10**9) -> int:
    """For so many seconds, or until each user has so many trials behind it since all were there; how long it was."""
    total, node, ahead = Resources(cores), Node("n", cores), {}
    together = max(user.comes for user in users.values())
    for now in range(0, seconds, TURN):
        if all(sum(last > together for _, last in user.ran) >= trials for user in users.values()):
            return now
        here = {name: user for name, user in users.items() if user.comes <= now}
        before = {name: user.work(name, now) for name, user in here.items()}
        ahead = leads.after(
            ahead,
            {
                name: Holding(
                    share(user.trial * len(user.live), total), user.weight, wants([node], [before[name]]), TURN
                )
                for name, user in here.items()
            },
        )
        for user in here.values():
            for began in [began for began in user.live if began + user.seconds <= now]:
                user.live.remove(began)
                user.ran.append((began, now))
        works = [user.work(name, now) for name, user in here.items()]
        shares = plan([node], works, {name: Owner(here[name].weight, ahead[name]) for name in here})
        free = cores - sum(user.trial.cpus * len(user.live) for user in here.values())
        for name, user in here.items():
            while len(user.live) < shares[name].max_live and free >= user.trial.cpus:
                user.live.append(now)
                free -= user.trial.cpus
    return seconds


@pytest.mark.parametrize(
    ("cores", "ann", "bob"),
    [
        (1, User(30 * MINUTE), User(5 * MINUTE)),
        (1, User(5 * MINUTE), User(30)),
        (1, User(30 * MINUTE, demand=1), User(5 * MINUTE, demand=1)),
        (3, User(30 * MINUTE), User(10 * MINUTE)),
        (8, User(5 * MINUTE), User(5 * MINUTE, comes=HOUR)),
        (8, User(20 * MINUTE), User(2 * MINUTE, comes=HOUR)),
        (4, User(MINUTE), User(MINUTE, Resources(3))),
        (4, User(20 * MINUTE), User(5 * MINUTE, Resources(3))),
    ],
    ids=[
        "half an hour beside five minutes",
        "five minutes beside half a minute",
        "one at a time each",
        "an odd number of places",
        "who comes an hour later",
        "who comes an hour later with short trials",
        "one core beside three",
        "one core, long, beside three, short",
    ],
)
def test_saturating_owners_of_equal_weight_hold_the_same(cores, ann, bob):
    """Over 20 trials of each, from the moment that both are there."""
    begin = max(ann.comes, bob.comes)
    end = run(cores, {"ann": ann, "bob": bob}, begin + 60 * max(ann.seconds, bob.seconds), trials=20)
    assert min(len(ann.ran), len(bob.ran)) >= 20
    held = [user.held(begin, end) for user in (ann, bob)]
    assert abs(held[0] - held[1]) < 0.1 * max(held), held


def test_owners_hold_what_their_weights_say():
    users = {"ann": User(5 * MINUTE, weight=2), "bob": User(20 * MINUTE)}
    run(4, users, 24 * HOUR)
    assert users["ann"].held(0, 24 * HOUR) == pytest.approx(2 * users["bob"].held(0, 24 * HOUR), rel=0.1)


def test_who_has_all_that_it_can_use_saves_nothing_up():
    """Beside bob's single trials ann has the rest of the cluster: when bob wants more, they are equals from then on."""
    begin = 6 * HOUR
    users = {"ann": User(2 * MINUTE), "bob": User(2 * MINUTE, demand=1, wakes=(begin, 99))}
    run(8, users, begin + HOUR)
    ann, bob = (user.held(begin, begin + HOUR) for user in users.values())
    assert abs(ann - bob) < 0.1 * max(ann, bob)


def test_who_was_there_before_others_came_owes_nothing_to_one_who_comes_after_them():
    users = {"ann": User(5 * MINUTE), "bob": User(5 * MINUTE, comes=HOUR), "cyd": User(5 * MINUTE, comes=5 * HOUR)}
    run(9, users, 8 * HOUR)
    held = [user.held(5 * HOUR, 8 * HOUR) for user in users.values()]
    assert max(held) - min(held) < 0.1 * max(held), held


def test_a_lead_is_bounded():
    ahead = {"ann": 0.0, "bob": 0.0}
    for _ in range(100):
        ahead = leads.after(ahead, {"ann": Holding(1, 1, True, 600), "bob": Holding(0, 1, True, 600)})
    assert ahead == {"ann": leads.LONGEST, "bob": 0.0}
