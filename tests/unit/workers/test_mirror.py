"""Sampling on a mirror: the same suggestion whatever died before, and no start-up points replayed."""

import pytest

from mudman.results import Decision, Outcome
from mudman.simulation import simulate
from mudman.specs import parse
from service.store.attempts import Ending
from service.store.mirror import Mirror


def spec(sampler: str = "tpe", startup: int = 3):
    return parse(
        {
            "name": "study",
            "labels": {"outcome": "mixed"},
            "model": {"id": "simulated"},
            "forget": {"corpus": "python-functions"},
            "retain": {"corpus": "wikitext"},
            "method": {
                "type": "mudman",
                "target_modules": ["gate_proj"],
                "unlearning_rate": {"low": 1e-7, "high": 0.3, "log": True},
                "fork_every": {"low": 6, "high": 42, "int": True},
            },
            "attack": {"rate": 3e-3, "passes": 20},
            "budget": {"unlearn_passes": 50, "trials": 12},
            "sampler": {"type": sampler, "startup_trials": startup},
        }
    )


def ending(study, hyperparameters) -> Ending:
    return Ending.of(simulate(study, hyperparameters, lambda progress: Decision.CONTINUE))


def played(study, asks: int) -> list:
    mirror, rows = Mirror(study), []
    for _ in range(asks):
        suggestion = mirror.ask()
        end = ending(study, suggestion.hyperparameters)
        mirror.tell(suggestion.ordinal, end)
        rows.append((suggestion.hyperparameters, end))
    return rows


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_mirror_restored_at_any_point_goes_on_as_undisturbed(sampler):
    study = spec(sampler)
    rows = played(study, 12)
    assert {end.outcome for _, end in rows} > {Outcome.VALID}
    for died_after in range(12):
        mirror = Mirror(study)
        for ordinal, (hyperparameters, end) in enumerate(rows[:died_after]):
            mirror.restore(ordinal, hyperparameters, end)
        suggestion = mirror.ask()
        assert (suggestion.ordinal, suggestion.hyperparameters) == (died_after, rows[died_after][0])
        assert suggestion.open == ()


def test_open_trials_are_named_and_restored():
    study = spec()
    mirror, restored = Mirror(study), Mirror(study)
    rows = played(study, 8)
    for ordinal, (hyperparameters, end) in enumerate(rows):
        mirror.restore(ordinal, hyperparameters, end)
        restored.restore(ordinal, hyperparameters, end)
    one, two = mirror.ask(), mirror.ask()
    assert (one.open, two.open) == ((), (8,))
    restored.restore(8, one.hyperparameters, None)
    assert restored.ask() == two, "a trial that is open repels the sampler before and after a restart alike"


def test_every_start_up_point_is_another_one():
    points = [tuple(hyperparameters.values()) for hyperparameters, _ in played(spec("random"), 12)]
    assert len(set(points)) == 12


def test_ordinals_have_no_gaps():
    with pytest.raises(ValueError, match="contiguous"):
        Mirror(spec()).restore(1, {"unlearning_rate": 0.1, "fork_every": 7}, None)
