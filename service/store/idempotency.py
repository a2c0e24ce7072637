"""Idempotency keys: what an owner's key was used for, so that a request that is sent again does nothing new."""

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from service.store.tables import IdempotencyKey


class IdempotencyConflict(MudmanError):
    """An idempotency key came back with another request (IETF draft-ietf-httpapi-idempotency-key-header §2.7)."""

    def __init__(self, key: str):
        super().__init__(f"The idempotency key {key!r} was used for another request. Use a new key for a new request.")
        self.key = key

    def __reduce__(self):
        return IdempotencyConflict, (self.key,)


def recall(session: Session, owner: str, key: str) -> IdempotencyKey | None:
    return session.get(IdempotencyKey, (owner, key))


def remember(session: Session, owner: str, key: str, identity: str, **made: str) -> None:
    """``made``: ``study_id`` or ``comparison_id``. Raises ``IdempotencyConflict``."""
    row = insert(IdempotencyKey).values(owner=owner, key=key, request_hash=identity, **made)
    if session.execute(row.on_conflict_do_nothing().returning(IdempotencyKey.key)).scalar_one_or_none() is not None:
        return
    # Another request with the key committed in the meantime, or it was used under an older version of the vocabulary.
    known = session.get_one(IdempotencyKey, (owner, key))
    if any(getattr(known, name) != value for name, value in made.items()):
        raise IdempotencyConflict(key)
