"""Reading the texts of a corpus: packaged, from the hub, or from a folder."""

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset, load_dataset_builder, load_from_disk
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from httpx2 import TransportError
from huggingface_hub import HfApi

from mudman import packaged
from mudman.faults import SpecError
from mudman.hub import HUB_ERRORS, first_line, gated, hub_faults, refuse_full_disk, unreachable
from mudman.registry import HUB_CORPORA, corpus_place
from mudman.specs import CorpusSpec

# What datasets raises for files that are damaged, of another kind, or at odds with each other.
_UNREADABLE = (AttributeError, DatasetsError, KeyError, OSError, TypeError, ValueError)


@dataclass(frozen=True)
class Texts:
    """``records[i]`` is a text; ``revision`` says which state of the corpus they are."""

    records: Sequence[str]
    revision: str
    licence: str | None


def read_texts(corpus: CorpusSpec, field: str) -> Texts:
    """All texts of a corpus, in its own order. ``field`` (``forget``, ``retain``) leads the paths of faults.

    Raises ``SpecError`` for a corpus that is not there, cannot be read, lacks the column, or holds no text.
    """
    place = corpus_place(corpus, field)
    if place.kind == "packaged":
        dataset = _split({"train": _read_packaged(place.path)}, corpus, field)
        texts = Texts(_column(dataset, corpus, field), "packaged", packaged.TEXTS[corpus.corpus].licence)
    elif place.kind == "folder":
        dataset = _split(_read_folder(place.path, corpus, field), corpus, field)
        texts = Texts(_column(dataset, corpus, field), "folder", None)
    else:
        texts = _read_hub(place.hub_id, corpus, field)
    if not len(texts.records):
        raise _no_text(corpus, field)
    return texts


def _read_packaged(path: Path) -> Dataset:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return Dataset.from_list([json.loads(line) for line in lines])


def _read_hub(hub_id: str, corpus: CorpusSpec, field: str) -> Texts:
    named = HUB_CORPORA.get(corpus.corpus)
    split = corpus.split or (named.split if named else "train")
    config = corpus.config or (named.config if named else None)
    path = f"{field}.corpus"
    with hub_faults(field, "corpus", hub_id, corpus.revision):
        commit = _commit(hub_id, corpus.revision)
        try:
            dataset = load_dataset(hub_id, config, split=split, revision=commit)
        except HUB_ERRORS:
            raise
        except (StopIteration, IndexError) as error:
            raise _no_text(corpus, field) from error
        except _UNREADABLE as error:
            refuse_full_disk(error, path, hub_id)
            # What a gated data set says of itself is public, its files are not.
            if isinstance(error, DatasetNotFoundError) and HfApi().dataset_info(hub_id, revision=commit).gated:
                raise SpecError.at(*gated(path, hub_id)) from error
            raise SpecError.at(
                path,
                f"{hub_id} cannot be read: {first_line(error)}",
                "check config and split against the data set's card",
            ) from error
    if not len(dataset):
        raise _no_text(corpus, field)
    found = Path(dataset.cache_files[0]["filename"]).parent.name  # datasets keeps each commit in a folder of its name
    if commit not in (None, found):  # without the hub datasets takes any state that it holds
        raise SpecError.at(*unreachable(path, hub_id))
    return Texts(_column(dataset, corpus, field, named.column if named else "text"), found, named and named.licence)


def _commit(hub_id: str, revision: str | None) -> str | None:
    """The commit that a revision names. None: the hub cannot be reached, and any state that is cached will do."""
    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    try:
        return HfApi().dataset_info(hub_id, revision=revision).sha
    except (ConnectionError, TransportError):
        if revision is None:
            return None
        raise


def _read_folder(path: Path, corpus: CorpusSpec, field: str) -> dict[str, Dataset]:
    """By split."""
    try:
        if path.is_dir() and any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
            dataset = load_from_disk(path)
        elif path.is_dir():
            dataset = _load(str(path), corpus.config)
        else:
            dataset = _load(str(path.parent), data_files=path.name)
    except (StopIteration, IndexError) as error:  # what datasets makes of files without a record
        raise _no_text(corpus, field) from error
    except _UNREADABLE as error:
        refuse_full_disk(error, f"{field}.corpus", corpus.corpus)
        raise SpecError.at(
            f"{field}.corpus",
            f"{corpus.corpus} cannot be read as a data set: {first_line(error)}",
            "give a folder of .jsonl, .parquet, .csv or .txt files, or one made by save_to_disk",
        ) from error
    return dataset if isinstance(dataset, DatasetDict) else {"train": dataset}


def _load(*where: str | None, **files: str) -> DatasetDict:
    """Plain text by paragraphs: a line of prose is seldom long enough for an example."""
    plain = hasattr(load_dataset_builder(*where, **files).config, "sample_by")
    return load_dataset(*where, **files, **({"sample_by": "paragraph"} if plain else {}))


def _split(splits: dict[str, Dataset], corpus: CorpusSpec, field: str) -> Dataset:
    split = corpus.split or "train"
    if split not in splits:
        raise SpecError.at(
            f"{field}.split", f"{corpus.corpus} has no split {split!r}", f"one of {', '.join(map(str, splits))}"
        )
    return splits[split]


def _no_text(corpus: CorpusSpec, field: str) -> SpecError:
    return SpecError.at(
        f"{field}.corpus", f"{corpus.corpus} holds no text", "name a corpus with at least a few hundred texts"
    )


def _column(dataset: Dataset, corpus: CorpusSpec, field: str, default: str = "text") -> Sequence[str]:
    column = corpus.column or default
    if column not in dataset.column_names:
        raise SpecError.at(
            f"{field}.column", f"{corpus.corpus} has no column {column!r}", f"one of {', '.join(dataset.column_names)}"
        )
    if getattr(dataset.features[column], "dtype", None) not in ("string", "large_string"):
        raise SpecError.at(
            f"{field}.column", f"column {column!r} of {corpus.corpus} does not hold text", "name a column of strings"
        )
    return dataset[column]
