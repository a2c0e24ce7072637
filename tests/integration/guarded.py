"""The API with access on, and tokens for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi.testclient import TestClient

from service.app import create_app
from service.store import tokens
from service.store.database import Database
from service.store.scopes import Scope
from service.store.settings import Settings


def token(database: Database, owner: str, scope: str = "submit", days: int = 1) -> str:
    value = tokens.new_text()
    with database.begin() as session:
        tokens.create(session, owner=owner, scope=Scope(scope), days=days, value=value)
    return value


def shown(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


@contextmanager
def guarded(database: Database, **settings: Any) -> Iterator[TestClient]:
    """``raise_server_exceptions`` is off: errors come back as answers, as over the network."""
    app = create_app(Settings(database_url=database.url, access="tokens", **settings))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
