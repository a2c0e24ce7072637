"""Where one stands in a study's live messages, over any number of connections."""

import time
from collections.abc import Iterator

import httpx

from service.calling.calls import AGAIN, Document, Unreachable, read, unreachable
from service.server_sent import Reader

Message = tuple[str, Document | None]
BETWEEN = 0.5
"""Seconds until a lost connection is made again."""


class Following:
    """``Client.stream`` without its input and output."""

    def __init__(self, url: str, patience: float, after: int):
        self._url, self._patience, self._after = url, patience, after
        self._lost: float | None = time.monotonic()
        self._reader = Reader()
        self.over = False
        """The study was deleted."""

    def headers(self) -> dict[str, str]:
        """Of the next connection."""
        self._reader = Reader()
        return {"Accept": "text/event-stream", "Last-Event-ID": str(self._after)}

    def takes(self, answer: httpx.Response) -> bool:
        """Whether messages come; False where the server is away, for now. Raises ``Refused`` for an answer that was
        read and is no success."""
        if answer.status_code in AGAIN:
            return False
        if not answer.is_success:
            read(self._url, answer)
        return True

    def messages(self, line: str) -> Iterator[Message]:
        """Those that end with this line."""
        if self.over or (message := self._reader.feed(line)) is None:
            return
        self._lost = None
        name, data = message
        if name == "deleted":
            self.over = True
            return
        if name == "event":
            self._after = data["sequence"]
        yield message

    def lose(self, error: httpx.HTTPError | None = None) -> None:
        """The connection is gone. Raises ``Unreachable`` when it has been for longer than patience lasts."""
        self._lost = self._lost or time.monotonic()
        if time.monotonic() - self._lost > self._patience:
            if error is not None:
                raise unreachable(self._url, error) from error
            raise Unreachable(f"{self._url} does not answer. Remedy: look at its logs, then try again")
