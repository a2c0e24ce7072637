"""Turns of the studies of a group: fair in every round, and spread over the devices."""

import random
from collections import Counter

import pytest

from workers.rounds import Rounds

ROUNDS = 60


def share_of_first_device(studies: list[str], *, seed: str, jitter: float) -> dict[str, float]:
    """Of each study's trials, on two devices of which whichever is free first takes the next one."""
    rounds, chance = Rounds(seed), random.Random(1)
    free, served = [0.0, 0.0], Counter()
    for _ in range(ROUNDS * len(studies)):
        study, device = rounds.next(studies, studies), free.index(min(free))
        free[device] += 1 + jitter * chance.random()
        served[study, device] += 1
    assert all(served[study, 0] + served[study, 1] == ROUNDS for study in studies), "everybody had as many turns"
    return {study: served[study, 0] / ROUNDS for study in studies}


@pytest.mark.parametrize("seed", ["gr_1/1", "gr_1/2", "gr_2/1"])
@pytest.mark.parametrize("studies", [["a", "b"], ["a", "b", "c"]])
def test_every_study_runs_on_every_device(studies, seed):
    """In a fixed order each of two studies would sit on one device; backwards and forwards both have half."""
    assert set(share_of_first_device(studies, seed=seed, jitter=0).values()) == {0.5}
    for share in share_of_first_device(studies, seed=seed, jitter=0.5).values():
        assert 0.4 <= share <= 0.6


def test_the_orders_are_drawn_anew_and_are_those_of_the_seed():
    def orders(seed: str) -> list[tuple[str, ...]]:
        rounds = Rounds(seed)
        return [tuple(rounds.next("abcd", "abcd") for _ in range(4)) for _ in range(10)]

    first = orders("one")
    assert first == orders("one") != orders("two")
    assert all(sorted(order) == list("abcd") for order in first)
    assert all(back == there[::-1] for there, back in zip(first[::2], first[1::2], strict=True))
    assert len(set(first[::2])) > 2


def test_who_is_not_able_keeps_its_turn_to_the_end_of_the_round():
    rounds = Rounds("seed")
    order = [rounds.next("abc", "abc") for _ in range(3)]
    later = order[-1]  # the first of the next round, which is this one backwards
    others = [rounds.next("abc", set("abc") - {later}) for _ in range(2)]
    assert others == order[1::-1]
    assert rounds.next("abc", "abc") == later


def test_a_single_study_is_always_next():
    rounds = Rounds("seed")
    assert {rounds.next(["a"], ["a"]) for _ in range(5)} == {"a"}


def test_a_study_that_has_gone_has_no_turn():
    rounds = Rounds("seed")
    gone = rounds.next("ab", "ab")
    [left] = set("ab") - {gone}
    assert [rounds.next([left], [left]) for _ in range(3)] == [left] * 3
