"""Our tables about who may do what, and who did."""

import datetime

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables import Table


class Token(Table):
    """A bearer token. Of its text only a hash is kept: a copy of this table lets nobody in."""

    __tablename__ = "token"
    __table_args__ = (
        CheckConstraint("scope in ('read', 'submit', 'admin')", name="scope"),
        Index("ix_token_hash", "hash", unique=True),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """Public: it stands in logs, lists and audit events."""
    hash: Mapped[str]
    owner: Mapped[str]
    """In whose name it acts: of the studies that are made with it, and for quotas."""
    scope: Mapped[str]
    note: Mapped[str]
    """For people: where it is used."""
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime.datetime]
    revoked_at: Mapped[datetime.datetime | None]
    used_at: Mapped[datetime.datetime | None]
    """Last use, to the minute."""


class AuditEvent(Table):
    """Somebody changed something, or was refused. Never updated; dropped when it is old."""

    __tablename__ = "audit_event"
    __table_args__ = (Index("ix_audit_event_at", "at", postgresql_using="brin"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    token_id: Mapped[str | None]
    """Null: no token, none that is known, or the command line on the database itself."""
    owner: Mapped[str | None]
    address: Mapped[str]
    """Of the client; ``local`` for the command line."""
    method: Mapped[str]
    """Of HTTP; ``CLI`` for the command line."""
    path: Mapped[str]
    status: Mapped[int]
    """Outcome: the answer's HTTP status."""
    detail: Mapped[str | None]
    """Kind of problem, of what was refused; or what the command line did."""
    request_id: Mapped[str | None]
    """The answer's ``X-Request-ID``, as in the log."""
