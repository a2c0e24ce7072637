"""A study that runs trials of another one again, over a real database: each once, whatever dies."""

from cases import result_of

from mudman.results import Outcome, TrialResult
from mudman.specs import parse
from mudman.specs.repeats import SeedsSpec, fresh_seeds
from service.store import repeating, studies
from service.store.states import Action


def played(case) -> list:
    study = case.take_over()
    while attempt := study.next():
        study.settle(attempt, result_of(study, attempt))
    return case.trials()


def test_each_configuration_under_each_seed_once_whatever_dies(case):
    case = case(trials=6)
    rows = played(case)
    best = sorted(rows, key=lambda row: -row.value)[:2]
    with case.database.begin() as session:
        case.id = repeating.confirm(session, case.id, best=2, seeds=3).study.id
        for action in (Action.PREPARE, Action.RUN):
            studies.change_state(session, case.id, action)
    study, died, orders = case.take_over(), 0, []
    while attempt := study.next():
        if attempt.ordinal in (0, 4) and attempt.attempt == 1:
            study, died = case.take_over(), died + 1
            continue
        orders.append((attempt.ordinal, study.spec.for_trial(attempt.ordinal).seeds))
        study.settle(attempt, result_of(study, attempt))
    assert (died, study.book.complete) == (2, True)
    assert sorted(orders) == sorted(enumerate([*fresh_seeds(SeedsSpec(), 3)] * 2), key=lambda one: one[0])
    last = {row.ordinal: row for row in case.trials()}
    assert [last[n].hyperparameters for n in range(6)] == [best[n // 3].hyperparameters for n in range(6)]
    assert [last[n].value for n in range(6)] == [best[n // 3].value for n in range(6)]


def test_what_ends_without_counting_is_replaced_by_the_first_again(case):
    case = case(trials=2)
    played(case)
    with case.database.begin() as session:
        case.id = repeating.keep(session, case.id, best=2).study.id
        for action in (Action.PREPARE, Action.RUN):
            studies.change_state(session, case.id, action)
    study = case.take_over()
    first = study.next()
    study.settle(first, TrialResult(outcome=Outcome.ERROR))
    while attempt := study.next():
        study.settle(attempt, result_of(study, attempt))
    assert case.rows() == [(0, 1, "error"), (1, 1, "valid"), (2, 1, "valid")]
    assert case.trials()[2].hyperparameters == first.hyperparameters


def test_a_confirmation_that_was_asked_for_runs_when_the_search_is_complete(site, make_spec):
    """By a dispatcher and runners of its own, through the same queue."""
    document = make_spec(name="searched", trials=4).model_dump(mode="json", exclude_unset=True)
    with site.database.begin() as session:
        spec = parse(document | {"confirmation": {"best": 2, "seeds": 2}})
        parent = studies.create(session, spec).study.id
    site.dispatch()
    site.until_state(parent, "completed")
    with site.database.begin() as session:
        child = repeating.newest(session, parent, keeping=False).id
    site.until_state(child, "completed")
    assert [(row.ordinal, row.outcome) for row in site.trials(child)] == [(n, "valid") for n in range(4)]
    with site.database.begin() as session:
        assert len(studies.get(session, child).preparation["baselines"]) == 2
