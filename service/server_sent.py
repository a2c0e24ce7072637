"""Reads a stream of server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

Message = tuple[str, dict[str, Any] | None]
"""Name and data; ``event`` is what has no name, and ``alive``, without data, a comment."""


class Reader:
    """Takes the lines of one stream, as they come."""

    def __init__(self) -> None:
        self._name, self._data = "event", []

    def feed(self, line: str) -> Message | None:
        """The message that ends with this line."""
        field, _, value = line.partition(":")
        if not line:
            name, data, self._name, self._data = self._name, self._data, "event", []
            return (name, json.loads("\n".join(data))) if data else None
        match field:
            case "":
                return "alive", None
            case "event":
                self._name = value.removeprefix(" ")
            case "data":
                self._data.append(value.removeprefix(" "))
        return None


def messages(lines: Iterable[str]) -> Iterator[Message]:
    reader = Reader()
    for line in lines:
        if (message := reader.feed(line)) is not None:
            yield message
