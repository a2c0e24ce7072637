"""The file itself: a zip whose every byte follows from the files in it, and a manifest of their hashes.

Files are stored as they are, with fixed dates and modes, and what is large is compressed before. So a bundle can be
written again from its contents on any machine, and any byte that differs, of headers too, was changed.
"""

import filecmp
import gzip
import hashlib
import json
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

from mudman.faults import MudmanError

MANIFEST = "manifest.json"
_DATE = (1980, 1, 1, 0, 0, 0)
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
"""Names that stay below the folder that they are unpacked into, on any system."""
_HEADER, _PART = 30, 2**20
_LONGEST = 2**28
"""Bytes of one document, and of one line: more was not written by us."""


class NoBundle(MudmanError):
    """The file is no evidence bundle that can be read here."""


class Damaged(Exception):
    """A file of a bundle cannot be read; says why."""


class Writer:
    """Puts files into a bundle one after the other; memory does not grow with them."""

    def __init__(self, file: BinaryIO):
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)
        self._files: dict[str, dict[str, str | int]] = {}

    def add(self, name: str, content: bytes) -> None:
        with self._entry(name) as file:
            file.write(content)

    def document(self, name: str, document: Any) -> None:
        self.add(name, as_json(document))

    @contextmanager
    def lines(self, name: str) -> Iterator[Callable[[Any], None]]:
        """A compressed file of JSON documents; gives what writes one."""
        with self._entry(name) as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            yield lambda document: packed.write(as_json(document) + b"\n")

    def finish(self, about: Mapping[str, Any]) -> None:
        """Writes the manifest: ``about`` the bundle, and the hash of every file."""
        manifest = {**about, "files": self._files}
        _write(self._zip, MANIFEST, BytesIO(json.dumps(manifest, indent=1, ensure_ascii=False).encode()))
        self._zip.close()

    @contextmanager
    def _entry(self, name: str) -> Iterator["_Hashed"]:
        with _opened(self._zip, name) as file:
            hashed = _Hashed(file)
            yield hashed
        self._files[name] = {"sha256": hashed.digest.hexdigest(), "bytes": hashed.bytes}


class Reader:
    """A bundle that may come from anywhere: nothing of it is unpacked onto the disk, and no more read than is sane."""

    def __init__(self, path: Path):
        """Raises ``NoBundle``."""
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except (OSError, zipfile.BadZipFile, NotImplementedError, struct.error) as error:
            raise NoBundle(f"{path} is no zip archive that can be read: {error}") from error
        self.names = [entry.filename for entry in entries]
        self._entries = dict(zip(self.names, entries, strict=True))
        for name in self.names:
            if not _SAFE.fullmatch(name) or self._entries[name].compress_type or len(self._entries) < len(entries):
                raise NoBundle(f"{path} is no evidence bundle: it holds a file {name!r} that none has")
        try:
            self.manifest = json.loads(self.read(MANIFEST))
            self.hashes: dict[str, str] = {n: about["sha256"] for n, about in self.manifest["files"].items()}
        except (Damaged, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise NoBundle(f"{path} has no {MANIFEST} that can be read") from error

    def read(self, name: str) -> bytes:
        """Raises ``Damaged``."""
        with self.open(name) as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise Damaged("is longer than any that a bundle has")
        return content

    def document(self, name: str) -> Any:
        """Raises ``Damaged``."""
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise Damaged(f"is no JSON: {error}") from error

    def lines(self, name: str) -> Iterator[Any]:
        """The documents of a compressed file. Raises ``Damaged``."""
        try:
            with self.open(name) as file, gzip.GzipFile(fileobj=file) as packed:
                while line := packed.readline(_LONGEST):
                    yield json.loads(line)
        except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
            raise Damaged(f"cannot be read to its end: {error}") from error

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """The bytes as they lie there, whatever the archive's own checksum says. Raises ``Damaged``."""
        if (entry := self._entries.get(name)) is None:
            raise Damaged("is missing")
        with self._path.open("rb") as archive:
            archive.seek(entry.header_offset)
            header = archive.read(_HEADER)
            if len(header) < _HEADER:
                raise Damaged("lies beyond the end of the archive")
            archive.seek(sum(struct.unpack("<HH", header[26:30])), 1)
            yield BufferedReader(_Slice(archive, entry.file_size))

    def changed(self) -> Iterator[tuple[str, str]]:
        """Files that are not as the manifest has them, and what is wrong with each."""
        for name in sorted(self.hashes.keys() - self._entries.keys()):
            yield name, "is missing"
        for name in self.names:
            if name == MANIFEST:
                continue
            if name not in self.hashes:
                yield name, "is not in the manifest"
                continue
            try:
                with self.open(name) as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except Damaged as damage:
                yield name, str(damage)
                continue
            if found != self.hashes[name]:
                yield name, f"was changed: its SHA-256 is {found}, and {self.hashes[name]} in the manifest"

    def is_as_written(self) -> bool:
        """Whether the archive is byte for byte what its files make. Raises ``Damaged``."""
        with tempfile.NamedTemporaryFile() as again:
            with zipfile.ZipFile(again, "w", zipfile.ZIP_STORED) as archive:
                for name in self.names:
                    with self.open(name) as file:
                        _write(archive, name, file)
            again.flush()
            return filecmp.cmp(self._path, again.name, shallow=False)


def as_json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _opened(archive: zipfile.ZipFile, name: str) -> Any:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    return archive.open(entry, "w", force_zip64=name.endswith(".gz"))


def _write(archive: zipfile.ZipFile, name: str, content: BinaryIO) -> None:
    with _opened(archive, name) as file:
        while part := content.read(_PART):
            file.write(part)


class _Hashed(RawIOBase):
    """Passes on what is written, and hashes it."""

    def __init__(self, file: BinaryIO):
        self._file, self.digest, self.bytes = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.digest.update(content)
        self.bytes += len(content)
        return self._file.write(content)


class _Slice(RawIOBase):
    """The next so many bytes of a file."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(min(len(buffer), self._left))
        buffer[: len(content)] = content
        self._left -= len(content)
        return len(content)
