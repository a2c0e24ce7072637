"""Public data sets under names of their own, with everything needed to read them as the paper did.

Nothing is loaded here, and nothing heavy is imported.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mudman.data.cleaning import (
    bare_code,
    is_animal_abuse,
    is_false,
    is_no_biology,
    is_true,
    one_fact,
    plain,
    question_and_answer,
)

QUESTION = ("question", "choices", "answer")


@dataclass(frozen=True)
class NamedCorpus:
    """A data set of the hub, and how its records become texts."""

    name: str
    dataset: str
    columns: tuple[str, ...]
    """Columns a text is made of, in the order ``text`` takes them."""
    source: str
    licence: str | None
    """None where its card states none."""
    config: str | None = None
    split: str = "train"
    text: Callable[..., str] = plain
    """From the columns' values to a text."""
    only: tuple[str, Callable[[Any], bool]] | None = None
    """Column and condition on its value: other records are left out."""
    holds_questions: bool = False
    """Whether its records are multiple-choice questions, for evaluations too."""


_WIKITEXT = NamedCorpus(
    "wikitext",
    "Salesforce/wikitext",
    columns=("text",),
    source="WikiText-103, arXiv 1609.07843; one line of an article a record",
    licence="CC-BY-SA-3.0",
    config="wikitext-103-raw-v1",
)
_PYTHON = NamedCorpus(
    "codesearchnet-python",
    "Nan-Do/code-search-net-python",
    columns=("code",),
    source="CodeSearchNet, arXiv 1909.09436; Python functions of public repositories, which keep their own licences",
    licence="Apache-2.0",
    text=bare_code,
)
_PILE_BIO = NamedCorpus(
    "pile-bio-forget",
    "lapisrocks/pile-bio",
    columns=("txt_chunk",),
    source="biology texts of the Pile, labelled for hazard by a model; arXiv 2408.00761",
    licence=None,
    only=("label", is_true),
)
_BEAVERTAILS = NamedCorpus(
    "beavertails-cruelty",
    "PKU-Alignment/BeaverTails",
    columns=("response",),
    source="BeaverTails, arXiv 2307.04657; responses only, without their prompts",
    licence="CC-BY-NC-4.0",
    split="330k_train",
    only=("category", is_animal_abuse),
)
_WMDP = NamedCorpus(
    "wmdp-bio",
    "cais/wmdp",
    columns=QUESTION,
    source="WMDP, arXiv 2403.03218; questions with their right answers",
    licence="MIT",
    config="wmdp-bio",
    split="test",
    text=question_and_answer,
    holds_questions=True,
)
_MMLU = NamedCorpus(
    "mmlu",
    "cais/mmlu",
    columns=QUESTION,
    source="MMLU, arXiv 2009.03300; validation questions with their right answers",
    licence="MIT",
    config="all",
    split="validation",
    text=question_and_answer,
    holds_questions=True,
)
# Facts of one part tell little about those of the other: an attack on the first that brings back answers on the second
# shows that knowledge was hidden, not removed.
_LOW_MI = NamedCorpus(
    "wmdp-bio-low-mi-attack",
    "filypo/wmdp_bio_T",
    columns=("sentences",),
    source="deduplicated WMDP-Bio facts in two parts of low mutual information, arXiv 2410.08827, put into sentences "
    "by the authors of arXiv 2506.12484, https://github.com/filyp/unlearning",
    licence=None,
    text=one_fact,
    holds_questions=True,
)

HUB_CORPORA = {
    corpus.name: corpus
    for corpus in (
        _WIKITEXT,
        _PYTHON,
        _PILE_BIO,
        replace(_PILE_BIO, name="pile-bio-retain", only=("label", is_false)),
        _BEAVERTAILS,
        replace(_BEAVERTAILS, name="beavertails-safe", only=("is_safe", is_true)),
        _WMDP,
        _MMLU,
        replace(_MMLU, name="mmlu-no-biology", only=("subject", is_no_biology)),
        _LOW_MI,
        replace(_LOW_MI, name="wmdp-bio-low-mi-held-out", dataset="filypo/wmdp_bio_V"),
    )
}
HUB_QUESTIONS = {name: corpus for name, corpus in HUB_CORPORA.items() if corpus.holds_questions}
