"""What can be named in a spec, over HTTP."""

import pytest

from mudman import catalogue, packaged


@pytest.mark.parametrize("kind", ["methods", "losses", "attacks", "evaluations"])
def test_lists_every_name_with_schema_and_source(api, kind):
    items = api.get(f"/{kind}").json()["items"]

    assert [item["name"] for item in items] == list(catalogue.entries()[kind])
    for item in items:
        assert item["source"]
        assert "type" in item["json_schema"]["properties"]


def test_lists_models_and_corpora_with_licences(api):
    models = api.get("/models").json()["items"]
    assert {item["name"] for item in models} == packaged.MODELS.keys()
    corpora = {item["name"]: item for item in api.get("/corpora").json()["items"]}
    assert corpora["gene-ontology"]["licence"] == "CC-BY-4.0"
    assert corpora["gene-ontology"]["offline"]
    assert not corpora["codesearchnet-python"]["offline"]


def test_presets_say_what_they_are(api):
    listed = {item["name"]: item for item in api.get("/presets").json()["items"]}
    assert listed["quickstart"]["kind"] == "study"
    ablations = listed["ablations-smol-python"]
    assert ablations["kind"] == "comparison"
    assert ablations["variants"][:2] == ["mudman", "no_masking"]
    assert "fig3-smol-python" in ablations["aliases"]
    assert "differs from the text" in ablations["description"]


def test_a_preset_is_shown_by_alias_and_by_variant(api):
    assert api.get("/presets/table1").json()["name"] == "normalization-pythia-python"
    assert api.get("/presets/table1").json()["expected"]["none"] == "4.80 ± .14"
    shown = api.get("/presets/ablations-smol-python:no_masking").json()
    assert (shown["kind"], shown["variants"]) == ("study", [])
    assert shown["spec"]["method"]["mask"] == "none"
    assert "variants" not in shown["spec"]
