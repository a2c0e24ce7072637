"""What actions answer that is no study."""

import datetime
from collections.abc import Iterable

from service.store.tables import EnqueuedTrial
from service.view import View


class EnqueuedTrialView(View):
    sequence: int
    """Place in the study's line, from 1; never given twice."""
    hyperparameters: dict[str, float]
    """What was chosen; the sampler chooses the rest."""
    created_at: datetime.datetime


class EnqueuedView(View):
    """Trials that were enqueued and have not started yet, in order."""

    study: str
    waiting: list[EnqueuedTrialView]


def enqueued_view(study_id: str, line: Iterable[EnqueuedTrial]) -> EnqueuedView:
    shown = (
        EnqueuedTrialView(sequence=one.sequence, hyperparameters=one.hyperparameters, created_at=one.created_at)
        for one in line
    )
    return EnqueuedView(study=study_id, waiting=list(shown))
