"""Multiple-choice questions: packaged, from folders, and what is refused."""

import gzip
import json
from collections import Counter

import pytest
from studies import small

from mudman import packaged
from mudman.data.questions import read_questions
from mudman.faults import SpecError
from mudman.registry import source_faults

FIELD = "evaluations.0.questions"
GOOD = {"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 2, "subject": "law"}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes ``./set`` below the data root."""
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(tmp_path))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def write(*records: dict, file: str = "a.jsonl") -> None:
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / file).write_text("".join(json.dumps(record) + "\n" for record in records))

    return write


def fault_of(name: str = "./set"):
    with pytest.raises(SpecError) as caught:
        read_questions(name, FIELD)
    (fault,) = caught.value.faults
    assert fault.path == FIELD
    assert fault.remedy
    return fault


@pytest.mark.parametrize("file", ["a.jsonl", "test.jsonl", "validation.jsonl"])
def test_a_folder_is_read_whatever_its_only_split_is_called(file, write):
    write(GOOD, {**GOOD, "answer": 0}, file=file)
    found = read_questions("./set", FIELD)
    assert [vars(record) for record in found.records] == [
        {**GOOD, "choices": ("a", "b", "c", "d")},
        {**GOOD, "choices": ("a", "b", "c", "d"), "answer": 0},
    ]
    assert (found.name, found.licence) == ("./set", None)
    assert found.revision.startswith("sha256:")


def test_subjects_may_be_missing(write):
    write({key: value for key, value in GOOD.items() if key != "subject"})
    assert read_questions("./set", FIELD).records[0].subject == ""


def test_a_copy_is_read_as_the_named_set_is(write):
    write(GOOD, {**GOOD, "subject": "virology"}, {**GOOD, "subject": "anatomy"})
    assert len(read_questions("./set", FIELD).records) == 3
    without_biology = read_questions("./set", FIELD, form="mmlu-no-biology").records
    assert [record.subject for record in without_biology] == ["law"]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"questions": "./set", "form": "mmlu-no-biologie"}, "is not known"),
        ({"questions": "mmlu", "form": "mmlu-no-biology"}, "has a form of its own"),
    ],
)
def test_a_form_that_does_not_fit_is_refused_before_anything_is_read(write, named, words):
    write(GOOD)
    evaluation = {"type": "multiple_choice", "measures": "utility", **named}
    (fault,) = source_faults(small({"evaluations": [evaluation]}))
    assert fault.path == "evaluations.0.form"
    assert words in fault.message


@pytest.mark.parametrize(
    "change",
    [{"answer": 4}, {"answer": -1}, {"answer": "C"}, {"choices": ["a", "b", "c"]}, {"choices": "abcd"},
     {"question": None}, {"choices": ["a", "b", "c", None]}, {"answer": True}],
)  # fmt: skip
def test_a_record_that_is_no_question_is_refused(change, write):
    write({**GOOD, **change})
    assert "record 0 of ./set is no multiple-choice question" in fault_of().message


@pytest.mark.parametrize("column", ["question", "choices", "answer"])
def test_a_missing_column_is_refused(column, write):
    write({key: value for key, value in GOOD.items() if key != column})
    assert f"has no column {column!r}" in fault_of().message


def test_an_unknown_name_is_answered_with_those_that_are_known():
    fault = fault_of("wmpd-bio")
    assert "did you mean 'wmdp-bio'" in fault.remedy
    assert "mmlu-no-biology" in fault.remedy


class TestPackagedCloze:
    found = read_questions("gene-ontology-cloze", FIELD)

    def test_has_four_hundred_terms_with_four_different_definitions(self):
        records = self.found.records
        assert len({record.question for record in records}) == len(records) == 400
        assert all(len(set(record.choices)) == 4 for record in records)
        assert self.found.licence == "CC-BY-4.0"

    def test_has_right_answers_everywhere(self):
        answers = Counter(record.answer for record in self.found.records)
        assert all(answers[position] >= 80 for position in range(4))

    def test_gives_nothing_away(self):
        for record in self.found.records:
            assert not any(record.question.lower() in choice.lower() for choice in record.choices)

    def test_says_truly_which_half_stands_in_the_packaged_text(self):
        text = packaged.TEXTS["gene-ontology"].path.read_bytes()
        lines = {line for row in gzip.decompress(text).splitlines() for line in json.loads(row)["text"].splitlines()}
        by_subject = Counter()
        for record in self.found.records:
            inside = f"{record.question}: {record.choices[record.answer]}" in lines
            by_subject[record.subject, inside] += 1
        assert by_subject == {("in gene-ontology", True): 200, ("not in gene-ontology", False): 200}
