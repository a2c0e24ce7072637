"""How the records of public data sets become texts: small pure functions, free of heavy imports.

Sources of the rules: the data section of arXiv 2506.12484 and the published code.
"""

import re
from collections.abc import Mapping, Sequence

# Subjects close to biology, which the published MMLU bound leaves out: forgetting them is no collateral damage.
BIOLOGY = frozenset(
    {
        "anatomy",
        "clinical_knowledge",
        "college_biology",
        "college_medicine",
        "high_school_biology",
        "human_aging",
        "medical_genetics",
        "nutrition",
        "professional_medicine",
        "virology",
    }
)
_TRIPLE_QUOTED = re.compile(r'""".*?"""|\'\'\'.*?\'\'\'', re.DOTALL)


def plain(text: str) -> str:
    return text


def bare_code(code: str) -> str:
    """Without triple-quoted strings, without anything after ``#`` (a ``#`` in a string included, as published),
    blank lines removed, stripped."""
    code = re.sub(r"#.*", "", _TRIPLE_QUOTED.sub("", code))
    return re.sub(r"\n\s*\n", "\n", code).strip()


def question_and_answer(question: str, choices: Sequence[str], answer: int) -> str:
    """A multiple-choice question as text: the question, then its right answer in words."""
    return f"{question.strip()}\nAnswer: {choices[answer].strip()}"


def one_fact(sentences: Sequence[str]) -> str:
    """All sentences that state the same fact, one per line: facts, not sentences, are then what a split divides."""
    return "\n".join(sentences)


def is_true(value: bool) -> bool:
    return value is True


def is_false(value: bool) -> bool:
    return value is False


def is_animal_abuse(categories: Mapping[str, bool]) -> bool:
    """Flag of BeaverTails for cruelty to animals."""
    return categories["animal_abuse"]


def is_no_biology(subject: str) -> bool:
    return subject not in BIOLOGY
