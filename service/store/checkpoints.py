"""Weights that were kept of a study's trials: which there are, and when they are let go.

The files are in the artifact store (``mudman.artifacts``); the results of the trials that kept them say what they are.
"""

import datetime
import logging
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from mudman.artifacts import Artifacts, ArtifactsUnavailable
from mudman.results import Checkpoint
from service.store import repeating
from service.store.database import Database
from service.store.settings import Settings
from service.store.tables import DoomedArtifact, Study, Trial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """One checkpoint."""

    run: str
    """Id of the study that ran the trial again."""
    trial: int
    """Its ordinal there."""
    searched: float
    """What the search found."""
    value: float
    """What the run came to."""
    checkpoint: Checkpoint
    finished_at: datetime.datetime


def studies_of(session: Session, study: Study) -> list[Study]:
    """Studies that run trials of this one again to keep them, the latest first; of such a study, itself."""
    if "repeats" in study.spec:
        return [study] if repeating.repeats_of(study).keep else []
    return [one for one in repeating.children(session, study.id) if repeating.repeats_of(one).keep]


def of(session: Session, study: Study) -> dict[int, Kept]:
    """By the ordinal of the search; of several of one trial, the latest."""
    keeping = {one.id: repeating.repeats_of(one) for one in studies_of(session, study)}
    if not keeping:
        return {}
    query = select(Trial.study_id, Trial.ordinal, Trial.value, Trial.result["checkpoint"], Trial.finished_at)
    query = query.where(Trial.study_id.in_(keeping), Trial.outcome == "valid").order_by(Trial.finished_at)
    found = {}
    for run, ordinal, value, kept, finished_at in session.execute(query):
        checkpoint = kept and Checkpoint.model_validate(kept)
        if checkpoint and checkpoint.key is not None:
            one = keeping[run].configuration(ordinal)
            found[one.ordinal] = Kept(run, ordinal, one.value, value, checkpoint, finished_at)
    return dict(sorted(found.items()))


def doom(session: Session, folders: Collection[str]) -> None:
    """These are to be removed from the artifact store: a study's, or one attempt's (``mudman.artifacts``)."""
    if folders:
        rows = [{"prefix": folder} for folder in folders]
        session.execute(insert(DoomedArtifact).values(rows).on_conflict_do_nothing())


_LET_GO = text(
    """
    update mudman.trial set result = jsonb_set(result, '{checkpoint,key}', 'null') where study_id = any(:studies)
    and result #>> '{checkpoint,key}' is not null
    """
)
# Each attempt's own, also of those that left a part of their files: what a retry of the study keeps is to stay.
_FOLDERS = text("select study_id || '/' || ordinal || '-' || attempt from mudman.trial where study_id = any(:studies)")
_OLD = text(
    """
    select id from mudman.study where spec #>> '{repeats,keep}' = 'true'
    and state in ('completed', 'failed', 'cancelled') and finished_at < now() - make_interval(days => :days)
    and exists (select from mudman.trial where study_id = study.id and result #>> '{checkpoint,key}' is not null)
    limit :batch for update skip locked
    """
)


def let_go(database: Database, days: int, batch: int) -> int:
    """Checkpoints older than so many days are no longer there for anybody, and doomed; how many studies had some."""
    with database.begin() as session:
        old = list(session.scalars(_OLD, {"days": days, "batch": batch}))
        session.execute(_LET_GO, {"studies": old})
        doom(session, session.scalars(_FOLDERS, {"studies": old}).all())
    return len(old)


def remove_doomed(database: Database, settings: Settings) -> int:
    """Remove from the artifact store what is doomed; how many folders. Those that cannot be removed now stay doomed."""
    with database.begin() as session:
        doomed = list(session.scalars(select(DoomedArtifact.prefix)))
    if not doomed:
        return 0
    removed = 0
    try:
        store = Artifacts(settings.artifacts)
        for prefix in doomed:
            store.remove(prefix)
            with database.begin() as session:
                session.execute(DoomedArtifact.__table__.delete().where(DoomedArtifact.prefix == prefix))
            removed += 1
    except ArtifactsUnavailable as error:
        log.warning("%d doomed artifact(s) stay for now: %s", len(doomed) - removed, error)
    return removed
