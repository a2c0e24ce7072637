"""The catalogue: every name of the specs is explained, and docs/methods.md says what it says."""

from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from mudman import catalogue
from mudman.documents import read_yaml
from mudman.specs.base import Model
from mudman.specs.compatibility import REFUSALS
from mudman.specs.study import StudySpec


def models_below(annotation, seen):
    """Every spec model that an annotation reaches."""
    if isinstance(annotation, type) and issubclass(annotation, Model) and annotation not in seen:
        seen.add(annotation)
        for field in annotation.model_fields.values():
            models_below(field.annotation, seen)
    for inner in get_args(annotation):
        models_below(inner, seen)
    return seen


def test_every_type_that_a_study_can_name_has_an_entry():
    typed = {
        name
        for model in models_below(StudySpec, set())
        if "type" in model.model_fields and get_origin(model.model_fields["type"].annotation) is Literal
        for name in catalogue.literals(model, "type")
    }
    explained = {name for found in catalogue.entries().values() for name in found}

    assert {"mudman", "sign", "correct_logit", "cloze", "relearn", "fork", "tpe", "fading"} <= typed
    assert typed <= explained


def test_texts_and_specs_name_the_same():
    texts = read_yaml(Path(catalogue.__file__).with_name("catalogue.yaml").read_text("utf-8"))
    assert {kind: set(found) for kind, found in texts.items()} == {
        kind: set(names) for kind, names in catalogue.named().items()
    }
    assert catalogue.TITLES.keys() == texts.keys()


@pytest.mark.parametrize("kind", catalogue.TITLES)
def test_entries_are_complete(kind):
    for entry in catalogue.entries()[kind].values():
        assert entry.definition
        assert entry.source
        if kind in ("methods", "attacks", "evaluations"):
            assert entry.passes
        if kind == "methods":
            assert entry.memory
            assert entry.found
            assert entry.json_schema["properties"]["type"] == {"const": entry.name, "title": "Type", "type": "string"}


def test_settings_have_defaults_bounds_and_meanings():
    settings = {setting.name: setting for setting in catalogue.entries()["methods"]["mudman"].settings}
    assert (settings["retain_momentum"].default, settings["retain_momentum"].bounds) == ("0.9", "0 to 1")
    assert (settings["unlearning_rate"].default, settings["unlearning_rate"].bounds) == ("required", "≥ 0")
    assert settings["rate_unit"].bounds == "`rms` or `l2`"
    breakers = {setting.name: setting for setting in catalogue.entries()["methods"]["circuit_breakers"].settings}
    assert breakers["retaining_rate"].meaning == "Learning rate of the retain step."
    assert breakers["layer"].bounds == "≥ 0, ≤ 1000"


def test_the_document_is_up_to_date():
    """Write it with ``python -m mudman.catalogue``."""
    written = Path(catalogue.__file__).parents[1] / "docs" / "methods.md"
    assert written.read_text("utf-8") == catalogue.document()


def test_the_document_holds_what_does_not_combine():
    for refusal in REFUSALS:
        assert f"| `{refusal.one}` | `{refusal.other}` |" in catalogue.document()
