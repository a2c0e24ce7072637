"""Rows of published numbers: they agree, differ or could not be run, and the exit status says so."""

import pytest
from evaluated_models import write_questions
from studies import SMALL

import mudman
from mudman import presets
from mudman.presets import merged
from mudman.reproduce import (
    Finding,
    Measured,
    NotRun,
    Row,
    Verdict,
    accuracy,
    ahead,
    check,
    exit_status,
    main,
    relearned,
    rows,
    standard_error,
)
from mudman.specs import ModelSpec, parse
from mudman.specs.evaluations import MultipleChoiceEvaluation


def row(measure, expected=1.0, tolerance=0.1) -> Row:
    return Row("a row", "somewhere", measure, expected, tolerance)


def test_a_baseline_that_agrees_and_one_that_differs():
    measure = relearned(SMALL)
    measured = measure()
    alone = parse(merged(SMALL, {"method": {"type": "none"}, "constraint": None}))
    assert measured.value == mudman.run_trial(alone, {}).value  # no range is left to fill in
    assert measured.standard_error > 0

    assert check(row(measure, measured.value + 0.05)).verdict is Verdict.AGREES
    differs = check(row(measure, measured.value + 0.2 + 3 * measured.standard_error))
    assert (differs.verdict, differs.measured) == (Verdict.DIFFERS, measured)
    assert "expected" in str(differs) and "somewhere" in str(differs)


def test_the_standard_error_is_that_of_sequences():
    """Means 1, 3 and 5: standard deviation 2, over √3."""
    assert standard_error([[0.0, 2.0, None], [3.0, 3.0], [5.0]]) == pytest.approx(2 / 3**0.5)


@pytest.mark.parametrize(("value", "verdict"), [(1.37, Verdict.AGREES), (1.39, Verdict.DIFFERS)])
def test_two_draws_may_lie_two_standard_errors_of_their_difference_apart(value, verdict):
    """0.1 and 2 √2 · 0.1 are 0.383."""
    finding = check(row(lambda: Measured(value, 0.1)))
    assert finding.verdict is verdict
    assert "1 ± 0.383" in str(finding)


def test_accuracy_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(tmp_path))
    questions = MultipleChoiceEvaluation(
        type="multiple_choice", questions=write_questions(tmp_path), measures="utility", temperature=0
    )
    measured = accuracy(ModelSpec(id="tiny-llama"), questions)()
    assert measured.value in (0, 0.25, 0.5, 0.75, 1)


def test_an_order_compares_the_best_of_as_many_trials():
    slow = merged(SMALL, {"method.unlearning_rate": {"low": 1e-6, "high": 1e-5, "log": True}})
    fast = merged(SMALL, {"method.unlearning_rate": {"low": 0.05, "high": 0.1, "log": True}, "constraint": None})
    assert ahead(fast, [slow], 2)().value > 1
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

    table = [
        row(lambda: Measured(1.05)),
        row(lambda: Measured(1.5), 1.2, None),
        row(lambda: Measured(2)),
        row(not_here),
    ]
    assert main([], lambda search: table) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["agrees", "agrees", "DIFFERS"]
    assert lines[3].startswith("not run") and "no card" in lines[3]
    assert lines[4] == "2 agrees, 1 differs, 1 not run"
    assert main(["--only", "no such row"], lambda search: table) == 2


def test_every_published_number_has_its_row():
    table = {row.name.removeprefix("relearning alone: "): row for row in rows()}
    assert len(table) == len(rows()) == 19
    assert {row.expected for row in table.values()} >= {3.9384, 2.0720, 2.0990, 2.6653, 2.4158, 0.472, 0.297, 0.3011}
    assert (table["wmdp-llama"].expected, table["wmdp-llama-6"].expected) == (0.4548, 0.4501)
    published = {name for name in presets.names() if "baseline" in presets.about(name).expected}
    assert len(published) == 16 and published <= table.keys()
    tolerances = [table[name].tolerance for name in ("modules-smol-python", "ablations-llama-python", "wmdp-llama")]
    assert tolerances == [0.05, 0.1, 0.02]
