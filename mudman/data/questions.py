"""Multiple-choice questions for evaluations: from the hub, from a folder of the same form, or packaged."""

from collections.abc import Mapping
from dataclasses import dataclass

from mudman.data.named import HUB_QUESTIONS, QUESTION
from mudman.data.records import Source, open_records
from mudman.registry import questions_place


@dataclass(frozen=True)
class Question:
    question: str
    choices: tuple[str, str, str, str]
    answer: int
    """Index of the right choice, 0 to 3."""
    subject: str
    """Empty where the data set has none."""


@dataclass(frozen=True)
class Questions:
    """In the data set's order. ``revision`` and ``licence`` as in ``Texts``."""

    name: str
    records: tuple[Question, ...]
    revision: str
    licence: str | None


def read_questions(name: str, field: str, form: str | None = None) -> Questions:
    """Questions by name (``wmdp-bio``, ``mmlu``, ``mmlu-no-biology``, ``wmdp-bio-low-mi-…``, ``gene-ontology-cloze``),
    hub id, or folder with the columns ``question``, ``choices`` (four), ``answer`` (0 to 3) and perhaps ``subject``.

    ``form``: the named set that a folder or hub id is a copy of. ``field`` is the dotted path of the setting that names
    the questions (``evaluations.0.questions``). Raises ``SpecError`` there for questions that are not there, cannot be
    read, or have another form.
    """
    section, _, key = field.rpartition(".")
    source = Source(name, section, key, questions_place(name, field), HUB_QUESTIONS.get(form or name))
    found = open_records(source)
    dataset = found.load()
    source.need(dataset, QUESTION)
    kept = [_question(record, row, source) for row, record in enumerate(dataset)]
    if not kept:
        raise source.fault(f"{name} holds no questions", "name a set with at least a few hundred questions")
    return Questions(name, tuple(kept), found.revision, found.licence)


def _question(record: Mapping, row: int, source: Source) -> Question:
    match record:
        case {"question": str(question), "choices": [str(), str(), str(), str()] as choices, "answer": int(answer)}:
            if answer in range(4) and not isinstance(answer, bool):
                return Question(question, tuple(choices), answer, record.get("subject") or "")
    raise source.fault(
        f"record {row} of {source.name} is no multiple-choice question",
        "give every record a question, four choices as a list of texts, and the right one's number, 0 to 3, as answer",
    )
