"""Reading what people write: YAML 1.2 and JSON, as plain data, with the place of every fault."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import JSON_DATA

from mudman.documents import LONGEST_YAML, read_json, read_yaml
from mudman.faults import SpecError
from mudman.specs import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-7", 1e-7),
        ("1.0e-7", 1e-7),
        ("1E5", 1e5),
        ("-3", -3),
        ("010", 10),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("2024-99-99", "2024-99-99"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("[a, 1]", ["a", 1]),
        ("{low: 1e-7, high: 0.3, log: true}", {"low": 1e-7, "high": 0.3, "log": True}),
    ],
)
def test_yaml_is_read_as_version_1_2(text, value):
    read = read_yaml(f"x: {text}")["x"]

    assert read == value
    assert type(read) is type(value)


def test_yaml_1_1_where_a_document_asks_for_it_warns_nobody():
    assert read_yaml("%YAML 1.1\n---\nx: 1e-7") == {"x": 1e-7}


def test_anchors_and_merge_keys_are_read():
    assert read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "at line 3, column 1: found duplicate key 'a'"),
        ("a:\n\tb: 1", "at line 2, column 1"),
        ("a: [1, 2", "at line 1"),
        ("a: b: c", "at line 1, column 5"),
        ("a: 1\n---\nb: 2", "at line 2, column 1: but found another document"),
        ("a: !!python/object/apply:os.system [echo]", "at line 1, column 4: could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: !mine x", "could not determine a constructor"),
        ("a: !!binary aGVsbG8=", "could not determine a constructor"),
        ("a: !!set {x, y}", "could not determine a constructor"),
        ("a: !!int x", "at line 1, column 4: found a value that is no"),
        ("a: !!bool x", "found a value that is no"),
        ("a: !!float x", "found a value that is no"),
        ("a: " + "1" * 5000, "found a value that is no"),
        ("1: 2", "at line 1, column 1: found a key that is no text"),
        ("[a, b]: 2", "found a key that is no text"),
        ("? {a: 1}\n: 2", "found unhashable key"),
        ("a: *b", "undefined alias"),
        ("<<: 5", "expected a mapping"),
        ("a: \x00", "#x0000"),
        ("[" * 2000, "maximum depth"),
        ("- " * 5000 + "x", "maximum depth"),
        ("a: " + "x" * LONGEST_YAML, "shorten it"),
    ],
    ids=lambda value: value[:20],
)
def test_yaml_that_cannot_be_read_names_the_place(text, words):
    with pytest.raises(SpecError) as caught:
        read_yaml(text)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_tag_never_runs_code(tmp_path):
    file = tmp_path / "made"
    with pytest.raises(SpecError):
        read_yaml(f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{file}']]")
    assert not file.exists()


def _bomb(last: str) -> str:
    """Nine levels of nine aliases: 400 million leaves in 400 characters."""
    levels = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 9)]
    return "\n".join([*levels, last])


@pytest.mark.parametrize("last", ["name: *l8", "l8: 3", "method: {target_modules: *l8}", "seeds: {data: *l8}"])
def test_aliases_that_stand_for_gigabytes_are_refused_at_once(last):
    started = time.monotonic()
    with pytest.raises(SpecError) as caught:
        parse(read_yaml(_bomb(last)))
    assert time.monotonic() - started < 5
    assert len(str(caught.value)) < 10_000


def test_a_document_that_holds_itself_is_refused():
    with pytest.raises(SpecError):
        parse(read_yaml("&a {name: *a, labels: *a, method: *a, model: {id: *a}}"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{\n\n x", "at line 3, column 2"),
        ("", "at line 1, column 1"),
        ('{"a": 1,\n "a": 2}', "duplicate key 'a'"),
        ("[NaN]", "NaN is no JSON number"),
        ('{"a": -Infinity}', "-Infinity is no JSON number"),
        ("[" + "1" * 5000 + "]", "digits"),
        ("[" * 100_000, "nested too deeply"),
        ("{'a': 1}", "at line 1, column 2"),
    ],
    ids=lambda value: value[:20],
)
def test_json_that_cannot_be_read_names_the_place(text, words):
    with pytest.raises(SpecError) as caught:
        read_json(text)
    assert words in str(caught.value)


@given(JSON_DATA)
def test_json_is_read_as_it_was_written(data):
    text = json.dumps(data)
    if "NaN" in text or "Infinity" in text:
        text = json.dumps(str(data))
    assert read_json(text) == json.loads(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_never_more(text):
    for read in (read_yaml, read_json):
        try:
            read(text)
        except SpecError as error:
            assert error.faults
