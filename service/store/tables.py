"""Our tables, in the schema ``mudman``. Optuna keeps its own in the schema ``optuna`` of the same database.

Postgres is the only truth: whatever is not in these rows never happened.
"""

import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Index,
    MetaData,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import DateTime

SCHEMA = "mudman"
OPTUNA_SCHEMA = "optuna"

_NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

# None is SQL's null: with JSON's null beside it, "is null" would find only half of them.
_JSON = JSONB(none_as_null=True)


class Table(DeclarativeBase):
    metadata = MetaData(schema=SCHEMA, naming_convention=_NAMES)
    type_annotation_map = {datetime.datetime: DateTime(timezone=True), dict[str, Any]: _JSON, list[Any]: _JSON}


class Group(Table):
    """What is leased: one study, or the studies of a comparison that share model, corpora and resources.

    The lease is (owner, epoch, expires_at). The epoch grows with every claim and fences every later write: a runner
    whose epoch is no longer the row's is refused.
    """

    __tablename__ = "study_group"

    id: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None]
    """Dispatcher that claimed the group last."""
    epoch: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    expires_at: Mapped[datetime.datetime | None]
    not_before: Mapped[datetime.datetime | None]
    """Earliest next claim, after a runner that failed."""
    failures: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """Runners in a row that ended without finishing a trial."""
    max_live: Mapped[int | None]
    """Share given by the dispatchers: trials that the group may run at once. None: not decided yet; 0: it waits."""
    waiting: Mapped[str | None]
    """Why it has no place, or fewer than it could use: for people."""
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())


class Comparison(Table):
    """Studies of one base and named variants of it."""

    __tablename__ = "comparison"
    __table_args__ = (UniqueConstraint("owner", "name"), Index("ix_comparison_page", "created_at", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name: Mapped[str]
    preset: Mapped[str | None]
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    """As it was posted. Not JSONB, which forgets the order of keys: the first variant is the reference."""
    hash: Mapped[str]
    labels: Mapped[dict[str, Any]]
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())


class Study(Table):
    __tablename__ = "study"
    __table_args__ = (
        UniqueConstraint("owner", "name"),
        CheckConstraint(
            "state in ('queued', 'preparing', 'running', 'paused', 'completed', 'failed', 'cancelled')", name="state"
        ),
        Index("ix_study_page", "created_at", "id"),
        Index("ix_study_group", "group_id"),
        Index("ix_study_repeats", "repeats_id", postgresql_where=text("repeats_id is not null")),
        # Also what keeps a variant from having two studies.
        Index("ix_study_comparison", "comparison_id", "variant", unique=True),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """Opaque; also the name of the Optuna study."""
    group_id: Mapped[str] = mapped_column(ForeignKey(Group.id))
    owner: Mapped[str]
    name: Mapped[str]
    preset: Mapped[str | None]
    comparison_id: Mapped[str | None] = mapped_column(ForeignKey(Comparison.id, ondelete="CASCADE"))
    variant: Mapped[str | None]
    """Its name in the comparison."""
    repeats_id: Mapped[str | None] = mapped_column(ForeignKey("mudman.study.id", ondelete="SET NULL"))
    """The study whose trials this one runs again: a confirmation of it, or its checkpoints."""
    spec: Mapped[dict[str, Any]]
    spec_version: Mapped[int]
    spec_hash: Mapped[str]
    state: Mapped[str] = mapped_column(default="queued")
    problem: Mapped[dict[str, Any] | None]
    """Problem document (RFC 9457) of a failed study: what is wrong and the remedy."""
    preparation: Mapped[dict[str, Any] | None]
    """``mudman.results.Preparation``."""
    prepared_on: Mapped[dict[str, Any] | None]
    """Node, process and device that prepares it now; null while that waits for a place, and afterwards."""
    last_event: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """Number of the study's latest event; taken under this row's lock, so that numbers have no gaps."""
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    queued_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    """When it was put into the queue last. Trials started before belong to an earlier run, and so does their waste."""
    started_at: Mapped[datetime.datetime | None]
    finished_at: Mapped[datetime.datetime | None]


def _part(kind: str, name: str) -> Mapped[Any]:
    """A part of ``Trial.result``, which may be megabytes, kept beside it by the database: lists read these alone."""
    return mapped_column(Computed(f"(result ->> '{name}')::{kind}", persisted=True))


REASON = (
    "left(outcome || coalesce(': ' || (result #>> '{fault,type}') || ': ' || (result #>> '{fault,message}'), ''), 1000)"
)

JUDGED_AT = "case when result ->> 'judged' is not null then (result #>> '{relearning,passes,-1}')::integer end"


class Trial(Table):
    """One attempt at one trial; its row and Optuna's are written in one transaction, at its start and at its end."""

    __tablename__ = "trial"
    __table_args__ = (
        Index("ix_trial_outcome", "study_id", "outcome", "ordinal", "attempt"),
        # The few that run now, among any number that have ended.
        Index("ix_trial_open", "study_id", "ordinal", postgresql_where=text("outcome is null")),
        # Both its ends are asked for: where the objective is minimised, the lowest value is the best.
        Index("ix_trial_best", "study_id", "value", "ordinal", postgresql_where=text("outcome = 'valid'")),
        # The oldest logs go first.
        Index("ix_trial_log", "finished_at", postgresql_where=text("log is not null")),
        # A trial that counts, counts once: no second attempt of an ordinal can.
        Index(
            "uq_trial_counts_once",
            "study_id",
            "ordinal",
            unique=True,
            postgresql_where=text("outcome in ('valid', 'over_retain_budget', 'diverged', 'pruned')"),
        ),
    )

    study_id: Mapped[str] = mapped_column(ForeignKey(Study.id, ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    """Epoch of the lease under which the attempt was started."""
    optuna_id: Mapped[int | None]
    """``trial_id`` in Optuna's tables."""
    hyperparameters: Mapped[dict[str, Any]]
    outcome: Mapped[str | None]
    """``mudman.results.Outcome``; null while the attempt runs."""
    value: Mapped[float | None]
    result: Mapped[dict[str, Any] | None]
    """``mudman.results.TrialResult`` without its log."""
    violation: Mapped[float | None] = _part("double precision", "violation")
    overrun: Mapped[float | None] = _part("double precision", "overrun")
    stopped_at_pass: Mapped[int | None] = _part("integer", "stopped_at_pass")
    seconds: Mapped[float | None] = _part("double precision", "seconds")
    passes_booked: Mapped[int | None] = _part("integer", "passes_booked")
    passes_made: Mapped[int | None] = _part("integer", "passes_made")
    passes_skipped: Mapped[int | None] = _part("integer", "passes_skipped")
    judged: Mapped[float | None] = _part("double precision", "judged")
    judged_at: Mapped[int | None] = mapped_column(Computed(JUDGED_AT, persisted=True))
    """Passes of the attack at which a pruned trial was judged."""
    reason: Mapped[str | None] = mapped_column(Computed(REASON, persisted=True))
    """The outcome and what went wrong, in a line."""
    log: Mapped[str | None]
    """Head and tail of it, where it is long; dropped when it is old."""
    progress: Mapped[dict[str, Any] | None]
    """Latest ``mudman.results.Progress`` of a running attempt."""
    worker: Mapped[dict[str, Any] | None]
    """Node, process and device that runs it; until it has ended also ``heard_at``, the time of its last word."""
    run_again: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Somebody asked for another attempt at this ordinal, which had ended for good without counting."""
    started_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime.datetime | None]
    """When its end was stored; of one that cannot say how long it took, when it was last heard of."""


class OutcomeCount(Table):
    """Finished attempts of a study by outcome, kept in the transaction that ends an attempt: nobody counts trials."""

    __tablename__ = "outcome_count"

    study_id: Mapped[str] = mapped_column(ForeignKey(Study.id, ondelete="CASCADE"), primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    attempts: Mapped[int]
    seconds: Mapped[float]
    """That they took, added up: see ``service.statistics.compute.Attempt``."""


class DeletedUsage(Table):
    """What studies that were deleted had come to: an operator's counters never fall."""

    __tablename__ = "deleted_usage"

    owner: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    attempts: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float]
    core_seconds: Mapped[float]
    gpu_seconds: Mapped[float]


class EnqueuedTrial(Table):
    """Hyper-parameters that somebody chose: the next ordinals of the study take them, in order."""

    __tablename__ = "enqueued_trial"
    __table_args__ = (UniqueConstraint("study_id", "ordinal"),)

    study_id: Mapped[str] = mapped_column(ForeignKey(Study.id, ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    hyperparameters: Mapped[dict[str, Any]]
    """Some or all; the sampler chooses the others."""
    ordinal: Mapped[int | None]
    """Trial that took them; set in the transaction that starts it."""
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())


class DoomedArtifact(Table):
    """A folder of the artifact store, a study's or an attempt's, that nothing refers to any more: noted in the
    transaction that let go of it, so that it is removed whatever dies."""

    __tablename__ = "doomed_artifact"

    prefix: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())


class Event(Table):
    """What happened to a study, in order and without gaps."""

    __tablename__ = "event"
    # Events come in the order of time: this index costs next to nothing, and finds the old ones.
    __table_args__ = (Index("ix_event_at", "at", postgresql_using="brin"),)

    study_id: Mapped[str] = mapped_column(ForeignKey(Study.id, ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]


class IdempotencyKey(Table):
    """What a key was used for: a study or a comparison."""

    __tablename__ = "idempotency_key"
    __table_args__ = (CheckConstraint("num_nonnulls(study_id, comparison_id) = 1", name="one_thing"),)

    owner: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[str]
    study_id: Mapped[str | None] = mapped_column(ForeignKey(Study.id, ondelete="CASCADE"))
    comparison_id: Mapped[str | None] = mapped_column(ForeignKey(Comparison.id, ondelete="CASCADE"))
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
