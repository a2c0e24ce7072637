"""Opening a data set: packaged, from the hub, or from a folder. What its records mean is not known here."""

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset, load_dataset_builder, load_from_disk
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from httpx2 import TransportError
from huggingface_hub import HfApi

from mudman.data.named import NamedCorpus
from mudman.faults import SpecError
from mudman.hub import HUB_ERRORS, first_line, gated, hub_faults, refuse_full_disk, unreachable
from mudman.registry import Place

# What datasets raises for files that are damaged, of another kind, or at odds with each other.
_UNREADABLE = (AttributeError, DatasetsError, KeyError, OSError, TypeError, ValueError)


@dataclass(frozen=True)
class Source:
    """A data set as a spec names it: by the value of ``<section>.<key>``."""

    name: str
    section: str
    key: str
    place: Place
    form: NamedCorpus | None = None
    """How its records are read; gives config, split and the records to keep."""
    config: str | None = None
    revision: str | None = None
    split: str | None = None

    @property
    def path(self) -> str:
        """Where its faults are told."""
        return f"{self.section}.{self.key}"

    def fault(self, message: str, remedy: str) -> SpecError:
        return SpecError.at(self.path, message, remedy)

    def empty(self) -> SpecError:
        return self.fault(f"{self.name} holds no text", "name a corpus with at least a few hundred texts")

    def need(self, dataset: Dataset, columns: tuple[str, ...], path: str | None = None) -> None:
        """Raises ``SpecError`` at ``path`` for the first column that is not there."""
        for column in columns:
            if column not in dataset.column_names:
                raise SpecError.at(
                    path or self.path,
                    f"{self.name} has no column {column!r}",
                    f"one of {', '.join(dataset.column_names)}",
                )


@dataclass(frozen=True)
class Records:
    revision: str
    """Commit on the hub, else ``sha256:`` over the files' names, sizes and contents."""
    licence: str | None
    load: Callable[[], Dataset]
    """The records of the split, without those that the form leaves out. Raises ``SpecError``."""


def open_records(source: Source) -> Records:
    """Finds the state of a data set; its records are read when they are asked for.

    Raises ``SpecError`` for one that is not there or that the hub refuses.
    """
    match source.place.kind:
        case "packaged":
            path = source.place.path
            return Records(
                fingerprint(path),
                source.place.licence,
                lambda: _kept(_split({"train": _packaged(path)}, source), source),
            )
        case "folder":
            return Records(_fingerprint(source), None, lambda: _kept(_split(_folder(source), source), source))
        case _:
            return _hub(source)


def fingerprint(path: Path) -> str:
    """``sha256:`` and the hash over names, sizes and contents of a file, or of all files below a folder."""
    digest = hashlib.sha256()
    above = path if path.is_dir() else path.parent
    for file in sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]:
        digest.update(f"{file.relative_to(above).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def _fingerprint(source: Source) -> str:
    try:
        return fingerprint(source.place.path)
    except OSError as error:
        raise source.fault(
            f"{source.name} cannot be read: {first_line(error)}", "give the workers leave to read it"
        ) from error


def _packaged(path: Path) -> Dataset:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return Dataset.from_list([json.loads(line) for line in lines])


# Folders --------------------------------------------------------------------------------------------------------------


def _folder(source: Source) -> dict[str, Dataset]:
    """By split."""
    path = source.place.path
    try:
        if path.is_dir() and any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
            dataset = load_from_disk(path)
        elif path.is_dir():
            dataset = _load(str(path), source.config)
        else:
            dataset = _load(str(path.parent), data_files=path.name)
    except (StopIteration, IndexError) as error:  # what datasets makes of files without a record
        raise source.empty() from error
    except _UNREADABLE as error:
        refuse_full_disk(error, source.path, source.name)
        raise source.fault(
            f"{source.name} cannot be read as a data set: {first_line(error)}",
            "give a folder of .jsonl, .parquet, .csv or .txt files, or one made by save_to_disk",
        ) from error
    return dataset if isinstance(dataset, DatasetDict) else {"train": dataset}


def _load(*where: str | None, **files: str) -> DatasetDict:
    """Plain text by paragraphs: a line of prose is seldom long enough for an example."""
    plain = hasattr(load_dataset_builder(*where, **files).config, "sample_by")
    return load_dataset(*where, **files, **({"sample_by": "paragraph"} if plain else {}))


def _split(splits: dict[str, Dataset], source: Source) -> Dataset:
    """The split that is named, else the one of the form, else ``train``; of questions, whose files are seldom called
    so, the only one."""
    if source.split is None and source.form and source.form.split in splits:
        return splits[source.form.split]
    if source.split is None and source.key == "questions" and len(splits) == 1:
        return next(iter(splits.values()))
    split = source.split or "train"
    if split not in splits:
        raise SpecError.at(
            f"{source.section}.split", f"{source.name} has no split {split!r}", f"one of {', '.join(map(str, splits))}"
        )
    return splits[split]


# The hub --------------------------------------------------------------------------------------------------------------


def _hub(source: Source) -> Records:
    with _faults(source):
        commit = _commit(source.place.hub_id, source.revision)
    licence = source.place.licence
    if commit:
        return Records(commit, licence, lambda: _kept(_fetched(source, commit)[0], source))
    dataset, found = _fetched(source, None)
    return Records(found, licence, lambda: _kept(dataset, source))


def _faults(source: Source):
    return hub_faults(source.section, source.key, source.place.hub_id, source.revision)


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


def _fetched(source: Source, commit: str | None) -> tuple[Dataset, str]:
    """The split of a data set of the hub, and the commit it is of."""
    hub_id, form = source.place.hub_id, source.form
    config = source.config or (form.config if form else None)
    split = source.split or (form.split if form else "train")
    with _faults(source):
        try:
            dataset = load_dataset(hub_id, config, split=split, revision=commit)
        except HUB_ERRORS:
            raise
        except (StopIteration, IndexError) as error:
            raise source.empty() from error
        except _UNREADABLE as error:
            refuse_full_disk(error, source.path, hub_id)
            # What a gated data set says of itself is public, its files are not.
            if isinstance(error, DatasetNotFoundError) and HfApi().dataset_info(hub_id, revision=commit).gated:
                raise SpecError.at(*gated(source.path, hub_id)) from error
            raise source.fault(
                f"{hub_id} cannot be read: {first_line(error)}", "check config and split against the data set's card"
            ) from error
    if not len(dataset):
        raise source.empty()
    found = Path(dataset.cache_files[0]["filename"]).parent.name  # datasets keeps each commit in a folder of its name
    if commit not in (None, found):  # without the hub datasets takes any state that it holds
        raise SpecError.at(*unreachable(source.path, hub_id))
    return dataset, found


def _kept(dataset: Dataset, source: Source) -> Dataset:
    """Without the records that the form leaves out."""
    if not (source.form and source.form.only):
        return dataset
    column, condition = source.form.only
    source.need(dataset, (column,))
    try:
        batches = dataset.select_columns([column]).iter(1000)
        values = (value for batch in batches for value in batch[column])
        kept = [row for row, value in enumerate(values) if condition(value)]
    except (KeyError, TypeError) as error:
        raise source.fault(
            f"column {column!r} of {source.name} is not of the form {source.form.name}",
            f"give it the columns of {source.form.dataset}",
        ) from error
    return dataset.select(kept)
