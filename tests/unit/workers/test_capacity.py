"""Whether a trial fits: worked by hand."""

import pytest

from workers.capacity import Node, Packing, Resources, amount, share


def places(nodes: list[Node], trial: Resources) -> int:
    packing, count = Packing(nodes), 0
    while packing.place(trial):
        count += 1
    return count


@pytest.mark.parametrize(
    ("nodes", "trial", "expected"),
    [
        ([Node("a", 2)], Resources(1), 2),
        ([Node("a", 2)], Resources(0.5), 4),
        ([Node("a", 2), Node("b", 3)], Resources(2), 2),  # one core of b stays over: trials do not span nodes
        ([Node("a", 16, 1)], Resources(1, 0.5), 2),
        ([Node("a", 16, 1)], Resources(1, 0.3), 3),
        ([Node("a", 16, 2)], Resources(1, 0.3), 6),  # no trial sits astride two cards, though 2 / 0.3 = 6.7
        ([Node("a", 16, 1)], Resources(1, 1 / 3), 3),
        ([Node("a", 16, 2)], Resources(1, 0.6), 2),
        ([Node("a", 16, 4)], Resources(1, 2), 2),
        ([Node("a", 16, 3), Node("b", 16, 1)], Resources(1, 2), 1),
        ([Node("a", 16, 1), Node("b", 16, 1)], Resources(1, 2), 0),
        ([Node("a", 2, 4)], Resources(1, 1), 2),  # the cores run out first
        ([], Resources(1), 0),
    ],
)
def test_how_many_fit(nodes, trial, expected):
    assert places(nodes, trial) == expected


def test_several_cards_have_to_be_wholly_free():
    packing = Packing([Node("a", 8, 2)])
    assert packing.place(Resources(1, 0.25))
    assert not packing.place(Resources(1, 2))
    assert packing.place(Resources(1, 1))


def test_a_trial_goes_where_it_leaves_least():
    packing = Packing([Node("big", 8, 2), Node("cards", 8, 1), Node("plain", 2)])
    assert packing.place(Resources(1)), "no card is near it"
    assert packing.place(Resources(1, 1)), "the card of the smaller node"
    assert packing.place(Resources(1, 2))


def test_a_share_is_that_of_the_scarcer_kind():
    total = Resources(16, 4)
    assert share(Resources(4, 2), total) == 0.5
    assert share(Resources(8, 0), total) == 0.5
    assert share(Resources(1, 0), Resources()) == 0.0


def test_amounts_in_words():
    assert amount(Resources(1)) == "1 CPU"
    assert amount(Resources(2, 0.5)) == "2 CPUs and 0.5 GPUs"
    assert amount(Resources(2.5, 1)) == "2.5 CPUs and 1 GPU"
