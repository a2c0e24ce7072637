"""What a read or a write costs does not grow with the number of trials: no statement reads a table of them whole, and
a start and an end make as many statements with 5,000 trials as with none. (Times: ``tests/benchmarks/storage.py``.)"""

from contextlib import contextmanager

import large
import pytest
from sqlalchemy import Engine, event, func, select
from test_leases import claim, spec

from mudman.results import Curve, Outcome, TrialResult
from mudman.specs.comparison import parse_comparison
from service.store import attempts, comparisons, optuna_rows, pages, standing, studies
from service.store.attempts import Report
from service.store.pages import StudyFilter
from service.store.tables import Trial

TRIALS = 5000


@contextmanager
def statements(engine: Engine):
    """Every statement with its parameters."""
    seen: list[tuple[str, dict]] = []

    def keep(connection, cursor, statement, parameters, context, many):
        seen.append((statement, parameters[0] if many else parameters))

    event.listen(engine, "before_cursor_execute", keep)
    yield seen
    event.remove(engine, "before_cursor_execute", keep)


@pytest.fixture(scope="module")
def filled(new_module_database):
    """A study with 5,000 trials of many values, one of few, a comparison of two, and 200 others."""
    store = new_module_database()
    document = spec("compared").model_dump(mode="json") | {"variants": {"a": {}, "b": {"budget.trials": 4}}}
    with store.begin() as session:
        one, ties = (studies.create(session, spec(name)).study.id for name in ("many", "ties"))
        made = comparisons.create(session, parse_comparison(document | {"baseline": False})).comparison
        compared = [study.id for study in comparisons.studies_of(session, made)]
        large.fill(session, one, TRIALS)
        for study_id in compared:
            large.fill(session, study_id, 500)
        large.fill(session, ties, 1000, digits=1)
        large.multiply(session, one, studies=200, trials=10)
        large.analyze(session)
    return store, one, ties


def read_everything(session, study_id: str) -> None:
    """All that a list, a study's page, its best trial and a runner's turn read."""
    study = studies.get(session, study_id)
    progress = standing.progress(session, study, max_live=None)
    assert (progress.trials, progress.running) == (4500, 4)
    assert standing.counts(session, study_id) == {
        "valid": 3500,
        "over_retain_budget": 500,
        "diverged": 500,
        "error": 500,
        "running": 4,
    }
    assert standing.best(session, study).value == progress.best_value
    lowest = studies.get(session, study_id)
    session.expunge(lowest)
    lowest.spec = lowest.spec | {"objective": {"direction": "minimize"}}
    assert standing.best(session, lowest).value == standing.best_value(session, lowest) < progress.best_value
    listed, _ = pages.studies(session, StudyFilter(), 50)
    [row] = [row for row in listed if row.study.id == study_id]
    assert (row.trials, row.running, row.best_value) == (4500, 4, progress.best_value)
    [compared], _ = pages.comparisons(session, StudyFilter(), 50)
    assert compared.trials == 900
    for outcome in (None, Outcome.DIVERGED):
        for after in (None, pages._write(2500, 1), pages._write(4990, 1)):
            page, _ = pages.trials(session, study_id, outcome, 50, after)
            assert page
    assert len(attempts.unfinished(session, study_id)) == 4


def test_nothing_reads_all_trials(filled):
    store, study_id, _ = filled
    with store.begin() as session, statements(session.get_bind()) as seen:
        read_everything(session, study_id)
    on_trials = [(statement, given) for statement, given in seen if "mudman.trial" in statement]
    assert len(on_trials) >= 15
    with store.begin() as session:
        for statement, given in on_trials:
            plan = session.connection().exec_driver_sql(f"explain {statement}", given).scalars().all()
            assert not any("Seq Scan on trial" in line for line in plan), "\n".join([statement, *plan])
            few = ("Limit", "ix_trial_open", "(outcome IS NULL)")
            assert any(part in line for line in plan for part in few), "\n".join([statement, *plan])


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_of_many_equals_the_first_is_best_and_found_at_once(filled, direction):
    store, _, study_id = filled
    with store.begin() as session, statements(session.get_bind()) as seen:
        study = studies.get(session, study_id)
        session.expunge(study)
        study.spec = study.spec | {"objective": {"direction": direction}}
        best = standing.best(session, study)
        equals = select(func.count(), func.min(Trial.ordinal)).where(Trial.study_id == study_id)
        count, first = session.execute(equals.where(Trial.value == best.value)).one()
        assert count > 10
        assert best.ordinal == first
        assert best.value == {"maximize": 1.0, "minimize": 0.0}[direction]
        plan = session.connection().exec_driver_sql(f"explain (analyze, timing off) {seen[1][0]}", seen[1][1])
        text = "\n".join(plan.scalars())
        assert "Sort" not in text, text


def test_a_start_and_an_end_make_as_many_statements_at_any_size(filled, new_database):
    """Whatever the number of trials, hyper-parameters and checks of the attack; one transaction each."""
    counted = {}
    for name, (store, study_id, ordinal) in {
        "large": (filled[0], filled[1], TRIALS + 10),
        "empty": (new_database(), None, 0),
    }.items():
        with store.begin() as session:
            study_id = study_id or studies.create(session, spec("empty")).study.id
            optuna_rows.create(session, study_id, "maximize")
        lease = claim_of(store, study_id)
        chosen = {"unlearning_rate": 0.5}
        points = Curve(passes=(0, 10, 20), forget_loss=(2.0, None, 3.0), retain_loss=(3.0, 3.0, 3.0))
        result = TrialResult(outcome=Outcome.VALID, value=1.0, violation=-1.0, relearning=points, log="log")
        with store.begin() as session, statements(session.get_bind()) as seen:
            given = {"distributions": {"unlearning_rate": large.DISTRIBUTION}, "opened": ()}
            assert attempts.start(session, lease, study_id, ordinal, 1, chosen, **given)
        with store.begin() as session, statements(session.get_bind()) as reported:
            reports = [Report(study_id, ordinal - n, 1, {"passes": n}, {"pid": 1}) for n in range(20)]
            attempts.progress(session, lease, reports)
        with store.begin() as session, statements(session.get_bind()) as recorded:
            assert attempts.record(session, lease, study_id, ordinal, 1, result)
        counted[name] = (len(seen), len(reported), len(recorded))
        with store.begin() as session:
            for statement, given in seen + reported + recorded:
                plan = "\n".join(session.connection().exec_driver_sql(f"explain {statement}", given).scalars())
                assert name == "empty" or "Seq Scan on trial" not in plan, plan
    assert counted["large"] == counted["empty"]
    assert counted["large"] == (2, 1, 1)


def claim_of(store, study_id: str):
    """The lease on that study's group, whatever others there are."""
    while taken := claim(store):
        if study_id in taken.study_ids:
            return taken
    raise AssertionError("the study is not to be claimed")
