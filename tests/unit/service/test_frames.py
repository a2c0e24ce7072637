"""Answers as tables of pandas."""

import sys

import pytest

from service import comparison_examples, statistics_examples
from service.calling import frames


def test_trials():
    export = statistics_examples.STUDY_EXPORT
    frame = frames.trials(export)
    assert list(frame.index) == [(one["ordinal"], one["attempt"]) for one in export["trials"]]
    assert frame["hyperparameters.unlearning_rate"].tolist() == [
        one["hyperparameters"]["unlearning_rate"] for one in export["trials"]
    ]
    assert (frame["finished_at"] - frame["started_at"]).dt.total_seconds().tolist() == [6, 6]
    assert frames.trials({"trials": []}).empty


def test_table():
    [example] = [e["example"] for kind, e in comparison_examples.TABLE.items() if kind == "application/json"]
    frame = frames.table(example)
    rows = [*example["rows"], *([example["baseline"]] if example["baseline"] else [])]
    assert list(frame.index) == [row["variant"] for row in rows]
    assert frame.loc[rows[0]["variant"], "result.mean"] == rows[0]["result"]["mean"]


def test_curves():
    curve = {"passes": [0, 10], "forget_loss": [2.0, 2.5], "retain_loss": [3.0, None]}
    frame = frames.curves({"result": {"unlearning": curve, "relearning": curve}})
    assert frame.loc[("relearning", 10), "forget_loss"] == 2.5
    assert len(frame) == 4
    assert frames.curves({"result": None}).empty


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(frames.NoPandas, match=r"pip install 'mudman\[frames\]'"):
        frames.trials(statistics_examples.STUDY_EXPORT)
