"""Answers that are files to be kept."""

import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

from fastapi import Response
from fastapi.responses import StreamingResponse

_PART = 2**18


def attachment(content: str | bytes, media_type: str, name: str) -> Response:
    """``name``: made of an id, which needs no quoting."""
    return Response(content, media_type=media_type, headers=_headers(name))


def bundled(name: str, write: Callable[[BinaryIO], None]) -> Response:
    """A zip, written into a file that is no longer there once it was sent.

    Not sent while it is made: a client that reads slowly would hold a transaction open, and one that is told a length
    knows whether it got all. Errors of ``write`` are answers like any other's.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it was sent
    try:
        write(file)
    except BaseException:
        file.close()
        raise
    size = file.seek(0, 2)
    file.seek(0)
    headers = _headers(name) | {"Content-Length": str(size)}
    return StreamingResponse(_parts(file), media_type="application/zip", headers=headers)


def _parts(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while part := file.read(_PART):
            yield part


def _headers(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
