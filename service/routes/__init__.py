"""Routes parse, call the store within one transaction, and answer. One file per thing that is addressed."""

from typing import Annotated

from fastapi import Depends, Request

from service.store.database import Database
from service.store.settings import Settings


def _database(request: Request) -> Database:
    return request.app.state.database


def _settings(request: Request) -> Settings:
    return request.app.state.settings


Store = Annotated[Database, Depends(_database)]
Configuration = Annotated[Settings, Depends(_settings)]
