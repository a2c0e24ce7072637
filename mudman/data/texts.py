"""The texts of a corpus: packaged, from the hub, or from a folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datasets import Dataset

from mudman.data.cleaning import bare_code, plain
from mudman.data.records import Records, Source, open_records
from mudman.faults import SpecError
from mudman.registry import corpus_form, corpus_place
from mudman.specs import CorpusSpec

_MISFIT = (AttributeError, IndexError, KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class Texts:
    """``records[i]`` is a text, empty where the corpus has none; ``revision`` says which state of the corpus it is."""

    records: Sequence[str]
    revision: str
    licence: str | None


@dataclass(frozen=True)
class Corpus:
    """A corpus whose state is known and whose texts are read when they are asked for."""

    spec: CorpusSpec
    source: Source
    found: Records

    @property
    def revision(self) -> str:
        return self.found.revision

    @property
    def licence(self) -> str | None:
        return self.found.licence

    def read(self) -> Texts:
        """All texts, in the corpus's own order.

        Raises ``SpecError`` for a corpus that cannot be read, lacks the column, or holds no text.
        """
        form = self.source.form
        columns = (self.spec.column,) if self.spec.column else form.columns if form else ("text",)
        text = form.text if form else plain
        dataset = self.found.load()
        self.source.need(dataset, columns, f"{self.source.section}.column")
        if text in (plain, bare_code):
            self._check_text(dataset, columns[0])
        if not len(dataset):
            raise self.source.empty()
        return Texts(
            _Made(dataset.select_columns(list(columns)), columns, text, self.source), self.revision, self.licence
        )

    def _check_text(self, dataset: Dataset, column: str) -> None:
        if getattr(dataset.features[column], "dtype", None) not in ("string", "large_string"):
            raise SpecError.at(
                f"{self.source.section}.column",
                f"column {column!r} of {self.spec.corpus} does not hold text",
                "name a column of strings",
            )


def open_corpus(corpus: CorpusSpec, field: str) -> Corpus:
    """Finds a corpus. ``field`` (``forget``, ``retain``) leads the paths of faults.

    Raises ``SpecError`` for a corpus that is not there, or that the hub refuses.
    """
    source = Source(
        corpus.corpus,
        field,
        "corpus",
        corpus_place(corpus, field),
        corpus_form(corpus, field),
        corpus.config,
        corpus.revision,
        corpus.split,
    )
    return Corpus(corpus, source, open_records(source))


@dataclass(frozen=True)
class _Made(Sequence):
    """Texts made from records one by one: a budget needs a small part of a large corpus."""

    dataset: Dataset
    columns: tuple[str, ...]
    text: Callable[..., str]
    source: Source

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> str:
        record = self.dataset[index]
        values = [record[column] for column in self.columns]
        if any(value is None for value in values):
            return ""
        try:
            return self.text(*values)
        except _MISFIT as error:
            raise self.source.fault(
                f"record {index} of {self.source.name} is not of the form {self.source.form.name}",
                f"give it the columns of {self.source.form.dataset}",
            ) from error
