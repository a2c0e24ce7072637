"""Figures of studies and of comparisons: as definitions with their data, as drawings, and as interactive pages."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from mudman import presets
from service import figure_examples
from service.comparison_table import table
from service.declared_problems import problems
from service.figures.bars import bars
from service.figures.of_study import Name, NotEnough, draw
from service.figures.rendering import Format, render
from service.figures.style import Figure
from service.routes import Store
from service.routes.comparisons import Reference
from service.store import comparisons, standing, studies
from service.store.figures import Stored

router = APIRouter(tags=["figures"])
Form = Annotated[Format, Query(description="`json`: the Vega-Lite definition with its data; `html`: interactive.")]


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
        figure = draw(name, study, Stored(session, study))
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
        comparison, rows, main = comparisons.compared(session, comparison_id, reference)
        tallies = standing.tallies(session, [study.id for study in rows])
        made = table(comparison.id, comparison.name, rows, tallies, main)
    if not any(row.result for row in made.rows):
        raise NotEnough(f"No variant of comparison {comparison_id} has a valid trial yet: {made.rows[0].reason}.")
    return _answer(bars(made, presets.published(comparison.preset)), format)


def _answer(figure: Figure, form: Format) -> Response:
    drawn = render(figure, form)
    return Response(drawn.content, media_type=drawn.media_type, headers=drawn.headers)
