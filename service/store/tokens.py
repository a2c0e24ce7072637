"""Bearer tokens (RFC 6750): made, recognised, listed, revoked. Their clock is the database's.

A token is 256 random bits, so that its hash needs neither salt nor slowness: no list of likely ones can be tried.
Each request looks its token up, so that a revoked one is refused at once, by every process.
"""

import datetime
import hashlib
import re
import secrets
from dataclasses import dataclass

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from service.store.access_tables import Token
from service.store.scopes import Scope
from service.store.tables import SCHEMA

PREFIX = "mudman_"
"""By which people, and programs that look for secrets in commits, know one."""
LONGEST_DAYS = 3650
_FORM = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43,200}}", re.ASCII)


class UnknownToken(MudmanError):
    """No token has this id."""

    def __init__(self, token_id: str):
        super().__init__(f"There is no token {token_id!r}. List them with GET /tokens (`mudman token list`).")
        self.token_id = token_id

    def __reduce__(self):
        return UnknownToken, (self.token_id,)


class UnusableToken(MudmanError):
    """What was given is no token of ours; the message never repeats it."""


@dataclass(frozen=True)
class Known:
    """A token that was recognised."""

    id: str
    owner: str
    scope: Scope
    expires_at: datetime.datetime
    expired: bool
    revoked: bool


def new_text() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def create(session: Session, *, owner: str, scope: Scope, days: int, note: str = "", value: str | None = None) -> Token:
    """Store a token that is good for ``days``. ``value``: its text. Raises ``UnusableToken``.

    A text that is known already is left as it is, revoked ones too: whoever starts a system may do so again.
    """
    if value is None or not _FORM.fullmatch(value):
        raise UnusableToken(f"A token is {PREFIX!r} and 43 letters, digits, - or _, or more: random ones.")
    row = insert(Token).values(
        id=f"tk_{secrets.token_urlsafe(9)}",
        hash=_hash(value),
        owner=owner,
        scope=scope,
        note=note,
        expires_at=func.now() + datetime.timedelta(days=days),
    )
    session.execute(row.on_conflict_do_nothing(index_elements=["hash"]))
    return session.scalars(select(Token).where(Token.hash == _hash(value))).one()


_FIND = text(
    f"""
    with known as (
        select id, owner, scope, expires_at, expires_at <= now() as expired, revoked_at is not null as revoked
        from {SCHEMA}.token where hash = :hash
    ), touched as (
        update {SCHEMA}.token set used_at = now() from known
        where token.id = known.id and not expired and not revoked
            and (used_at is null or used_at < now() - interval '1 minute')
    )
    select id, owner, scope, expires_at, expired, revoked from known
    """
)


def find(session: Session, value: str) -> Known | None:
    """Whose token this is, also one that is no longer good; ``None``: nobody's."""
    if not _FORM.fullmatch(value):
        return None
    row = session.execute(_FIND, {"hash": _hash(value)}).one_or_none()
    return Known(row.id, row.owner, Scope(row.scope), row.expires_at, row.expired, row.revoked) if row else None


def is_good(session: Session, token_id: str) -> bool:
    """Whether it may still be used."""
    good = select(Token.id).where(Token.id == token_id, Token.revoked_at.is_(None), Token.expires_at > func.now())
    return session.scalar(good) is not None


def every(session: Session, owner: str | None = None) -> list[Token]:
    """Newest first."""
    query = select(Token) if owner is None else select(Token).where(Token.owner == owner)
    return list(session.scalars(query.order_by(Token.created_at.desc(), Token.id)))


def revoke(session: Session, token_id: str) -> Token:
    """For good; may be repeated. Raises ``UnknownToken``."""
    known = session.get(Token, token_id) if re.fullmatch(r"tk_[A-Za-z0-9_-]{12}", token_id, re.ASCII) else None
    if known is None:
        raise UnknownToken(token_id)
    session.execute(update(Token).where(Token.id == token_id, Token.revoked_at.is_(None)).values(revoked_at=func.now()))
    session.refresh(known)
    return known


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
