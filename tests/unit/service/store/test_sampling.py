"""Every sampler: the same search whatever died, values within their ranges, and better than chance where it learns."""

import math
import statistics

import numpy as np
import pytest
from cmaes import CMA
from hypothesis import given, settings
from hypothesis import strategies as st
from sampled import FAST, ending, play, quadratic, spec

from mudman.results import Outcome
from service.store.attempts import Ending
from service.store.mirror import Mirror
from service.store.sampling import sampler_of

ENDINGS = st.sampled_from(
    [
        Ending(Outcome.VALID, 3.0, -0.5),
        Ending(Outcome.VALID, 3.5, -0.1),
        Ending(Outcome.OVER_RETAIN_BUDGET, violation=0.4),
        Ending(Outcome.DIVERGED),
        Ending(Outcome.PRUNED, violation=-0.5, steps={4: 3.2}),
        Ending(Outcome.PRUNED, violation=-0.5, steps={8: 3.1}),
        Ending(Outcome.LOST),
        Ending(Outcome.OUT_OF_MEMORY),
    ]
)


@pytest.mark.parametrize("sampler", FAST)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_restored_from_its_records_a_search_goes_on_as_undisturbed(sampler, data):
    """With any number of workers: ends come in any order, and some trials are open when the process dies."""
    study = spec(sampler, seed=data.draw(st.integers(0, 9)))
    mirror, asked, ended = Mirror(study), [], {}
    for _ in range(data.draw(st.integers(0, 30))):
        suggestion = mirror.ask({"fork_every": 9.0} if data.draw(st.integers(0, 9)) == 0 else None)
        asked.append(suggestion.hyperparameters)
        waiting = [ordinal for ordinal in range(len(asked)) if ordinal not in ended]
        for ordinal in data.draw(st.permutations(waiting))[: data.draw(st.integers(0, 2))]:
            ended[ordinal] = data.draw(ENDINGS)
            mirror.tell(ordinal, ended[ordinal])
    restored = Mirror(study)
    for ordinal, hyperparameters in enumerate(asked):
        restored.restore(ordinal, hyperparameters, ended.get(ordinal))
    assert restored.ask() == mirror.ask()


@pytest.mark.parametrize("sampler", FAST)
def test_same_seed_same_search_another_seed_another(sampler):
    one, same, other = (play(spec(sampler, seed=seed), 12) for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("sampler", FAST)
@settings(deadline=None, max_examples=10)
@given(
    low=st.integers(1, 20),
    width=st.integers(1, 50),
    log=st.booleans(),
    exponent=st.floats(-8, -1),
    seed=st.integers(0, 99),
)
def test_every_value_lies_in_its_range_and_ints_are_whole(sampler, low, width, log, exponent, seed):
    rate = {"low": 10**exponent, "high": 1.0, "log": True}
    every = {"low": low, "high": low + width, "log": log, "int": True}
    study = spec(sampler, seed=seed, trials=4, ranges={"unlearning_rate": rate, "fork_every": every})
    for hyperparameters, _ in play(study, 14):
        assert rate["low"] <= hyperparameters["unlearning_rate"] <= rate["high"]
        assert low <= hyperparameters["fork_every"] <= low + width
        assert isinstance(hyperparameters["fork_every"], int)


@pytest.mark.parametrize("sampler", FAST)
def test_a_chosen_value_is_tried_as_it_is_and_the_sampler_has_the_rest(sampler):
    mirror, free = Mirror(spec(sampler)), Mirror(spec(sampler))
    chosen, own = mirror.ask({"unlearning_rate": 7.0}), free.ask()
    assert chosen.hyperparameters == own.hyperparameters | {"unlearning_rate": 7.0}, "outside the range, on purpose"
    mirror.tell(chosen.ordinal, Ending(Outcome.VALID, 3.0))
    suggestion = mirror.ask({"unlearning_rate": 0.1, "fork_every": 8, "retaining_rate": 0.5})
    assert suggestion.hyperparameters == {"unlearning_rate": 0.1, "fork_every": 8, "retaining_rate": 0.5}
    assert suggestion.ordinal == 1
    assert mirror.ask().hyperparameters.keys() == {"unlearning_rate", "fork_every"}


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
@pytest.mark.parametrize("minimize", [False, True])
def test_what_learns_finds_the_optimum_better_than_chance(sampler, minimize):
    def median_best(name: str) -> float:
        found = [play(spec(name, seed=seed, minimize=minimize), 40) for seed in range(5)]
        return statistics.median(max(quadratic(h) for h, _ in rows) for rows in found)

    assert median_best(sampler) > median_best("random") / 2, "at most half as far from 0, the optimum"


def test_the_gaussian_process_learns_constraint_and_objective_and_survives_death():
    study = spec("gp", seed=3, startup_trials=6)
    rows = play(study, 11, bound=-2.0)
    chance = play(spec("random", seed=3), 11, bound=-2.0)
    over, by_chance = ([e.outcome is Outcome.OVER_RETAIN_BUDGET for _, e in each] for each in (rows, chance))
    assert sum(over[6:]) < sum(by_chance[6:])
    best, best_by_chance = (max(e.value for _, e in each if e.value is not None) for each in (rows, chance))
    assert best > best_by_chance / 2
    for died_after in (6, 10):
        restored = Mirror(study)
        for ordinal, (hyperparameters, end) in enumerate(rows[:died_after]):
            restored.restore(ordinal, hyperparameters, end)
        assert restored.ask().hyperparameters == rows[died_after][0]


def test_trials_are_ranked_valid_then_pruned_then_over_the_bound():
    sampler = sampler_of(spec("cmaes"))
    in_order = [
        Ending(Outcome.VALID, 3.5, -0.1),
        Ending(Outcome.VALID, 3.0),
        Ending(Outcome.PRUNED, violation=-0.5, steps={8: 3.1}),
        Ending(Outcome.PRUNED, steps={8: 3.0}),
        Ending(Outcome.PRUNED, steps={4: 9.0}),
        Ending(Outcome.OVER_RETAIN_BUDGET, violation=0.4),
        Ending(Outcome.OVER_RETAIN_BUDGET, violation=2.0),
        Ending(Outcome.DIVERGED),
    ]
    assert sorted(in_order[3:] + in_order[:3], key=sampler.rank) == in_order
    for outcome in (Outcome.LOST, Outcome.CANCELLED, Outcome.ERROR, Outcome.OUT_OF_MEMORY):
        assert sampler.rank(Ending(outcome)) is None
    least = sampler_of(spec("cmaes", minimize=True))
    assert least.rank(Ending(Outcome.VALID, 0.2)) < least.rank(Ending(Outcome.VALID, 0.3))


# ------------------------------------------------------------------------------------------------------------- CMA-ES


def test_with_one_worker_cmaes_is_the_optimiser_of_its_package():
    study = spec("cmaes", population=5, sigma=0.25)
    mirror, sampler = Mirror(study), sampler_of(study)
    plain = CMA(np.full(2, 0.5), 0.25, bounds=np.tile([0.0, 1.0], (2, 1)), population_size=5)
    low, high = math.log(1e-7), math.log(0.3)
    for generation in range(8):
        points = []
        for place in range(5):
            plain.reseed_rng(sampler.seed(generation * 5 + place))
            x, every = plain.ask()
            suggestion = mirror.ask()
            assert suggestion.hyperparameters["unlearning_rate"] == pytest.approx(math.exp(low + x * (high - low)))
            whole = round(min(max(5.5 + every * 37, 6), 42))
            assert suggestion.hyperparameters["fork_every"] == whole
            end = ending(study, suggestion.hyperparameters)
            mirror.tell(suggestion.ordinal, end)
            points.append((np.array([x, (whole - 5.5) / 37]), -end.value))
        plain.tell(points)


def test_cmaes_searches_one_range_and_none():
    rows = play(spec("cmaes", ranges={"unlearning_rate": {"low": 1e-7, "high": 0.3, "log": True}}), 40)
    assert abs(math.log10(rows[-1][0]["unlearning_rate"]) + 3) < 0.5
    assert Mirror(spec("cmaes", ranges={})).ask().hyperparameters == {}


def test_cmaes_begins_anew_once_it_has_converged():
    study = spec("cmaes", population=4, sigma=0.05)
    rates = [math.log10(h["unlearning_rate"]) for h, _ in play(study, 600)]
    spreads = [max(rates[i : i + 4]) - min(rates[i : i + 4]) for i in range(0, 600, 4)]
    narrow = next(i for i, spread in enumerate(spreads) if spread < 1e-6)
    assert max(spreads[narrow:]) > 1e-2


# --------------------------------------------------------------------------------------------------------------- grid


def test_a_grid_has_every_point_once_in_an_order_of_its_seed():
    def points(seed: int) -> list[tuple]:
        return [tuple(h.values()) for h, _ in play(spec("grid", seed=seed, points={"fork_every": 4}), 20)]

    every = [6, 18, 30, 42]
    rates = [1e-7 * 3e6 ** (step / 4) for step in range(5)]  # five where nothing is said
    assert sorted(points(0)) == [(pytest.approx(rate), whole) for rate in rates for whole in every]
    assert points(0) != points(1)
    assert points(0) != sorted(points(0))


def test_a_point_whose_trial_failed_comes_again_at_the_end():
    mirror = Mirror(spec("grid", points=2, trials=4))
    asked = [mirror.ask() for _ in range(4)]
    for ordinal, outcome in enumerate([Outcome.ERROR, Outcome.DIVERGED, Outcome.ERROR]):
        mirror.tell(ordinal, Ending(outcome))
    again = [mirror.ask() for _ in range(2)]
    keys = sorted(tuple(suggestion.hyperparameters.values()) for suggestion in again)
    assert keys == sorted(tuple(asked[i].hyperparameters.values()) for i in (0, 2))


def test_an_enqueued_trial_takes_no_point_from_the_grid():
    mirror = Mirror(spec("grid", points=2, trials=4))
    mirror.ask({"unlearning_rate": 0.01})
    points = {tuple(mirror.ask().hyperparameters.values()) for _ in range(4)}
    assert points == {(rate, every) for rate in (1e-7, 0.3) for every in (6, 42)}
