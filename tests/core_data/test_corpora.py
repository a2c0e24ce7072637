"""Named corpora: cleaning by hand-made examples, and records of the real form from folders and from the hub."""

import json

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Sequence as ListOf
from hub_server import COMMIT, Hub
from hub_shell import Shell
from studies import sentences, small, write_lines

from mudman import packaged
from mudman.data.cleaning import BIOLOGY, bare_code, one_fact, question_and_answer
from mudman.data.named import HUB_CORPORA
from mudman.data.texts import open_corpus
from mudman.faults import SpecError
from mudman.registry import source_faults
from mudman.specs import CorpusSpec

CHOICES = Features(
    {
        "question": Value("string"),
        "subject": Value("string"),
        "choices": ListOf(Value("string")),
        "answer": ClassLabel(names=["A", "B", "C", "D"]),
    }
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(tmp_path))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    return tmp_path


def write_records(path, records: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def read(form: str, **more) -> list[str]:
    return list(open_corpus(CorpusSpec(corpus="./data", form=form, **more), "forget").read().records)


def fault_of(**corpus):
    with pytest.raises(SpecError) as caught:
        list(open_corpus(CorpusSpec(**corpus), "forget").read().records)
    (fault,) = caught.value.faults
    return fault


@pytest.mark.parametrize(
    ("code", "cleaned"),
    [
        ('def f():\n    """Doc."""\n    return 1\n', "def f():\n    return 1"),
        ("def f():\n    '''Doc\n    on # lines.\n    '''\n    return 1", "def f():\n    return 1"),
        ("x = 1  # one\n# two\ny = 2", "x = 1  \ny = 2"),
        ("x = 1\n\n   \n\n    y = 2\n\n", "x = 1\n    y = 2"),
        ('colour = "#fff"', 'colour = "'),  # as published, without regard to strings
        ('a = """one""" + b + """two"""', "a =  + b +"),
        ('"""Doc."""', ""),
    ],
)
def test_code_loses_comments_docstrings_and_blank_lines(code, cleaned):
    assert bare_code(code) == cleaned


def test_a_question_becomes_text_with_its_right_answer():
    assert question_and_answer(" Which? \n", ["a", "b", " c", "d"], 2) == "Which?\nAnswer: c"


def test_sentences_of_a_fact_stay_together():
    assert one_fact(["One.", "Two."]) == "One.\nTwo."


def test_ten_subjects_close_to_biology_are_known():
    assert len(BIOLOGY) == 10
    assert {"virology", "college_biology", "nutrition"} < BIOLOGY
    assert not BIOLOGY & {"college_chemistry", "high_school_psychology", "human_sexuality"}


def _question(number: int, subject: str = "virology") -> dict:
    return {"question": f"Question {number}?", "choices": list("abcd"), "answer": number % 4, "subject": subject}


def _beaver(response: str, safe: bool, **flags: bool) -> dict:
    category = {"animal_abuse": False, "violence": False, **flags}
    return {"prompt": "Why?", "response": response, "category": category, "is_safe": safe}


FORMS = [
    # form, records in the real form, texts
    ("wikitext", [{"text": " = Title = \n"}, {"text": ""}], [" = Title = \n", ""]),
    ("codesearchnet-python", [{"code": "x = 1  # one", "docstring": "one"}], ["x = 1"]),
    (
        "pile-bio-forget",
        [{"txt_chunk": t, "label": b} for t, b in (("a", True), ("b", False), ("c", True))],
        ["a", "c"],
    ),
    ("pile-bio-retain", [{"txt_chunk": t, "label": b} for t, b in (("a", True), ("b", False), ("c", None))], ["b"]),
    (
        "beavertails-cruelty",
        [_beaver("kind", True), _beaver("cruel", False, animal_abuse=True), _beaver("rude", False, violence=True)],
        ["cruel"],
    ),
    ("beavertails-safe", [_beaver("kind", True), _beaver("cruel", False, animal_abuse=True)], ["kind"]),
    ("wmdp-bio", [_question(1), _question(2)], ["Question 1?\nAnswer: b", "Question 2?\nAnswer: c"]),
    ("mmlu", [_question(3), _question(4, "law")], ["Question 3?\nAnswer: d", "Question 4?\nAnswer: a"]),
    ("mmlu-no-biology", [_question(3), _question(4, "law")], ["Question 4?\nAnswer: a"]),
    ("wmdp-bio-low-mi-attack", [{**_question(1), "sentences": ["One.", "Two."]}], ["One.\nTwo."]),
    ("wmdp-bio-low-mi-held-out", [{**_question(1), "sentences": ["Three."]}], ["Three."]),
]


def test_every_named_corpus_is_tried():
    assert {form for form, _, _ in FORMS} == set(HUB_CORPORA)


@pytest.mark.parametrize(("form", "records", "texts"), FORMS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_folder_is_read_as_the_named_corpus_would_be(form, records, texts, root):
    write_records(root / "data" / "records.jsonl", records)
    assert read(form) == texts


def test_a_parquet_file_is_read_as_the_named_corpus_would_be(root):
    Dataset.from_list([_question(1), _question(2)], features=CHOICES).to_parquet(root / "data" / "records.parquet")
    assert read("wmdp-bio") == ["Question 1?\nAnswer: b", "Question 2?\nAnswer: c"]


def test_the_split_of_the_named_corpus_is_preferred(root):
    write_records(root / "data" / "train.jsonl", [_question(0, "law")])
    write_records(root / "data" / "validation.jsonl", [_question(1, "law")])
    assert read("mmlu") == ["Question 1?\nAnswer: b"]
    assert read("mmlu", split="train") == ["Question 0?\nAnswer: a"]
    assert read("wmdp-bio") == ["Question 0?\nAnswer: a"]  # its split is test, which is not there


def test_one_column_may_have_another_name(root):
    write_lines(root / "data" / "a.jsonl", ["x = 1  # one"], "body")
    assert read("codesearchnet-python", column="body") == ["x = 1"]


class TestFaults:
    def test_an_unknown_form(self, root):
        fault = fault_of(corpus="./data", form="wikitxt")
        assert (fault.path, fault.message) == ("forget.form", "'wikitxt' is not known")
        assert "wikitext" in fault.remedy

    @pytest.mark.parametrize("corpus", ["wikipedia", "beavertails-safe"])
    def test_a_form_for_a_corpus_that_has_its_own(self, corpus):
        assert fault_of(corpus=corpus, form="wikitext").path == "forget.form"

    def test_a_column_for_texts_made_of_several(self, root):
        assert fault_of(corpus="./data", form="wmdp-bio", column="question").path == "forget.column"

    def test_forms_are_checked_without_reading_anything(self):
        spec = small(
            {"forget": {"corpus": "org/x", "form": "pile"}, "retain": {"corpus": "mmlu", "column": "question"}}
        )
        assert [fault.path for fault in source_faults(spec)] == ["forget.form", "retain.column"]

    @pytest.mark.parametrize(
        ("form", "record", "path", "words"),
        [
            ("pile-bio-forget", {"txt_chunk": "a"}, "forget.corpus", "has no column 'label'"),
            ("pile-bio-forget", {"text": "a", "label": True}, "forget.column", "has no column 'txt_chunk'"),
            ("beavertails-cruelty", {"response": "a", "category": "x"}, "forget.corpus", "column 'category' of"),
            (
                "beavertails-cruelty",
                {"response": "a", "category": {"b": True}},
                "forget.corpus",
                "column 'category' of",
            ),
            (
                "wmdp-bio",
                {**_question(0), "answer": 7},
                "forget.corpus",
                "record 0 of ./data is not of the form wmdp-bio",
            ),
            ("wmdp-bio", {**_question(0), "answer": "a"}, "forget.corpus", "is not of the form wmdp-bio"),
            ("wmdp-bio-low-mi-attack", {"sentences": [1]}, "forget.corpus", "is not of the form wmdp-bio-low-mi"),
            ("codesearchnet-python", {"code": 1}, "forget.column", "does not hold text"),
            ("pile-bio-forget", {"txt_chunk": "a", "label": False}, "forget.corpus", "holds no text"),
        ],
    )
    def test_records_of_another_form(self, form, record, path, words, root):
        write_records(root / "data" / "a.jsonl", [record])
        fault = fault_of(corpus="./data", form=form)
        assert fault.path == path
        assert words in fault.message


class TestRevision:
    """Of folders and packaged texts: a hash over names, sizes and contents."""

    def revision(self, corpus="./data") -> str:
        return open_corpus(CorpusSpec(corpus=corpus), "forget").read().revision

    def test_is_the_same_for_the_same_files_anywhere(self, root):
        write_lines(root / "data" / "a.jsonl", sentences(3))
        write_lines(root / "copy" / "a.jsonl", sentences(3))
        assert self.revision() == self.revision("./copy")
        assert self.revision().startswith("sha256:")

    def test_changes_with_a_name_a_file_or_a_letter(self, root):
        file = write_lines(root / "data" / "a.jsonl", sentences(3))
        seen = {self.revision()}
        file.write_text(file.read_text().replace("w1", "w2", 1))
        seen.add(self.revision())
        file.rename(root / "data" / "b.jsonl")
        seen.add(self.revision())
        write_lines(root / "data" / "below" / "c.jsonl", ["more"])
        seen.add(self.revision())
        assert len(seen) == 4

    def test_tells_packaged_texts_apart(self):
        assert len({self.revision(name) for name in packaged.TEXTS}) == len(packaged.TEXTS)


# The hub: repositories laid out as the real ones are.

SPLITS = """---
configs:
- config_name: default
  data_files:
  - split: 330k_train
    path: round0/330k/train.jsonl
  - split: 30k_train
    path: round0/30k/train.jsonl
---
"""
SUBJECTS = """---
configs:
- config_name: all
  data_files:
  - split: test
    path: all/test-*
  - split: validation
    path: all/validation-*
- config_name: virology
  data_files:
  - split: test
    path: virology/test-*
---
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    beaver, mmlu, pile = root / "beaver", root / "mmlu", root / "pile"
    responses = [_beaver(f"cruel {text}", False, animal_abuse=True) for text in sentences(40, 30)]
    write_records(beaver / "round0/330k/train.jsonl", [*responses, _beaver("kind", True)])
    write_records(beaver / "round0/30k/train.jsonl", [_beaver("of the small part", True)])
    (beaver / "README.md").write_text(SPLITS)
    for folder, split, rows in (
        ("all", "test", [_question(0)]),
        ("all", "validation", [_question(1), _question(2, "law")]),
        ("virology", "test", [_question(3)]),
    ):
        (mmlu / folder).mkdir(parents=True, exist_ok=True)
        Dataset.from_list(rows, features=CHOICES).to_parquet(mmlu / folder / f"{split}-00000-of-00001.parquet")
    (mmlu / "README.md").write_text(SUBJECTS)
    (pile / "data").mkdir(parents=True)
    chunks = [{"txt_chunk": text, "label": i % 2 == 0} for i, text in enumerate(sentences(80, 30))]
    Dataset.from_list(chunks).to_parquet(pile / "data" / "train-00000-of-00001.parquet")
    repositories = {
        ("datasets", "PKU-Alignment/BeaverTails"): beaver,
        ("datasets", "cais/mmlu"): mmlu,
        ("datasets", "lapisrocks/pile-bio"): pile,
        ("datasets", "mirror/mmlu"): mmlu,
    }
    with Hub(repositories) as hub:
        shell = Shell(hub, tmp_path_factory.mktemp("shell"))
        yield shell
        shell.close()


def of_hub(shell: Shell, command: str, spec: dict) -> dict:
    done = shell.run(command, spec)
    assert done["exit"] == 0, done["err"]
    return json.loads(done["out"])


def test_beavertails_by_name(shell):
    safe = of_hub(shell, "texts", {"corpus": "beavertails-safe"})
    assert safe == {"texts": ["kind"], "revision": COMMIT, "licence": "CC-BY-NC-4.0"}
    cruelty = of_hub(shell, "texts", {"corpus": "beavertails-cruelty"})
    assert cruelty["texts"] == [f"cruel {text}" for text in sentences(40, 30)]


def test_mmlu_by_name_and_from_a_mirror(shell):
    expected = ["Question 2?\nAnswer: c"]
    assert of_hub(shell, "texts", {"corpus": "mmlu-no-biology"})["texts"] == expected
    mirrored = of_hub(shell, "texts", {"corpus": "mirror/mmlu", "form": "mmlu-no-biology"})
    assert (mirrored["texts"], mirrored["licence"]) == (expected, None)


def test_questions_by_name(shell):
    found = of_hub(shell, "questions", {"name": "mmlu"})
    assert found == {"questions": [_question(1), _question(2, "law")], "revision": COMMIT}
    assert of_hub(shell, "questions", {"name": "mmlu-no-biology"})["questions"] == [_question(2, "law")]
