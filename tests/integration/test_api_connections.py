"""A connection is held while the database is asked, and not while numbers are made of what it answered: there are ten,
and whoever finds none within seconds is sent away."""

import pytest
from searched import chosen, submit
from test_api_comparisons import post
from test_api_trials import finish, result

from mudman.results import Outcome
from service.figures import of_comparison, of_study
from service.routes import comparisons, figures, statistics, trials


@pytest.fixture(scope="module")
def places(api, database) -> dict[str, str]:
    """Where to ask: a study that is confirmed, and a comparison."""
    study_id = submit(api, "asked")
    for ordinal in range(12):
        finish(
            database, study_id, ordinal, result(Outcome.VALID, 2 + ordinal / 10), chosen=chosen(0.001 + ordinal / 1e3)
        )
    assert api.post(f"/studies/{study_id}/confirm").status_code == 201
    made = post(api, "asked too", {"a": {}, "b": {"method.mask": "none"}}).json()
    for one in made["variants"]:
        for ordinal in range(3):
            finish(database, one["study"], ordinal, result(Outcome.VALID, 2 + ordinal / 10))
    return {"study": f"/studies/{study_id}", "comparison": f"/comparisons/{made['id']}"}


@pytest.mark.parametrize(("module", "name", "path"), [
    (statistics, "study_statistics", "{study}/statistics"),
    (statistics, "confirmation_view", "{study}/statistics"),
    (statistics, "study_export", "{study}/export"),
    (trials, "confirmation_view", "{study}/best"),
    (of_study, "importances", "{study}/figures/importance"),
    (of_study, "slices", "{study}/figures/slice"),
    (of_study, "history", "{study}/figures/history"),
    (of_study, "curves", "{study}/figures/curves"),
    (of_study, "times", "{study}/figures/times"),
    (comparisons, "table", "{comparison}/table"),
    (comparisons, "at_equal_compute", "{comparison}/table?equal=trials"),
    (comparisons, "study_export", "{comparison}/export"),
    (comparisons, "comparison_export", "{comparison}/export"),
    (comparisons, "parse_added_variants", "{comparison}/variants"),
    (figures, "table", "{comparison}/figures/bars"),
    (of_comparison, "bars", "{comparison}/figures/bars"),
    (of_comparison, "overlaid", "{comparison}/figures/curves"),
    (of_comparison, "times", "{comparison}/figures/times"),
])  # fmt: skip
def test_none_is_held_while_numbers_are_made(api, places, monkeypatch, module, name, path):
    held, made = [], getattr(module, name)

    def watched(*given, **named):
        held.append(api.app.state.database._engine.pool.checkedout())
        return made(*given, **named)

    monkeypatch.setattr(module, name, watched)
    path = path.format(**places)
    answer = api.post(path, json={"c": {"method.mask": "none"}}) if path.endswith("/variants") else api.get(path)
    assert answer.status_code in (200, 201), answer.text
    assert held
    assert not any(held)


def test_variants_that_others_added_meanwhile_stay(api, monkeypatch):
    made = post(api, "added to by two", {"a": {}}).json()
    path, parse = f"/comparisons/{made['id']}/variants", comparisons.parse_added_variants

    def slow(*given):
        monkeypatch.setattr(comparisons, "parse_added_variants", parse)
        found = parse(*given)
        assert api.post(path, json={"b": {"method.mask": "none"}}).status_code == 201
        return found

    monkeypatch.setattr(comparisons, "parse_added_variants", slow)
    answer = api.post(path, json={"c": {"method.normalization": "none"}})
    assert answer.status_code == 201
    assert [one["variant"] for one in answer.json()["variants"]] == ["a", "b", "c", "baseline"]
