"""Where large files are kept: a folder, or a bucket of anything that speaks S3. No database, no torch.

Credentials of a bucket come from the usual variables of the process (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_REGION``, and ``AWS_ENDPOINT_URL`` for others than Amazon's).
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from mudman.faults import MudmanError

VARIABLE = "MUDMAN_ARTIFACTS"
CHUNK = 1 << 20
"""Bytes of a part that is read, at least."""
T = TypeVar("T")


class ArtifactsUnavailable(MudmanError):
    """The place for artifacts does not answer, does not obey, or lacks what is asked for."""


class NoArtifacts(ArtifactsUnavailable):
    """No place for artifacts is configured."""


def location(given: str | Path | None) -> str | None:
    """As ``Artifacts`` takes it: an address (``s3://bucket/prefix``), or the absolute path of a folder."""
    text = str(given or "").strip()
    return None if not text else text if "://" in text else str(Path(text).expanduser().absolute())


def here() -> "Artifacts":
    """As this process is configured. Raises ``NoArtifacts``."""
    return Artifacts(location(os.environ.get(VARIABLE)))


class Artifacts:
    """Files by key (``st_…/0-1/model.safetensors``). Every call may raise ``ArtifactsUnavailable``."""

    def __init__(self, place: str | None):
        if place is None:
            raise NoArtifacts(
                f"no place is configured where checkpoints are kept. Remedy: set {VARIABLE} to a folder that all "
                "machines share, or to s3://bucket/prefix, for the API, the dispatcher and the nodes"
            )
        self.place = place
        # Not at the top: whoever keeps nothing needs no store.
        from obstore.store import LocalStore, S3Store

        def connect():
            if "://" not in place:
                return LocalStore(place, mkdir=True)
            plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
            # The second is of a whole answer, weights included.
            patience = {"connect_timeout": "20s", "timeout": "6h"}
            return S3Store.from_url(place, client_options={"allow_http": plain, **patience})

        if "://" in place and not place.startswith("s3://"):
            raise ArtifactsUnavailable(
                f"{place} is no place for artifacts. Remedy: name a folder, or s3://bucket/prefix"
            )
        self._store = self._do("cannot be opened", connect)

    def put(self, key: str, file: Path) -> None:
        """Whole or not at all."""
        import obstore

        self._do(f"does not take {key}", lambda: obstore.put(self._store, key, file))

    def put_bytes(self, key: str, content: bytes) -> None:
        import obstore

        self._do(f"does not take {key}", lambda: obstore.put(self._store, key, content))

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes from ``start`` up to, not including, ``end``, in parts. The first is asked for at once."""
        import obstore

        wanted: dict[str, Any] = {}
        if end is not None:
            wanted = {"range": (start, end)}
        elif start:
            wanted = {"range": {"offset": start}}
        found = self._do(f"does not give {key}", lambda: obstore.get(self._store, key, options=wanted))
        return (bytes(part) for part in found.stream(min_chunk_size=CHUNK))

    def size(self, key: str) -> int:
        import obstore

        return self._do(f"does not give {key}", lambda: obstore.head(self._store, key))["size"]

    def keys(self, prefix: str) -> list[str]:
        """Below a folder, at any depth."""
        import obstore

        def listed():
            return [found["path"] for part in obstore.list(self._store, f"{prefix}/") for found in part]

        return self._do("cannot be listed", listed)

    def remove(self, prefix: str) -> None:
        """A folder with all that is in it; of one that is not there, nothing."""
        import obstore

        if keys := self.keys(prefix):
            self._do(f"does not remove {prefix}", lambda: obstore.delete(self._store, keys))

    def _do(self, what: str, call: Callable[[], T]) -> T:
        from obstore.exceptions import BaseError

        try:
            return call()
        except (BaseError, OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ArtifactsUnavailable(
                f"the place for artifacts, {self.place}, {what}: {first}. Remedy: see that it is there and that this "
                "process may read and write it"
            ) from error
