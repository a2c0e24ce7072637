"""Exports over HTTP, and what computing them again finds. Rows are written as the runner writes them."""

import contextlib
import copy
import csv
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from mutated import mutations
from problem_documents import assert_problem
from pyarrow import parquet
from searched import VALUES, chosen, improving, resolved, submit

from service.export import NoExport, verify


@pytest.fixture(scope="module")
def study(api, database) -> str:
    return improving(api, database)


@pytest.fixture(scope="module")
def compared(api, database) -> dict:
    return resolved(api, database)


def test_export(api, study):
    answer = api.get(f"/studies/{study}/export")
    assert f'filename="{study}.json"' in answer.headers["content-disposition"]
    made = answer.json()
    assert made["statistics"] == api.get(f"/studies/{study}/statistics").json()
    assert [trial["value"] for trial in made["trials"]] == [*VALUES, None, None]
    assert made["trials"][0]["hyperparameters"] == chosen(0.019)
    assert made["study"]["spec"]["name"] == "improving"
    assert verify(made) == []


def test_an_export_that_was_changed(api, study):
    made = api.get(f"/studies/{study}/export?seed=5").json()
    assert verify(made) == []
    for change in (
        lambda doc: doc["trials"][-3].update(value=4.0),
        lambda doc: doc["statistics"]["to_baseline"].update(high=9.0),
        lambda doc: doc["statistics"]["bootstrap"].update(seed=6),
        lambda doc: doc["trials"].pop(),
        lambda doc: doc["trials"][3]["hyperparameters"].update(unlearning_rate=0.002),
        lambda doc: doc["study"]["preparation"]["baseline"].update(value=1.0),
    ):
        changed = copy.deepcopy(made)
        change(changed)
        assert verify(changed) != []
    [line] = verify(made | {"statistics": made["statistics"] | {"state": "failed"}})
    assert line == "statistics.state: 'failed' is stated, 'queued' comes out"


NO_STUDY = {"format": "mudman-study", "version": 1}


@pytest.mark.parametrize("document", [[], {}, NO_STUDY | {"version": 99}, NO_STUDY])
def test_what_is_no_export(document):
    with pytest.raises(NoExport):
        verify(document)


@pytest.mark.parametrize("change", [
    lambda doc: doc.update(format=[]),
    lambda doc: doc["study"]["spec"].update(objective=None),
    lambda doc: doc["study"]["spec"].update(method={"type": "nothing that is known"}),
    lambda doc: doc["study"]["preparation"].update(baseline=[1]),
    lambda doc: doc["trials"][11]["hyperparameters"].update(unlearning_rate=-1.0),
])  # fmt: skip
def test_an_export_that_cannot_be_computed_with(api, study, change):
    made = api.get(f"/studies/{study}/export").json()
    change(made)
    with pytest.raises(NoExport):
        verify(made)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=mutations())
def test_whatever_stands_in_an_export_checking_it_comes_to_an_end(api, study, change):
    made = api.get(f"/studies/{study}/export").json()
    change(made)
    with contextlib.suppress(NoExport):
        verify(made)


def test_export_as_csv(api, study):
    answer = api.get(f"/studies/{study}/export?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 14
    assert [float(row["value"]) for row in rows[:12]] == VALUES
    assert (rows[12]["value"], rows[12]["passes_skipped"]) == ("", "30")
    assert float(rows[0]["hyperparameters.unlearning_rate"]) == 0.019
    assert_problem(api.get(f"/studies/{study}/export?format=xlsx"), 422, "invalid-request")


def test_export_as_parquet(api, study):
    answer = api.get(f"/studies/{study}/export?format=parquet")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    table = parquet.read_table(io.BytesIO(answer.content))
    assert table.column("value").to_pylist() == [*VALUES, None, None]
    assert table.column("hyperparameters.unlearning_rate").to_pylist()[:2] == [0.019, 0.019]
    assert table.schema.field("ordinal").type == "int64"
    assert str(table.schema.field("started_at").type) == "timestamp[us, tz=UTC]"
    exported = api.get(f"/studies/{study}/export").json()
    assert json.loads(table.schema.metadata[b"mudman-study"]) == exported["study"]
    assert table.num_rows == len(exported["trials"])
    empty = api.get(f"/studies/{submit(api, 'no rows')}/export?format=parquet").content
    assert parquet.read_table(io.BytesIO(empty)).num_rows == 0


def test_export_of_a_comparison(api, compared):
    answer = api.get(f"{compared['links']['self']}/export?reference=near&seed=3")
    made = answer.json()
    assert made["table"] == api.get(f"{compared['links']['table']}?reference=near&seed=3").json()
    assert [one["study"]["variant"] for one in made["studies"]] == ["a", "near", "far", "baseline"]
    assert verify(made) == []
    made["studies"][2]["trials"][8]["value"] = 2.5
    found = verify(made)
    assert any(line.startswith("table.rows.2.to_reference.low:") for line in found)
    assert any(line.startswith("studies.2.statistics.result.mean:") for line in found)
    assert not any(line.startswith("table.rows.0.") for line in found)
    problem = assert_problem(api.get(f"{compared['links']['self']}/export?reference=neer"), 404, "unknown-variant")
    assert problem["errors"][0]["remedy"] == "did you mean near?"
