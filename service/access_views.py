"""What the API answers about tokens and audit events."""

import datetime
from typing import Any

from pydantic import Field

from service.store.access_tables import AuditEvent, Token
from service.store.scopes import Scope
from service.view import View


class TokenView(View):
    id: str
    owner: str
    scope: Scope
    note: str
    created_at: datetime.datetime
    expires_at: datetime.datetime
    revoked_at: datetime.datetime | None
    used_at: datetime.datetime | None
    """Last use, to the minute."""


class NewTokenView(TokenView):
    token: str = Field(json_schema_extra={"readOnly": True})
    """The token itself. It is shown this once: only a hash of it is kept."""


class TokenList(View):
    items: list[TokenView]


class AuditEventView(View):
    id: int
    at: datetime.datetime
    token_id: str | None
    """Null: no token, none that is good, or the command line on the database itself."""
    owner: str | None
    address: str
    """Of the client; `local` for the command line."""
    method: str
    """Of HTTP; `CLI` for the command line."""
    path: str
    status: int
    """Outcome: the answer's HTTP status."""
    detail: str | None
    """Kind of problem, where it was refused; or what the command line did."""
    request_id: str | None
    """The answer's `X-Request-ID`, as in the log."""


class AuditPage(View):
    items: list[AuditEventView]
    """The newest first."""
    next: int | None
    """`before` of the next page; null on the last."""


def token_view(token: Token) -> TokenView:
    return TokenView(**_fields(TokenView, token))


def new_token_view(token: Token, value: str) -> NewTokenView:
    return NewTokenView(**_fields(TokenView, token), token=value)


def audit_event_view(event: AuditEvent) -> AuditEventView:
    return AuditEventView(**_fields(AuditEventView, event))


def _fields(view: type[View], row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in view.model_fields}
