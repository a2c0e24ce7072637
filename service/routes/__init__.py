"""Routes parse, call the store within one transaction, and answer. One file per thing that is addressed."""

from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import Field

from service.access.caller import Caller
from service.store.database import Database
from service.store.settings import Settings


def _database(request: Request) -> Database:
    return request.app.state.database


def _settings(request: Request) -> Settings:
    return request.app.state.settings


def _caller(request: Request) -> Caller:
    return request.state.caller


Store = Annotated[Database, Depends(_database)]
Configuration = Annotated[Settings, Depends(_settings)]
Who = Annotated[Caller, Depends(_caller)]

_NO_NUL = r"^[^\x00]*$"
"""What Postgres takes as text."""
Text = Annotated[str, Field(max_length=200, pattern=_NO_NUL)]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=_NO_NUL,
        description="Chosen by the client; the same request under the same key is done once.",
    ),
]
