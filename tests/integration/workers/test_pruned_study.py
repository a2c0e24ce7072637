"""A study with a pruner, from its first trial to its last, over a real database: the same after any death."""

import pytest
from cases import Case

from mudman.results import Decision, Outcome
from mudman.simulation import simulate
from mudman.specs import parse


@pytest.fixture
def pruned_case(new_database, make_spec):
    made = []

    def make(pruner, **sampler) -> Case:
        document = make_spec(trials=24, startup_trials=6).model_dump(mode="json")
        document["sampler"] |= sampler
        made.append(Case(new_database(), parse(document | {"pruner": pruner})))
        return made[-1]

    yield make
    for one in made:
        one.database.close()


def played(case: Case, dies_at: tuple[int, ...] = ()) -> list[tuple]:
    """With one worker; in the listed steps the runner dies with its trial, and another takes over."""
    study, rows, step = case.take_over(), [], 0
    while attempt := study.next():
        step += 1
        if step in dies_at:
            study = case.take_over()
            continue
        result = simulate(study.spec, attempt.hyperparameters, lambda progress: Decision.CONTINUE, attempt.cuts)
        study.settle(attempt, result)
        rows.append((attempt.ordinal, attempt.hyperparameters, result.outcome, result.value, result.stopped_at_pass))
    assert study.book.complete
    return rows


@pytest.mark.parametrize(
    "pruner", ["median", "successive_halving", "percentile", {"type": "threshold", "lower": 2.5}], ids=str
)
def test_a_pruned_study_ends_with_its_budget_and_survives_every_death(pruned_case, pruner):
    undisturbed = played(pruned_case(pruner))
    outcomes = [outcome for *_, outcome, _, _ in undisturbed]
    assert [ordinal for ordinal, *_ in undisturbed] == list(range(24)), "each counts once, the pruned ones too"
    assert 4 <= outcomes.count(Outcome.PRUNED) <= 20
    assert outcomes.count(Outcome.VALID) + outcomes.count(Outcome.PRUNED) == 24
    assert played(pruned_case(pruner), dies_at=(1, 7, 8, 15, 22)) == undisturbed


def test_the_best_trial_is_not_lost_to_the_pruner(pruned_case):
    """Where the sampler learns nothing both studies try the same; simulated curves do not cross."""
    free, pruned = (played(pruned_case(pruner, type="random")) for pruner in (None, "median"))
    assert [row[1] for row in free] == [row[1] for row in pruned]
    assert max(row[3] for row in free) == max(row[3] for row in pruned if row[3] is not None)
    assert any(row[2] is Outcome.PRUNED for row in pruned)
    assert not any(row[2] is Outcome.PRUNED for row in free)
