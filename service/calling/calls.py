"""A request and what its answer is read as; what is tried again; errors that a person can act on."""

import itertools
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

from mudman.faults import MudmanError

Document = dict[str, Any]
"""A JSON object of the API; its fields are described by the API's own OpenAPI document."""
T = TypeVar("T")

AGAIN = {502, 503, 504}
_PAUSES = (0.2, 0.5, 1.0, 2.0)


class Unreachable(MudmanError):
    """Nothing answers at the address, or what answers is no mudman API."""


class StillRunning(MudmanError):
    """What was waited for has not finished in time."""


class Refused(MudmanError):
    """The API answered with a problem document (RFC 9457)."""

    def __init__(self, status: int, problem: Document):
        self.status = status
        self.problem = problem
        lines = [str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")]
        for fault in problem.get("errors") or []:
            lines.append(
                f"{fault.get('path') or 'the document'}: {fault.get('detail')}. Remedy: {fault.get('remedy')}."
            )
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request."""

    method: str
    path: str
    request: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``httpx.Client.request``."""
    repeat: bool = False
    """It changes nothing, or nothing more the second time."""
    read: Callable[[httpx.Response], Any] = httpx.Response.json
    """What is taken from an answer that is a success."""
    then: Callable[[Any], T] | None = None
    """What is made of it."""
    any_status: bool = False
    """An answer that is no success is read in the same way."""


@dataclass(frozen=True)
class Pause:
    seconds: float


Steps = Generator[Call | Pause, Any, T]
"""Calls one after the other, each of which gives what its answer is read as, and at the end a result."""


@dataclass
class Listing:
    """A list that comes in pages."""

    path: str
    wanted: Document
    key: str = "cursor"
    """Parameter that takes ``next`` of the page before."""
    _more: bool = True

    def calls(self) -> Iterator[Call[Document]]:
        while self._more:
            yield Call("GET", self.path, {"params": self.wanted}, repeat=True)

    def items(self, page: Document) -> list[Document]:
        following = page.get("next")
        self._more, self.wanted = following is not None, self.wanted | {self.key: following}
        return page["items"]


def exchange(call: Call[T], url: str, patience: float) -> Generator[Call[T] | Pause, httpx.Response | None, T]:
    """Yields what is to be sent, and pauses; is given the answer, or an ``httpx.HTTPError`` thrown in.

    Raises ``Refused``, ``Unreachable``.
    """
    deadline = time.monotonic() + patience
    for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
        last = not call.repeat or time.monotonic() + pause > deadline
        try:
            answer = yield call
        except httpx.HTTPError as error:
            if last:
                raise unreachable(url, error) from error
        else:
            if answer.status_code not in AGAIN or last or call.any_status:
                found = read(url, answer, call.read, any_status=call.any_status)
                return found if call.then is None else call.then(found)
        yield Pause(pause)
    raise AssertionError("pauses never end")


def read(
    url: str,
    answer: httpx.Response,
    how: Callable[[httpx.Response], Any] = httpx.Response.json,
    *,
    any_status: bool = False,
) -> Any:
    """Raises ``Refused`` for a problem document, ``Unreachable`` for what no mudman API answers."""
    if answer.status_code == 204:
        return None
    try:
        if answer.is_success or any_status:
            return how(answer)
        body = answer.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and "title" in body:
        raise Refused(answer.status_code, body)
    raise Unreachable(
        f"{url} answers, but is no mudman API (HTTP status {answer.status_code}). "
        "Remedy: name the right address with --url or MUDMAN_URL"
    )


def unreachable(url: str, error: httpx.HTTPError) -> Unreachable:
    if isinstance(error, httpx.ConnectError):
        return Unreachable(
            f"nothing listens at {url}. Remedy: start it with `mudman up`, "
            "or name another address with --url or MUDMAN_URL"
        )
    return Unreachable(
        f"{url} does not answer ({type(error).__name__}: {error}). Remedy: look at its logs, then try again"
    )
