"""Our tables about the cluster and who uses it, beside those of studies."""

import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables import Table


class Node(Table):
    """A node of the Ray cluster, as it was seen last."""

    __tablename__ = "node"

    id: Mapped[str] = mapped_column(primary_key=True)
    """Ray's node id."""
    address: Mapped[str]
    host: Mapped[str]
    alive: Mapped[bool]
    cpus: Mapped[float]
    gpus: Mapped[float]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    labels: Mapped[dict[str, Any]]
    seen_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    quarantined_until: Mapped[datetime.datetime | None]
    """Until then no trial is sent there: everything failed on it."""
    quarantine_reason: Mapped[str | None]


class OwnerUsage(Table):
    """What an owner has had, for fair shares."""

    __tablename__ = "owner_usage"

    owner: Mapped[str] = mapped_column(primary_key=True)
    used: Mapped[float]
    """Lately: seconds of its busiest resource, halved as time passes."""
    lead: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))
    """Beyond what the last of the others has had: see ``service.store.leads``."""
    at: Mapped[datetime.datetime]
    """Moment that both hold for."""
    weight: Mapped[float]
    """As the dispatchers are set; and so is the quota."""
    quota: Mapped[dict[str, Any]]
    """``service.store.settings.Quota``."""


class Dispatcher(Table):
    """Who claims studies; readiness asks whether one was seen lately."""

    __tablename__ = "dispatcher"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    seen_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    sequence: Mapped[int] = mapped_column(BigInteger, Identity())
