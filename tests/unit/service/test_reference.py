"""The reference in the documentation is what the code says now."""

import re
from pathlib import Path

import pytest

from mudman.specs import StudySpec
from service.reference.pages import pages
from service.reference.schemas import kind

FOLDER = Path(__file__).parents[3] / "docs" / "reference"
PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date(name: str):
    assert (FOLDER / name).read_text("utf-8") == PAGES[name], "run `make reference`"


def test_there_is_no_other_page():
    assert {path.name for path in FOLDER.iterdir()} == PAGES.keys()


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_to_a_heading(name: str):
    for target, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", PAGES[name]):
        headings = re.findall(r"^#+ (.*)$", PAGES[target or name], re.MULTILINE)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, anchor


def test_every_field_of_a_spec_is_there():
    for model in ["StudySpec", *StudySpec.model_json_schema()["$defs"]]:
        assert f"\n### {model}\n" in PAGES["spec.md"]
    assert "| `unlearning_rate` | number or [Range](#range) | required |" in PAGES["spec.md"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "exclusiveMaximum": 5}, "whole number ≥ 1, < 5"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number or null"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Row"}}, "list of [Row](#row)"),
        ({"const": "sgd"}, '`"sgd"`'),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "mapping of names to text"),
        ({}, "anything"),
    ],
)
def test_a_schema_in_words(schema: dict, words: str):
    assert kind(schema) == words
