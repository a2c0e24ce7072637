"""What a spec may name: packaged models and texts, data sets and models of the hub, folders under the data root.

Knows names and places only; nothing is loaded here, and nothing heavy is imported.
"""

import difflib
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from mudman import packaged, simulation
from mudman.data.named import HUB_CORPORA, HUB_QUESTIONS, NamedCorpus
from mudman.faults import FieldFault, SpecError, checked
from mudman.packaged import PackagedText
from mudman.specs import CorpusSpec, ModelSpec, StudySpec
from mudman.specs.evaluations import MultipleChoiceEvaluation

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Place:
    """Where a name leads: a folder or file on this machine, or an id on the hub."""

    kind: Literal["packaged", "folder", "hub"]
    path: Path | None = None
    hub_id: str | None = None
    licence: str | None = None
    """Where it is known from the name alone."""


def data_root() -> Path:
    """Folder below which a spec may name local folders: ``MUDMAN_DATA_ROOT``, by default the current folder."""
    return Path(os.environ.get("MUDMAN_DATA_ROOT", ".")).resolve()


def model_place(model: ModelSpec, root: Path | None = None) -> Place:
    """Raises ``SpecError`` at ``model.id`` for an unknown name or a folder that is not there or not allowed."""
    if model.id in packaged.MODELS:
        return Place("packaged", path=packaged.MODELS[model.id].path)
    return _place("model.id", model.id, [*packaged.MODELS, simulation.MODEL_ID], root)


def corpus_place(corpus: CorpusSpec, field: str, root: Path | None = None) -> Place:
    """Likewise at ``<field>.corpus``."""
    return _data_place(corpus.corpus, f"{field}.corpus", packaged.TEXTS, HUB_CORPORA, root)


def corpus_form(corpus: CorpusSpec, field: str) -> NamedCorpus | None:
    """As which named corpus its records are read. Raises ``SpecError`` at ``<field>.form`` or ``<field>.column``."""
    if corpus.form is None:
        form = HUB_CORPORA.get(corpus.corpus)
    elif corpus.corpus in packaged.TEXTS or corpus.corpus in HUB_CORPORA:
        raise SpecError.at(f"{field}.form", f"{corpus.corpus} has a form of its own", "leave form out")
    elif corpus.form not in HUB_CORPORA:
        raise SpecError.at(f"{field}.form", f"{corpus.form!r} is not known", f"one of {', '.join(HUB_CORPORA)}")
    else:
        form = HUB_CORPORA[corpus.form]
    if form and len(form.columns) > 1 and corpus.column:
        raise SpecError.at(
            f"{field}.column", f"texts of the form {form.name} are made of {', '.join(form.columns)}", "leave it out"
        )
    return form


def questions_place(name: str, field: str, root: Path | None = None) -> Place:
    """Where multiple-choice questions are. Raises ``SpecError`` at ``field``."""
    return _data_place(name, field, packaged.QUESTIONS, HUB_QUESTIONS, root)


def _check_questions_form(evaluation: MultipleChoiceEvaluation, field: str) -> None:
    if evaluation.questions in packaged.QUESTIONS or evaluation.questions in HUB_QUESTIONS:
        raise SpecError.at(field, f"{evaluation.questions} has a form of its own", "leave form out")
    if evaluation.form not in HUB_QUESTIONS:
        raise SpecError.at(field, f"{evaluation.form!r} is not known", f"one of {', '.join(HUB_QUESTIONS)}")


def _data_place(
    name: str, field: str, shipped: dict[str, PackagedText], named: dict[str, NamedCorpus], root: Path | None
) -> Place:
    if name in shipped:
        return Place("packaged", path=shipped[name].path, licence=shipped[name].licence)
    if name in named:
        return Place("hub", hub_id=named[name].dataset, licence=named[name].licence)
    return _place(field, name, [*shipped, *named], root)


def source_faults(spec: StudySpec, root: Path | None = None) -> list[FieldFault]:
    """Faults of the names in a spec that can be seen without a network or a GPU."""
    if spec.model.id == simulation.MODEL_ID:
        return []
    corpora = {"forget": spec.forget, "retain": spec.retain, "attack.texts": spec.attack.texts}
    named = {field: corpus for field, corpus in corpora.items() if corpus is not None}
    try:
        checked(
            lambda: model_place(spec.model, root),
            *(partial(corpus_place, corpus, field, root) for field, corpus in named.items()),
            *(partial(corpus_form, corpus, field) for field, corpus in named.items()),
            *(
                partial(_check_questions_form, evaluation, f"evaluations.{index}.form")
                for index, evaluation in enumerate(spec.evaluations)
                if getattr(evaluation, "form", None)
            ),
            *(
                partial(questions_place, evaluation.questions, f"evaluations.{index}.questions", root)
                for index, evaluation in enumerate(spec.evaluations)
                if hasattr(evaluation, "questions")
            ),
        )
    except SpecError as error:
        return error.faults
    return []


def _place(field: str, name: str, known: list[str], root: Path | None) -> Place:
    if name.startswith((".", "/", "~")):
        return Place("folder", path=_folder(field, name, (root or data_root()).resolve()))
    if _HUB_ID.fullmatch(name) and ".." not in name:
        return Place("hub", hub_id=name)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    full = "openai-community/gpt2" if field == "model.id" else "stanfordnlp/imdb"
    raise SpecError.at(
        field,
        f"{name!r} is not known",
        f"{hint}take one of {', '.join(known)}, a hub id with its owner (such as {full}, also where "
        f"the hub knows the short name), or a folder under the data root (./{name})",
    )


def _folder(field: str, name: str, root: Path) -> Path:
    try:
        path = (root / Path(name).expanduser()).resolve()
        inside, there = path.is_relative_to(root), path.exists()
        leading = _leading_outside(path, root) if inside else None
    except (OSError, RuntimeError) as error:  # a loop of links, no such user, no permission
        raise SpecError.at(field, f"{name} cannot be followed: {error}", "correct the path") from None
    if not inside:
        raise SpecError.at(
            field,
            f"{name} lies outside the data root {root}",
            "move it there, or start with MUDMAN_DATA_ROOT set to a folder above it",
        )
    if not there:
        raise SpecError.at(
            field,
            f"there is no {name} in the data root {root}",
            "correct the path; relative paths start at the data root (MUDMAN_DATA_ROOT)",
        )
    if leading:
        raise SpecError.at(
            field,
            f"{name} holds a link that leads outside the data root: {leading}",
            "put what it leads to in its place, or below the data root",
        )
    return path


def _leading_outside(path: Path, root: Path) -> Path | None:
    """The first link below ``path`` whose end is not below ``root``; links within it, as the hub's cache has, are
    followed."""
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            one = Path(folder, name)
            if one.is_symlink() and not one.resolve().is_relative_to(root):
                return one
    return None
