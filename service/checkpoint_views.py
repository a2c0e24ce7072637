"""What is answered of kept weights."""

import datetime
from typing import Literal

from service.store.checkpoints import Kept
from service.store.tables import Study
from service.view import View


class FileView(View):
    name: str
    bytes: int
    sha256: str
    href: str
    """Where it is downloaded."""


class CheckpointView(View):
    """Weights after unlearning and before the attack, as `from_pretrained` loads them, with a card."""

    study: str
    """Id of the study that was asked."""
    ordinal: int
    """Trial of the search."""
    searched: float
    """What the search found."""
    value: float
    """What came out when it ran again: the attack on these weights."""
    agreement: Literal["bit-equal", "within tolerance", "differs", "unknown"]
    """Of all losses of the attack with those that the search recorded."""
    difference: float | None
    """Largest, as part of a recorded number; 0 where they are bit-equal."""
    run: str
    """Id of the study that ran it again."""
    trial: int
    """Its trial there."""
    kept_at: datetime.datetime
    bytes: int
    files: list[FileView]


class KeepingView(View):
    """A study that runs trials again to keep them."""

    study: str
    name: str
    state: str
    trials: list[int]
    """Of the search."""


class CheckpointsView(View):
    study: str
    items: list[CheckpointView]
    """By trial."""
    keeping: list[KeepingView]
    """The latest first."""


def checkpoint_view(study_id: str, ordinal: int, kept: Kept) -> CheckpointView:
    found = kept.checkpoint
    here = f"/studies/{study_id}/checkpoints/{ordinal}"
    return CheckpointView(
        study=study_id,
        ordinal=ordinal,
        searched=kept.searched,
        value=kept.value,
        agreement=found.agreement,
        difference=found.difference,
        run=kept.run,
        trial=kept.trial,
        kept_at=kept.finished_at,
        bytes=sum(file.bytes for file in found.files),
        files=[FileView(**file.model_dump(), href=f"{here}/{file.name}") for file in found.files],
    )


def keeping_view(study: Study) -> KeepingView:
    chosen = [one["ordinal"] for one in study.spec["repeats"]["configurations"]]
    return KeepingView(study=study.id, name=study.name, state=study.state, trials=chosen)
