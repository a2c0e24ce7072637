"""A method of both clients from one definition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from service.calling.calls import Call, Document, Listing, Steps

if TYPE_CHECKING:
    from service.client import AsyncClient, Client

P, T = ParamSpec("P"), TypeVar("T")


class endpoint(Generic[P, T]):
    """Says what is to be asked; the client that it is called on asks, and answers ``T`` or an awaitable of it."""

    def __init__(self, function: Callable[Concatenate[Any, P], Call[T] | Steps[T]]):
        self.function, self.__doc__, self.__name__ = function, function.__doc__, function.__name__

    @overload
    def __get__(self, client: None, owner: type) -> endpoint[P, T]: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self if client is None else _bound(self.function, client, client.do)


class listing(Generic[P]):
    """As ``endpoint``, of what comes in pages: an iterator over all of it, or an asynchronous one."""

    def __init__(self, function: Callable[Concatenate[Any, P], Listing]):
        self.function, self.__doc__, self.__name__ = function, function.__doc__, function.__name__

    @overload
    def __get__(self, client: None, owner: type) -> listing[P]: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, Iterator[Document]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, AsyncIterator[Document]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self if client is None else _bound(self.function, client, client.every)


def _bound(function: Callable[..., Any], client: Any, do: Callable[[Any], Any]) -> Callable[..., Any]:
    asking = MethodType(function, client)

    @wraps(asking)
    def called(*arguments: Any, **named: Any) -> Any:
        return do(asking(*arguments, **named))

    return called
