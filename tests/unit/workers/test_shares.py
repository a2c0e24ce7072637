"""Shares worked by hand, and what holds for any."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.capacity import Node, Packing, Place, Resources
from workers.shares import HOLD, Owner, Quota, Share, Work, plan, undecided, wants

ONE = Resources(1)
TWO_CORES = [Node("n", 2)]


def work(name: str, owner: str = "ann", demand: int = 10, trial: Resources = ONE, turns=(0.0,), **more) -> Work:
    return Work(name, owner, trial, demand, turns, **more)


def live(shares) -> dict[str, int | None]:
    return {name: share.max_live for name, share in shares.items()}


# ----------------------------------------------------------------------------------------------------- by hand


def test_alone_a_group_gets_everything_it_can_use():
    assert live(plan([Node("n", 8)], [work("a", demand=3)], {})) == {"a": 3}


@pytest.mark.parametrize(
    ("cores", "weights", "expected"),
    [
        (2, (1, 1), (1, 1)),
        (8, (1, 1), (4, 4)),
        (8, (3, 1), (6, 2)),
        (6, (2, 1), (4, 2)),
    ],
)
def test_owners_share_by_weight(cores, weights, expected):
    owners = {"ann": Owner(weights[0]), "bob": Owner(weights[1])}
    shares = plan([Node("n", cores)], [work("a", "ann"), work("b", "bob")], owners)
    assert tuple(live(shares).values()) == expected


def test_an_owner_of_many_groups_gets_no_more_than_one_of_few():
    groups = [work(f"a{number}", "ann") for number in range(3)] + [work("b", "bob")]
    assert live(plan([Node("n", 6)], groups, {})) == {"a0": 1, "a1": 1, "a2": 1, "b": 3}


def test_what_one_owner_cannot_use_the_other_gets():
    groups = [work("a", "ann", demand=1), work("b", "bob")]
    assert live(plan([Node("n", 8)], groups, {})) == {"a": 1, "b": 7}


def test_a_single_place_goes_to_who_used_less_lately():
    groups = [work("a", "ann"), work("b", "bob")]
    shares = plan([Node("n", 1)], groups, {"ann": Owner(lead=60), "bob": Owner(lead=50)})
    assert live(shares) == {"a": 0, "b": 1}
    assert shares["a"].waiting == "the cluster is full: the next places go to bob"
    weighed = plan([Node("n", 1)], groups, {"ann": Owner(weight=2, lead=50), "bob": Owner(lead=60)})
    assert live(weighed) == {"a": 1, "b": 0}


@pytest.mark.parametrize(("ahead", "kept"), [(HOLD / 2, 1), (HOLD * 2, 0)])
@pytest.mark.parametrize(("cores", "of_ann", "of_bob"), [(1, 1, 0), (3, 2, 1)])
def test_an_owner_keeps_the_odd_place_until_it_is_clearly_ahead(ahead, kept, cores, of_ann, of_bob):
    groups = [work("a", "ann", live=of_ann), work("b", "bob", live=of_bob)]
    shares = plan([Node("n", cores)], groups, {"ann": Owner(lead=ahead)})
    assert shares["a"].max_live == of_ann - 1 + kept


def test_the_studies_of_an_owner_take_turns_also_across_groups():
    # Three variants in one group and one in another: each has a place in four.
    last = {"a": [1.0, 2.0, 3.0], "b": [4.0]}
    order = []
    for moment in range(5, 13):
        shares = plan([Node("n", 1)], [work(name, turns=tuple(turns)) for name, turns in last.items()], {})
        [chosen] = [name for name, share in shares.items() if share.max_live]
        order.append(chosen)
        last[chosen] = [*sorted(last[chosen])[1:], float(moment)]
    assert "".join(order) == "aaabaaab"


def test_more_studies_more_places():
    groups = [work("a", turns=(0.0, 0.0, 0.0)), work("b", turns=(0.0,))]
    assert live(plan([Node("n", 8)], groups, {})) == {"a": 6, "b": 2}


def test_priority_goes_before_everything():
    owners = {"ann": Owner(lead=900), "bob": Owner(weight=100)}
    groups = [work("a", "ann", priority=1, demand=2), work("b", "bob", demand=5)]
    shares = plan(TWO_CORES, groups, owners)
    assert live(shares) == {"a": 2, "b": 0}
    assert shares["b"].waiting == "the cluster is full: the next places go to ann"
    assert live(plan([Node("n", 3)], groups, owners)) == {"a": 2, "b": 1}, "what is left over is used"


def test_a_quota_bounds_all_groups_of_an_owner_together():
    owners = {"ann": Owner(quota=Quota(trials=3)), "bob": Owner(quota=Quota(cpus=1.5))}
    groups = [work("a1"), work("a2"), work("b", "bob", trial=Resources(0.5))]
    shares = plan([Node("n", 64)], groups, owners)
    assert live(shares) == {"a1": 2, "a2": 1, "b": 3}
    assert shares["a2"].waiting == "1 of 10 trials may run: the quota of ann (3 trials at once) is used up"
    assert shares["b"].waiting == "3 of 10 trials may run: the quota of bob (1.5 CPUs at once) is used up"


def test_a_trial_that_its_owners_quota_never_allows_says_so():
    owners = {"ann": Owner(quota=Quota(gpus=1))}
    shares = plan([Node("n", 8, 8)], [work("a", trial=Resources(1, 2)), work("b", trial=Resources(1, 1))], owners)
    assert shares["a"] == Share(
        0,
        "a trial with 1 CPU and 2 GPUs exceeds the quota of ann (1 GPU at once): raise it (owner_quotas), "
        "or ask for less",
    )
    assert shares["b"] == Share(1, "1 of 10 trials may run: the quota of ann (1 GPU at once) is used up")


def test_a_quota_of_cards():
    owners = {"ann": Owner(quota=Quota(gpus=1))}
    groups = [work("a", trial=Resources(1, 0.5)), work("c", trial=Resources(1, 0))]
    assert live(plan([Node("n", 16, 4)], groups, owners)) == {"a": 2, "c": 10}


def test_nobody_starts_within_a_quota_that_trials_about_to_end_still_fill():
    owners = {"ann": Owner(quota=Quota(trials=1))}
    groups = [work("a", turns=(9.0,), live=1), work("b", turns=(1.0,))]
    shares = plan(TWO_CORES, groups, owners)
    assert live(shares) == {"a": 0, "b": 0}, "it is the other's turn, once the trial that runs has ended"
    assert shares["b"].waiting == "the quota of ann (1 trial at once) is used up until a trial ends"
    assert live(plan(TWO_CORES, [replace(groups[0], live=0), groups[1]], owners)) == {"a": 0, "b": 1}


def test_trials_of_paused_studies_fill_a_quota_until_they_have_ended():
    owners = {"ann": Owner(quota=Quota(trials=1))}
    groups = [work("a", demand=0, turns=(), live=1), work("b")]
    assert live(plan(TWO_CORES, groups, owners)) == {"a": 0, "b": 0}


def test_a_trial_that_fits_no_node_is_left_to_its_runner_to_fail():
    groups = [work("a", trial=Resources(4), unready=True), work("b", "bob")]
    shares = plan(TWO_CORES, groups, {})
    assert shares["a"] == Share(None, "no node is large enough for a trial with 4 CPUs")
    assert shares["b"].max_live == 2


def test_a_group_whose_nodes_are_gone_keeps_no_process():
    """Its runner would have nothing to do, for ever."""
    shares = plan(TWO_CORES, [work("a", trial=Resources(4)), work("b", "bob")], {})
    assert shares["a"] == Share(0, "no node is large enough for a trial with 4 CPUs")
    new = work("a", trial=Resources(4), unready=True)
    assert plan(TWO_CORES, [new], {}, away=[Node("m", 4)])["a"] == Share(
        0, "every node that is large enough for a trial with 4 CPUs is away"
    )
    assert plan(TWO_CORES, [new], {}, away=[Node("m", 3)])["a"].max_live is None


def test_nodes_in_quarantine_hold_nothing():
    nodes = [Node("n", 2), Node("cards", 8, 1, usable=False)]
    shares = plan(nodes, [work("a", trial=Resources(1, 1)), work("b", "bob")], {})
    assert live(shares) == {"a": 0, "b": 2}
    assert shares["a"].waiting == ("every node that is large enough for a trial with 1 CPU and 1 GPU is in quarantine")


def test_no_more_groups_have_places_than_runners_can_be_kept():
    groups = [work(name, name, turns=(turn,)) for turn, name in enumerate("abc")]
    shares = plan([Node("n", 30)], groups, {}, runners=2)
    assert live(shares) == {"a": 10, "b": 10, "c": 0}
    assert shares["c"].waiting == "every runner process that the dispatchers may keep is in use"


def test_a_group_whose_runner_failed_keeps_no_place_free():
    groups = [work("a", pause="its runner failed: tried again in 4 s"), work("b", "bob")]
    shares = plan(TWO_CORES, groups, {})
    assert live(shares) == {"a": 0, "b": 2}
    assert shares["a"].waiting == "its runner failed: tried again in 4 s"


def test_before_any_node_is_known_whoever_comes_may_start():
    assert undecided([work("a"), work("b", pause="resting")], "none yet") == {
        "a": Share(None, "none yet"),
        "b": Share(None, "resting"),
    }


# ------------------------------------------------------------------------------------------------- why it waits


def test_holders_are_those_who_run_and_whoever_is_next_is_told_whose_end_it_waits_for():
    """Ann's trial runs; the place is bob's as soon as it ends."""
    running = replace(work("a", "ann", live=1), running=(Place("n"),))
    shares = plan([Node("n", 1)], [running, work("b", "bob")], {"ann": Owner(lead=60)})
    assert shares["a"] == Share(0, "the cluster is full: ann 1 CPU in 1 trial; the next places go to bob")
    assert shares["b"] == Share(1, "has 1 place, free as soon as trials of ann end")


@pytest.mark.parametrize(
    ("group", "quota", "expected"),
    [
        (work("a", demand=2, running=(Place("n"),)), Quota(), True),
        (work("a", demand=2, live=2, running=(Place("n"),)), Quota(), True),  # one was sent to run, and waits
        (work("a", demand=1, running=(Place("n"),)), Quota(), False),
        (work("a", running=(Place("n"),)), Quota(trials=1), False),
        (work("a", pause="its runner failed"), Quota(), False),
        (work("a", trial=Resources(3)), Quota(), False),  # fits nowhere
    ],
)
def test_an_owner_wants_more_where_others_could_leave_it_some(group, quota, expected):
    assert wants(TWO_CORES, [group], quota) is expected


def test_of_several_places_those_that_are_still_held_are_counted():
    four = [Node("n", 4)]
    ann = replace(work("a", "ann", live=3), running=(Place("n"),) * 3)
    bob = replace(work("b", "bob", demand=2, live=1), running=(Place("n"),))
    shares = plan(four, [ann, bob], {})
    assert shares["b"] == Share(2, "has 2 places, 1 of them free as soon as trials of ann end")
    bob = replace(bob, running=())
    assert plan(four, [ann, bob], {})["b"] == Share(2), "it is about to start where room is"


def test_a_card_that_is_half_taken_is_no_card():
    nodes, half = [Node("n", 8, 2)], Resources(1, 0.5)
    halves = replace(work("a", "ann", trial=half, live=2), running=(Place("n", ("0",)), Place("n", ("1",))))
    whole = work("b", "bob", trial=Resources(1, 1), demand=1)
    assert plan(nodes, [halves, whole], {})["b"] == Share(1, "has 1 place, free as soon as there is room")
    halves = replace(halves, running=(Place("n", ("0",)), Place("n", ("0",))))
    assert plan(nodes, [halves, whole], {})["b"] == Share(1)


# ------------------------------------------------------------------------------------------------- of any plan

RESOURCES = st.builds(
    Resources, st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]), st.sampled_from([0.0, 0.0, 0.25, 0.3, 0.5, 1.0, 2.0])
)
NODES = st.lists(
    st.tuples(st.sampled_from([1.0, 2.0, 4.0, 8.0]), st.sampled_from([0.0, 1.0, 2.0, 4.0]), st.booleans()), max_size=4
).map(lambda found: [Node(f"n{i}", cpus, gpus, usable) for i, (cpus, gpus, usable) in enumerate(found)])
QUOTAS = st.builds(
    Quota,
    cpus=st.sampled_from([math.inf, 0.0, 1.0, 2.5]),
    gpus=st.sampled_from([math.inf, 0.0, 0.5, 2.0]),
    trials=st.sampled_from([math.inf, 0, 1, 3]),
)
OWNERS = st.fixed_dictionaries(
    {name: st.builds(Owner, st.sampled_from([0.5, 1.0, 3.0]), st.floats(0, 3600), QUOTAS) for name in ("ann", "bob")}
)
GROUPS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cyd"]),
        RESOURCES,
        st.integers(0, 6),
        st.lists(st.floats(0, 100), min_size=1, max_size=3),
        st.integers(-1, 1),
    ),
    max_size=6,
).map(
    lambda found: [
        Work(f"g{i}", owner, trial, demand, tuple(turns), priority)
        for i, (owner, trial, demand, turns, priority) in enumerate(found)
    ]
)


@given(NODES, GROUPS, OWNERS)
def test_never_over_capacity_or_quota_and_never_more_than_asked(nodes, groups, owners):
    shares = plan(nodes, groups, owners)
    usable = [node for node in nodes if node.usable]
    for kind in ("cpus", "gpus"):
        held = sum((shares[g.id].max_live or 0) * getattr(g.resources, kind) for g in groups)
        assert held <= sum(getattr(node, kind) for node in usable) + 1e-6
    for name, owner in owners.items():
        own = [(shares[g.id].max_live or 0, g.resources) for g in groups if g.owner == name]
        assert sum(count for count, _ in own) <= owner.quota.trials
        assert sum(count * trial.cpus for count, trial in own) <= owner.quota.cpus + 1e-6
        assert sum(count * trial.gpus for count, trial in own) <= owner.quota.gpus + 1e-6
    assert all((shares[g.id].max_live or 0) <= g.demand for g in groups)


@given(NODES, GROUPS, OWNERS)
def test_who_gets_less_than_it_could_use_is_told_why_and_nobody_else(nodes, groups, owners):
    shares = plan(nodes, groups, owners)
    for group in groups:
        share = shares[group.id]
        assert (share.waiting is not None) == ((share.max_live or 0) < group.demand)


@given(NODES, GROUPS, OWNERS, st.randoms(use_true_random=False))
def test_the_order_in_which_groups_and_nodes_are_told_says_nothing(nodes, groups, owners, random):
    before = plan(nodes, groups, owners)
    random.shuffle(nodes)
    random.shuffle(groups)
    assert plan(nodes, groups, owners) == before


@given(st.integers(1, 12), GROUPS)
def test_nothing_stays_free_that_somebody_could_use(cores, groups):
    groups = [replace(group, resources=ONE) for group in groups]
    shares = plan([Node("n", cores)], groups, {})
    given_ = sum(share.max_live for share in shares.values())
    assert given_ == min(cores, sum(group.demand for group in groups))


@given(NODES, GROUPS, OWNERS)
def test_lower_priorities_change_nothing_for_the_highest(nodes, groups, owners):
    if groups:
        top = max(group.priority for group in groups)
        highest = [group for group in groups if group.priority == top]
        alone, all_ = plan(nodes, highest, owners), plan(nodes, groups, owners)
        assert {g.id: all_[g.id].max_live for g in highest} == {g.id: alone[g.id].max_live for g in highest}


@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 5))
def test_saturating_owners_of_equal_weight_are_within_one_place(cores, of_ann, of_bob):
    groups = [work(f"a{i}", "ann", demand=99) for i in range(of_ann)]
    groups += [work(f"b{i}", "bob", demand=99) for i in range(of_bob)]
    shares = plan([Node("n", cores)], groups, {})
    ann = sum(shares[g.id].max_live for g in groups if g.owner == "ann")
    assert abs(ann - (cores - ann)) <= 1


@given(NODES, GROUPS, OWNERS, st.integers(0, 3))
def test_no_more_groups_than_runners(nodes, groups, owners, runners):
    shares = plan(nodes, groups, owners, runners)
    assert sum(bool(share.max_live) for share in shares.values()) <= runners


@given(NODES, GROUPS)
def test_the_trials_of_a_plan_can_be_put_on_the_nodes(nodes, groups):
    """Largest first: what was packed in the plan's order fits in this one too, wherever trials are alike."""
    alike = [replace(group, resources=Resources(1, 0.5)) for group in groups]
    shares = plan(nodes, alike, {})
    packing = Packing([node for node in nodes if node.usable])
    for group in alike:
        for _ in range(shares[group.id].max_live or 0):
            assert packing.place(group.resources)
