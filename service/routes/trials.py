"""``/studies/{id}/best`` and ``/studies/{id}/trials``."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from mudman.results import Outcome
from service import examples
from service.confirmation_views import confirmation_view
from service.declared_problems import problems
from service.refusals import NoValidTrial, UnknownTrial
from service.routes import Store
from service.store import checkpoints, pages, repeating, standing, studies
from service.store.states import State
from service.store.tables import Study
from service.views import BestView, TrialPage, TrialView, best_view, trial_summary, trial_view

router = APIRouter(prefix="/studies/{study_id}", tags=["trials"])


class TrialFilters(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    outcome: Outcome | None = None
    limit: int = Field(50, ge=1, le=200)
    """Items of a page."""
    cursor: Annotated[str, Field(max_length=500)] | None = None
    """``next`` of the page before."""


@router.get(
    "/best",
    response_model=BestView,
    summary="The best valid trial",
    responses={200: {"content": {"application/json": {"example": examples.BEST}}}, **problems(404, 409, 422, 503)},
)
def best(study_id: str, store: Store):
    """The best value among valid trials, with its curves, the baseline and provenance; 409 while there is none.

    Best is the lowest where the objective is minimised.
    """
    with store.begin() as session:
        study = studies.get(session, study_id)
        trial = standing.best(session, study)
        if trial is None:
            raise NoValidTrial(_why_none(session, study))
        kept = checkpoints.of(session, study).get(trial.ordinal)
        agrees = kept is not None and kept.checkpoint.agreement != "differs"
        again = repeating.confirming(session, study_id)
    return best_view(study, trial, again and confirmation_view(study, *again), kept=agrees)


@router.get(
    "/trials",
    response_model=TrialPage,
    summary="List trials",
    responses={200: {"content": {"application/json": {"example": examples.TRIAL_PAGE}}}, **problems(404, 422, 503)},
)
def list_trials(study_id: str, store: Store, filters: Annotated[TrialFilters, Query()]):
    """Every attempt, by ordinal and attempt, a page at a time."""
    with store.begin() as session:
        studies.get(session, study_id)
        found, following = pages.trials(session, study_id, filters.outcome, filters.limit, filters.cursor)
        return TrialPage(items=[trial_summary(trial) for trial in found], next=following)


@router.get(
    "/trials/{ordinal}",
    response_model=TrialView,
    summary="One trial",
    responses={200: {"content": {"application/json": {"example": examples.TRIAL}}}, **problems(404, 422, 503)},
)
def show(study_id: str, ordinal: Annotated[int, Path(ge=0, lt=2**31)], store: Store):
    """The latest attempt with its unlearning and relearning curves and its log, and every attempt in short."""
    with store.begin() as session:
        studies.get(session, study_id)
        attempts = pages.attempts(session, study_id, ordinal)
        if not attempts:
            raise UnknownTrial(
                f"Study {study_id} has started no trial {ordinal}. List them: /studies/{study_id}/trials."
            )
        return trial_view(attempts)


def _why_none(session: Session, study: Study) -> str:
    found = standing.counts(session, study.id)
    running = found.pop(standing.RUNNING, 0)
    ended = ", ".join(f"{count} {outcome}" for outcome, count in sorted(found.items())) or "none"
    reason = (
        f"No trial of study {study.id} is valid: the study is {study.state}, finished: {ended}, running: {running}."
    )
    if not State(study.state).finished:
        return f"{reason} Try again when more trials have finished."
    if study.problem:
        return f"{reason} The study failed: {study.problem.get('detail', 'see its problem')}"
    return f"{reason} Post a study with a looser constraint or another search space."
