"""Reads a stream of server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import json
from collections.abc import Iterable, Iterator
from typing import Any


def messages(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Name and data of each; ``event`` is what has no name, and ``alive``, without data, a comment."""
    name, data = "event", []
    for line in lines:
        field, _, value = line.partition(":")
        match field:
            case "" if line:
                yield "alive", None
            case "event":
                name = value.removeprefix(" ")
            case "data":
                data.append(value.removeprefix(" "))
            case "" if data:
                yield name, json.loads("\n".join(data))
        if not line:
            name, data = "event", []
