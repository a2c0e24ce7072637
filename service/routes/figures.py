"""Figures of studies and of comparisons: as definitions with their data, as drawings, and as interactive pages."""

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from mudman import presets
from mudman.results import Curve
from mudman.specs import StudySpec
from service import figure_examples
from service.comparison_table import table
from service.declared_problems import problems
from service.figures.bars import bars
from service.figures.curves import curves
from service.figures.history import history
from service.figures.importance import FEWEST, importance, importances
from service.figures.rendering import Format, render
from service.figures.slices import slices
from service.figures.style import Figure
from service.problems import NoFigure
from service.routes import Store
from service.routes.comparisons import Reference, compared
from service.statistics.means import summarise
from service.store import curves as stored_curves
from service.store import recent, standing, studies
from service.store.tables import Study

router = APIRouter(tags=["figures"])
MOST_CURVES = 200
Form = Annotated[Format, Query(description="`json`: the Vega-Lite definition with its data; `html`: interactive.")]


class Name(StrEnum):
    history = "history"
    slice = "slice"
    importance = "importance"
    curves = "curves"


@router.get(
    "/studies/{study_id}/figures/{name}",
    response_class=Response,
    summary="A figure of a study",
    responses={200: figure_examples.STUDY, **problems(404, 409, 422, 503)},
)
def show(study_id: str, name: Name, store: Store, format: Form = "json"):
    """`history`: every trial, the best so far and the mean of the last valid ones; `slice`: each hyper-parameter
    against the objective, with the order of trials as colour; `importance`: which of them decide; `curves`: relearning
    curves of the last valid trials as a band, of the best one, and of the model without unlearning. 409 while there are
    not enough trials."""
    with store.begin() as session:
        study = studies.get(session, study_id)
        figure = _DRAWN[name](session, study, StudySpec.model_validate(study.spec))
    return _answer(figure, format)


@router.get(
    "/comparisons/{comparison_id}/figures/bars",
    response_class=Response,
    summary="The figure of a comparison",
    responses={200: figure_examples.COMPARISON, **problems(404, 409, 422, 503)},
)
def show_bars(comparison_id: str, store: Store, format: Form = "json", reference: Reference = None):
    """Mean and standard error of each variant, coloured by the verdict against the reference, over the model without
    unlearning; published numbers beside them where the comparison comes from a preset that has them. 409 while no
    variant has a valid trial."""
    with store.begin() as session:
        comparison, rows, main = compared(session, comparison_id, reference)
        tallies = recent.tallies(session, rows, spent=False)
        made = table(comparison.id, comparison.name, rows, tallies, main)
    if not any(row.result for row in made.rows):
        raise NoFigure(f"No variant of comparison {comparison_id} has a valid trial yet: {made.rows[0].reason}.")
    return _answer(bars(made, _expected(comparison.preset)), format)


def _answer(figure: Figure, form: Format) -> Response:
    drawn = render(figure, form)
    return Response(drawn.content, media_type=drawn.media_type, headers=drawn.headers)


def _history(session: Session, study: Study, spec: StudySpec) -> Figure:
    attempts = standing.finished(session, [study.id])[study.id]
    minimise = standing.minimised(study.spec)
    values = [one.value for one in attempts if one.outcome == "valid" and one.value is not None]
    summary = summarise(values, spec.statistics.last, minimise=minimise)
    if summary is None:
        raise _nothing(study, "a valid trial")
    baseline = (_baseline(study) or {}).get("value")
    return history(study.name, spec.objective.metric, attempts, summary, baseline, minimise=minimise)


def _slice(session: Session, study: Study, spec: StudySpec) -> Figure:
    valid, space = standing.valid(session, study.id), spec.search_space()
    if not valid or not space:
        raise _nothing(study, "a valid trial and a range that is searched")
    [best] = standing.top(session, study, 1)
    ringed = next(one for one in valid if one.ordinal == best.ordinal)
    return slices(study.name, spec.objective.metric, space, valid, ringed)


def _importance(session: Session, study: Study, spec: StudySpec) -> Figure:
    space = spec.search_space()
    valid = [one for one in standing.valid(session, study.id) if space.keys() <= one.hyperparameters.keys()]
    if len(valid) < FEWEST or not space:
        raise _nothing(study, f"{FEWEST} valid trials and a range that is searched")
    shares = importances(space, valid, minimise=standing.minimised(study.spec))
    return importance(study.name, shares, len(valid))


def _curves(session: Session, study: Study, spec: StudySpec) -> Figure:
    last = stored_curves.of_last_valid(session, study.id, min(spec.statistics.last, MOST_CURVES))
    if not last:
        raise _nothing(study, "a valid trial")
    [best] = standing.top(session, study, 1)
    untouched = (_baseline(study) or {}).get("relearning")
    return curves(
        study.name,
        list(last.values()),
        last.get(best.ordinal) or stored_curves.of_valid(session, study.id, best.ordinal),
        Curve.model_validate(untouched) if untouched else None,
    )


_DRAWN = {Name.history: _history, Name.slice: _slice, Name.importance: _importance, Name.curves: _curves}


def _baseline(study: Study) -> dict[str, Any] | None:
    return (study.preparation or {}).get("baseline")


def _nothing(study: Study, needed: str) -> NoFigure:
    return NoFigure(
        f"This figure needs {needed}. Study {study.id} is {study.state}; its trials: /studies/{study.id}/trials."
    )


def _expected(preset: str | None) -> dict[str, str]:
    return presets.about(preset).expected if preset in presets.names() else {}
