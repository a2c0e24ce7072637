"""What the API answers: response models, and how they are made from rows."""

import datetime
from collections.abc import Mapping
from typing import Any

from mudman.specs import StudySpec
from service.confirmation_views import ConfirmationView
from service.figures.names import OfStudy
from service.store.pages import StudyRow
from service.store.standing import Progress
from service.store.states import State
from service.store.tables import Group, Study, Trial
from service.view import View


class Live(View):
    """A trial that runs now."""

    ordinal: int
    attempt: int
    phase: str | None
    """``unlearn`` or ``relearn``; null before the first pass."""
    passes: int
    of: int | None


class ProgressView(View):
    trials: int
    """Trials that count: valid, over the retain budget, diverged, or pruned."""
    budget: int
    """Trials asked for."""
    running: int
    outcomes: dict[str, int]
    """Finished attempts by outcome."""
    eta_seconds: float | None
    """Seconds until the study is complete, from the mean duration of its trials; null while unknown."""
    best_value: float | None
    live: list[Live]


class LeaseView(View):
    owner: str
    """Dispatcher that holds the study."""
    epoch: int
    expires_at: datetime.datetime


class Links(View):
    self: str
    best: str
    trials: str
    statistics: str
    export: str
    events: str
    figures: dict[str, str]
    """By name."""
    comparison: str | None
    """The comparison that the study is a variant of; null for one of its own."""


class _Head(View):
    id: str
    name: str
    owner: str
    preset: str | None
    labels: dict[str, str]
    state: State
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None
    links: Links


class StudyView(_Head):
    """One study: its spec and how far it is."""

    spec: dict[str, Any]
    """The spec with its defaults filled in."""
    unused: list[str]
    """Settings that were given although the chosen variant does not use them."""
    progress: ProgressView
    lease: LeaseView | None
    """Who works on it."""
    problem: dict[str, Any] | None
    """Problem document of a failed study."""
    preparation: dict[str, Any] | None
    """What was measured on the untouched model, and pinned revisions."""


class SummaryProgress(View):
    trials: int
    budget: int
    running: int
    best_value: float | None


class StudySummary(_Head):
    model: str
    method: str
    progress: SummaryProgress


class StudyPage(View):
    items: list[StudySummary]
    next: str | None
    """Cursor of the next page; null on the last."""


class TrialSummary(View):
    ordinal: int
    attempt: int
    outcome: str | None
    """Null while it runs."""
    value: float | None
    """Objective, of valid trials: nats per token, or an accuracy."""
    hyperparameters: dict[str, float]
    overrun: float | None
    """Nats per token above the bound, where the trial was stopped for it."""
    stopped_at_pass: int | None
    seconds: float | None
    started_at: datetime.datetime
    finished_at: datetime.datetime | None


class TrialPage(View):
    items: list[TrialSummary]
    next: str | None
    """Cursor of the next page; null on the last."""


class TrialView(TrialSummary):
    """The latest attempt at a trial, with its curves and log."""

    study: str
    result: dict[str, Any] | None
    """Curves and losses; null while it runs."""
    log: str | None
    progress: dict[str, Any] | None
    """Latest report of a running attempt."""
    worker: dict[str, Any] | None
    attempts: list[TrialSummary]
    """Every attempt, first to last."""


class InitialLosses(View):
    """Losses of the untouched model, nats per token."""

    forget_loss: float
    retain_loss: float


class BestView(View):
    """The valid trial with the best value, and what to compare it with."""

    study: str
    ordinal: int
    attempt: int
    value: float
    hyperparameters: dict[str, float]
    result: dict[str, Any]
    """The trial's curves and losses; its trace and losses per token are with the trial."""
    baseline: dict[str, Any] | None
    """Result of the same attack on the model without unlearning."""
    initial: InitialLosses | None
    provenance: dict[str, Any]
    """What is needed to make the number again: spec hash, revisions, data, versions, machine."""
    checkpoint: str | None
    """Link to the unlearned weights, where they were kept."""
    confirmation: ConfirmationView | None
    """What is left of it on fresh seeds, by the latest confirmation; null where nobody asked for one."""


def study_view(study: Study, group: Group, progress: Progress) -> StudyView:
    spec = StudySpec.model_validate(study.spec)
    leased = group.owner is not None and group.expires_at is not None
    return StudyView(
        **_head(study),
        spec=spec.model_dump(mode="json"),
        unused=spec.unused(),
        progress=ProgressView(
            **{name: getattr(progress, name) for name in ProgressView.model_fields if name != "live"},
            live=[_live(trial) for trial in progress.live],
        ),
        lease=LeaseView(owner=group.owner, epoch=group.epoch, expires_at=group.expires_at) if leased else None,
        problem=study.problem,
        preparation=study.preparation,
    )


def study_summary(row: StudyRow) -> StudySummary:
    spec = row.study.spec
    return StudySummary(
        **_head(row.study),
        model=spec["model"]["id"],
        method=spec["method"]["type"],
        progress=SummaryProgress(
            trials=row.trials, budget=spec["budget"]["trials"], running=row.running, best_value=row.best_value
        ),
    )


def _head(study: Study) -> dict[str, Any]:
    same = ("id", "name", "owner", "preset", "created_at", "started_at", "finished_at")
    here = f"/studies/{study.id}"
    return {
        **{name: getattr(study, name) for name in same},
        "state": State(study.state),
        "labels": study.spec.get("labels", {}),
        "links": Links(
            self=here,
            best=f"{here}/best",
            trials=f"{here}/trials",
            statistics=f"{here}/statistics",
            export=f"{here}/export",
            events=f"{here}/events",
            figures={str(name): f"{here}/figures/{name}" for name in OfStudy},
            comparison=f"/comparisons/{study.comparison_id}" if study.comparison_id else None,
        ),
    }


def _live(trial: Trial) -> Live:
    report = trial.progress or {}
    return Live(
        ordinal=trial.ordinal,
        attempt=trial.attempt,
        phase=report.get("phase"),
        passes=report.get("passes", 0),
        of=report.get("of"),
    )


def trial_summary(trial: Trial) -> TrialSummary:
    seconds = None
    if trial.finished_at:  # what no worker ever began has only waited
        seconds = (trial.finished_at - trial.started_at).total_seconds() if trial.worker else 0.0
    return TrialSummary(
        ordinal=trial.ordinal,
        attempt=trial.attempt,
        outcome=trial.outcome,
        value=trial.value,
        hyperparameters=trial.hyperparameters,
        overrun=trial.overrun,
        stopped_at_pass=trial.stopped_at_pass,
        seconds=trial.seconds or seconds,
        started_at=trial.started_at,
        finished_at=trial.finished_at,
    )


def trial_view(attempts: list[Trial]) -> TrialView:
    """``attempts`` at one trial, first to last; at least one."""
    latest = attempts[-1]
    return TrialView(
        **dict(trial_summary(latest)),
        study=latest.study_id,
        result=latest.result,
        log=latest.log,
        progress=latest.progress,
        worker=latest.worker,
        attempts=[trial_summary(trial) for trial in attempts],
    )


def without_bulk(result: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's result without what may be megabytes."""
    return {name: part for name, part in result.items() if name not in ("trace", "token_losses")}


def best_view(
    study: Study, trial: Trial, confirmation: ConfirmationView | None = None, *, kept: bool = False
) -> BestView:
    """``kept``: whether its weights are there."""
    prepared = study.preparation or {}
    initial = None
    if study.preparation:
        initial = InitialLosses(
            forget_loss=prepared["initial_forget_loss"], retain_loss=prepared["initial_retain_loss"]
        )
    pinned = ("model_revision", "corpora", "matched_modules", "versions")
    return BestView(
        study=study.id,
        ordinal=trial.ordinal,
        attempt=trial.attempt,
        value=trial.value,
        hyperparameters=trial.hyperparameters,
        result=without_bulk(trial.result or {}),
        baseline=prepared.get("baseline"),
        initial=initial,
        provenance={
            "spec_hash": study.spec_hash,
            "spec_version": study.spec_version,
            "preset": study.preset,
            **{name: prepared.get(name) for name in pinned},
            "worker": trial.worker,
            "epoch": trial.epoch,
        },
        checkpoint=f"/studies/{study.id}/checkpoints/{trial.ordinal}" if kept else None,
        confirmation=confirmation,
    )
