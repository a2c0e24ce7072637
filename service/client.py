"""Clients of the REST API, synchronous and asynchronous, with errors that a person can act on (docs/client.md).

What can be asked stands in ``service.calling.api``; here is how it is sent.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from service.calling.api import Api, part
from service.calling.calls import (
    Call,
    Document,
    Listing,
    Pause,
    Refused,
    Steps,
    StillRunning,
    Unreachable,
    exchange,
    read,
    unreachable,
)
from service.calling.following import BETWEEN, Following, Message
from service.files import whole

__all__ = ["AsyncClient", "Client", "Document", "Refused", "StillRunning", "Unreachable"]

T = TypeVar("T")
_MAKING = 600.0
"""Seconds that a server may take to make a bundle of a large comparison."""


class Client(Api):
    """Synchronous. Use it as a context manager, or close it."""

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 30.0, patience: float = 1.0):
        """``token``: default: as ``service.credentials`` finds it; it goes to ``url`` and nowhere else. ``timeout``:
        seconds that one request may take; ``patience``: seconds for which requests that may be repeated are tried again
        while nothing answers. Raises ``Unreachable`` for what is no address."""
        super().__init__(url, token=token, patience=patience)
        self._http = httpx.Client(timeout=timeout, **self._options)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def stream(self, study_id: str, *, after: int = 0) -> Iterator[Message]:
        """The study's live messages as (name, data), for ever: ``event`` for what happened, ``standing``, ``curves``;
        with nothing: ``alive``, where the server only says that it is there, and ``lost``, before a connection that was
        lost is made again where it was. Ends when the study is deleted."""
        path, place = f"/studies/{part(study_id)}/events", Following(self.url, self.patience, after)
        while True:
            try:
                with self._http.stream("GET", path, headers=place.headers()) as answer:
                    if not answer.is_success:
                        answer.read()
                    if place.takes(answer):
                        for line in answer.iter_lines():
                            yield from place.messages(line)
                            if place.over:
                                return
                place.lose()
            except httpx.HTTPError as error:
                place.lose(error)
            yield "lost", None
            time.sleep(BETWEEN)

    def bundle(self, study_id: str, file: Path) -> None:
        """Everything a study rests on, in one zip that `mudman verify` checks (docs/evidence.md)."""
        self._keep(f"/studies/{part(study_id)}/export", file)

    def bundle_comparison(self, comparison_id: str, file: Path) -> None:
        self._keep(f"/comparisons/{part(comparison_id)}/export", file)

    def download(self, path: str, start: int = 0) -> Iterator[bytes]:
        """A file at an address of the API from byte ``start`` on, in parts. Raises ``Unreachable`` if it breaks off."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with _explained(self.url), self._http.stream("GET", path, headers=headers) as answer:
            if not answer.is_success or (start and answer.status_code != 206):
                answer.read()
                read(self.url, answer)
            yield from answer.iter_bytes(1 << 20)

    def _keep(self, path: str, file: Path) -> None:
        with whole(file) as kept, _explained(self.url), self._http.stream("GET", path, **_BUNDLE) as answer:
            if not answer.is_success:
                answer.read()
                read(self.url, answer)
            for piece in answer.iter_bytes():
                kept.write(piece)

    def do(self, asked: Call[T] | Steps[T]) -> T:
        """Send a call, or go through steps."""
        if isinstance(asked, Call):
            return self._go(exchange(asked, self.url, self.patience), self._sent)
        return self._go(asked, self.do)

    def every(self, wanted: Listing) -> Iterator[Document]:
        for call in wanted.calls():
            yield from wanted.items(self.do(call))

    def _sent(self, call: Call) -> httpx.Response:
        return self._http.request(call.method, call.path, **call.request)

    def _go(self, steps: Steps[T], do: Callable[[Call], Any]) -> T:
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    found = do(step)
                except httpx.HTTPError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(found)
        except StopIteration as end:
            return end.value


class AsyncClient(Api):
    """As ``Client``, with methods to be awaited, and asynchronous iterators over lists and live messages."""

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 30.0, patience: float = 1.0):
        super().__init__(url, token=token, patience=patience)
        self._http = httpx.AsyncClient(timeout=timeout, **self._options)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def stream(self, study_id: str, *, after: int = 0) -> AsyncIterator[Message]:
        """As ``Client.stream``."""
        path, place = f"/studies/{part(study_id)}/events", Following(self.url, self.patience, after)
        while True:
            try:
                async with self._http.stream("GET", path, headers=place.headers()) as answer:
                    if not answer.is_success:
                        await answer.aread()
                    if place.takes(answer):
                        async for line in answer.aiter_lines():
                            for message in place.messages(line):
                                yield message
                            if place.over:
                                return
                place.lose()
            except httpx.HTTPError as error:
                place.lose(error)
            yield "lost", None
            await asyncio.sleep(BETWEEN)

    async def bundle(self, study_id: str, file: Path) -> None:
        """As ``Client.bundle``."""
        await self._keep(f"/studies/{part(study_id)}/export", file)

    async def bundle_comparison(self, comparison_id: str, file: Path) -> None:
        await self._keep(f"/comparisons/{part(comparison_id)}/export", file)

    async def download(self, path: str, start: int = 0) -> AsyncIterator[bytes]:
        """As ``Client.download``."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with _explained(self.url):
            async with self._http.stream("GET", path, headers=headers) as answer:
                if not answer.is_success or (start and answer.status_code != 206):
                    await answer.aread()
                    read(self.url, answer)
                async for piece in answer.aiter_bytes(1 << 20):
                    yield piece

    async def _keep(self, path: str, file: Path) -> None:
        with whole(file) as kept, _explained(self.url):
            async with self._http.stream("GET", path, **_BUNDLE) as answer:
                if not answer.is_success:
                    await answer.aread()
                    read(self.url, answer)
                async for piece in answer.aiter_bytes():
                    kept.write(piece)

    async def do(self, asked: Call[T] | Steps[T]) -> T:
        """Send a call, or go through steps."""
        if isinstance(asked, Call):
            return await self._go(exchange(asked, self.url, self.patience), self._sent)
        return await self._go(asked, self.do)

    async def every(self, wanted: Listing) -> AsyncIterator[Document]:
        for call in wanted.calls():
            for item in wanted.items(await self.do(call)):
                yield item

    async def _sent(self, call: Call) -> httpx.Response:
        return await self._http.request(call.method, call.path, **call.request)

    async def _go(self, steps: Steps[T], do: Callable[[Call], Any]) -> T:
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    found = await do(step)
                except httpx.HTTPError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(found)
        except StopIteration as end:
            return end.value


_BUNDLE = {"params": {"format": "bundle"}, "timeout": _MAKING}


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise unreachable(url, error) from error
