"""Rows of published numbers: they agree, differ or could not be run, and the exit status says so."""

import pytest
from evaluated_models import write_questions
from studies import SMALL

import mudman
from mudman.presets import merged
from mudman.reproduce import Finding, NotRun, Row, Verdict, accuracy, ahead, check, exit_status, main, relearned, rows
from mudman.specs import ModelSpec, parse
from mudman.specs.evaluations import MultipleChoiceEvaluation


def row(measure, expected=1.0, tolerance=0.1) -> Row:
    return Row("a row", "somewhere", measure, expected, tolerance)


def test_a_baseline_that_agrees_and_one_that_differs():
    measure = relearned(SMALL)
    value = measure()
    alone = parse(merged(SMALL, {"method": {"type": "none"}, "constraint": None}))
    assert value == mudman.run_trial(alone, {}).value  # no range is left to fill in

    assert check(row(measure, value + 0.05)).verdict is Verdict.AGREES
    differs = check(row(measure, value + 0.5))
    assert (differs.verdict, differs.measured) == (Verdict.DIFFERS, value)
    assert "expected" in str(differs) and "somewhere" in str(differs)


def test_accuracy_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(tmp_path))
    questions = MultipleChoiceEvaluation(
        type="multiple_choice", questions=write_questions(tmp_path), measures="utility", temperature=0
    )
    measured = accuracy(ModelSpec(id="tiny-llama"), questions)()
    assert measured in (0, 0.25, 0.5, 0.75, 1)


def test_an_order_compares_the_best_of_as_many_trials():
    slow = merged(SMALL, {"method.unlearning_rate": {"low": 1e-6, "high": 1e-5, "log": True}})
    fast = merged(SMALL, {"method.unlearning_rate": {"low": 0.05, "high": 0.1, "log": True}, "constraint": None})
    assert ahead(fast, [slow], 2)() > 1
    with pytest.raises(NotRun, match="--search"):
        ahead(fast, [slow], 0)()


def test_what_cannot_be_had_here_is_not_run():
    nowhere = check(row(relearned(merged(SMALL, {"forget.corpus": "./nowhere"}))))
    assert (nowhere.verdict, nowhere.measured) == (Verdict.NOT_RUN, None)
    assert "forget.corpus" in str(nowhere)


def test_a_trial_that_fails_differs():
    diverges = check(row(relearned(merged(SMALL, {"attack.rate": 1e30}))))
    assert diverges.verdict is Verdict.DIFFERS
    assert "diverged" in diverges.reason


@pytest.mark.parametrize(("verdicts", "status"), [("A", 0), ("AA", 0), ("AN", 2), ("ND", 1), ("D", 1), ("", 2)])
def test_the_exit_status_is_honest(verdicts, status):
    kinds = {"A": Verdict.AGREES, "D": Verdict.DIFFERS, "N": Verdict.NOT_RUN}
    assert exit_status([Finding(row(float), kinds[letter]) for letter in verdicts]) == status


def test_the_command(capsys):
    def not_here():
        raise NotRun("no card")

    table = [row(lambda: 1.05), row(lambda: 1.5, 1.2, None), row(lambda: 2.0), row(not_here)]
    assert main([], lambda search: table) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["agrees", "agrees", "DIFFERS"]
    assert lines[3].startswith("not run") and "no card" in lines[3]
    assert lines[4] == "2 agrees, 1 differs, 1 not run"
    assert main(["--only", "no such row"], lambda search: table) == 2


def test_the_published_rows_are_specs_that_can_be_read():
    table = rows()
    assert len(table) == 9
    assert {row.expected for row in table} >= {3.9384, 2.0720, 0.472, 0.297}
    assert len({row.name for row in table}) == len(table)
