"""What the hub may refuse, as faults of the field that named the repository."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from httpx2 import TransportError
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from mudman.faults import SpecError

HUB_ERRORS = (ConnectionError, HfHubHTTPError, LocalEntryNotFoundError, TransportError)


@contextmanager
def hub_faults(section: str, field: str, name: str, revision: str | None) -> Iterator[None]:
    """Errors of the hub inside become a ``SpecError`` at ``<section>.<field>`` or ``<section>.revision``."""
    try:
        yield
    except HUB_ERRORS as error:
        raise SpecError.at(*_said(error, section, field, name, revision)) from error
    except (OSError, RuntimeError) as error:
        refuse_full_disk(error, f"{section}.{field}", name)
        raise


def _said(error: Exception, section: str, field: str, name: str, revision: str | None) -> tuple[str, str, str]:
    path = f"{section}.{field}"
    match error:
        case GatedRepoError():
            return gated(path, name)
        case RevisionNotFoundError():
            return f"{section}.revision", f"{name} has no revision {revision!r}", "name a branch, tag or commit"
        case RepositoryNotFoundError():
            return path, f"the hub has no {name}, or it is private", "correct the id, or set HF_TOKEN on the workers"
        case HfHubHTTPError() if error.response is not None:
            return (
                path,
                f"{name} cannot be fetched: the hub answered {error.response.status_code}",
                "try again later, or name a local folder",
            )
        case _:
            return unreachable(path, name)


def unreachable(path: str, name: str) -> tuple[str, str, str]:
    return (
        path,
        f"{name} cannot be fetched: the hub cannot be reached",
        "give the workers access to the hub (HF_ENDPOINT names a mirror), or name a local folder",
    )


def gated(path: str, name: str) -> tuple[str, str, str]:
    return path, f"{name} is gated", "accept its licence on the hub and set HF_TOKEN on the workers"


def refuse_full_disk(error: BaseException | None, path: str, name: str) -> None:
    """Raises ``SpecError`` at ``path`` where a full disk is at the bottom of ``error``."""
    while error is not None:
        # Some libraries give the words alone: those of the system, or datasets' own when it looks beforehand.
        words = any(said in str(error) for said in ("No space left on device", "Not enough disk space"))
        if words or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise SpecError.at(
                path,
                f"{name} cannot be stored: the disk of the worker's cache is full",
                "free space there, or set HF_HOME on the workers to a folder on a larger disk",
            ) from error
        error = error.__cause__ or error.__context__


def first_line(error: Exception) -> str:
    """The gist of a library's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
