"""What a confirmation's trials and baselines are on a real model: other texts under other seeds, the same otherwise."""

from studies import small

from mudman import run_trial
from mudman.preparation import prepare
from mudman.specs import parse
from mudman.specs.repeats import SeedsSpec, fresh_seeds


def test_each_trial_is_that_of_a_study_with_those_seeds():
    spec = small()
    seeds = fresh_seeds(spec.seeds, 2)
    chosen = {"unlearning_rate": 0.003}
    one = {"ordinal": 5, "value": 3.0, "hyperparameters": chosen}
    repeats = {"study": "st_a", "configurations": [one], "seeds": [pair.model_dump() for pair in seeds]}
    repeating = parse(spec.model_dump(mode="json") | {"repeats": repeats})
    found, values = [run_trial(repeating.for_trial(n), chosen) for n in range(2)], []
    for result, pair in zip(found, seeds, strict=True):
        plain = run_trial(parse(spec.model_dump(mode="json") | {"seeds": pair.model_dump()}), chosen)
        assert (result.value, result.relearning) == (plain.value, plain.relearning)
        values.append(result.value)
    assert len({*values, run_trial(spec, chosen).value}) == 3
    assert len({result.unlearning.forget_loss[0] for result in found}) == 2, "other held-out batches"

    prepared = prepare(repeating)
    alone = [prepare(parse(spec.model_dump(mode="json") | {"seeds": pair.model_dump()})).baseline for pair in seeds]
    assert [one.value for one in prepared.baselines] == [one.value for one in alone]
    assert prepare(spec).baselines == ()


def test_fresh_seeds_by_hand():
    """The first four bytes of SHA-256 over what `printf data/42/42/1 | sha256sum` takes."""
    [first] = fresh_seeds(SeedsSpec(), 1)
    assert (first.data, first.trial) == (0xC928309A, 0xB9DD9784)
    assert fresh_seeds(SeedsSpec(), 3)[0] == first
    assert fresh_seeds(SeedsSpec(data=1), 1)[0] != first
