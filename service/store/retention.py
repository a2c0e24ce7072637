"""What is dropped when it is old: logs of trials, events, audit events, idempotency keys, checkpoints.

Kept for ever: studies and comparisons with their specs, states and preparations; every attempt with its
hyper-parameters, outcome, value, curves, traces, measurements and reason; the counts; Optuna's rows. Only deleting a
study removes those. Tokens stay too: one that was revoked must stay known as revoked.

An event stream that is resumed at an event which is gone goes on with the oldest that is left. An idempotency key that
is gone no longer recognises its request; the owner and the name of the study still do.

Checkpoints are kept for ever unless the settings say otherwise; those of a study that is deleted go with it.
"""

from sqlalchemy import TextClause, text

from service.store import checkpoints
from service.store.database import Database
from service.store.settings import Settings

BATCH = 500
"""Rows of a transaction: each holds its locks for milliseconds."""
BATCHES = 40
"""Transactions of one call for each kind, at most: whoever calls has other things to do, and calls again."""

_OLD = "< now() - make_interval(days => :days) limit :batch for update skip locked"
_LOGS = text(
    f"""
    update mudman.trial set log = null where (study_id, ordinal, attempt) in (
        select study_id, ordinal, attempt from mudman.trial where log is not null and finished_at {_OLD})
    """
)
_EVENTS = text(
    f"""
    delete from mudman.event where (study_id, sequence) in (select study_id, sequence from mudman.event where at {_OLD})
    """
)
_KEYS = text(
    f"""
    delete from mudman.idempotency_key
    where (owner, key) in (select owner, key from mudman.idempotency_key where created_at {_OLD})
    """
)
_AUDIT = text(
    f"""
    delete from mudman.audit_event where id in (select id from mudman.audit_event where at {_OLD})
    """
)


def drop_old(database: Database, settings: Settings) -> dict[str, int]:
    """Drop what is older than the settings say; how many of each kind were. Raises ``DatabaseUnavailable``.

    Any number of processes may do so at once, at any moment: rows that are in use are left to the next time.
    """
    kinds = {
        "logs": (_LOGS, settings.log_days),
        "events": (_EVENTS, settings.event_days),
        "idempotency_keys": (_KEYS, settings.idempotency_days),
        "audit_events": (_AUDIT, settings.audit_days),
    }
    dropped = {kind: _drop(database, *how) for kind, how in kinds.items()}
    if settings.checkpoint_days:
        checkpoints.let_go(database, settings.checkpoint_days, BATCH)
    return dropped | {"artifacts": checkpoints.remove_doomed(database, settings)}


def _drop(database: Database, statement: TextClause, days: int) -> int:
    if not days:
        return 0
    dropped = 0
    for _ in range(BATCHES):
        with database.begin() as session:
            found = session.execute(statement, {"days": days, "batch": BATCH}).rowcount
        dropped += found
        if found < BATCH:
            break
    return dropped
