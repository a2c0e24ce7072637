"""Figures of studies and of comparisons: as definitions with their data, as drawings, and as interactive pages."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from mudman import presets
from service import figure_examples
from service.comparison_table import TableView, table
from service.declared_problems import problems
from service.figures import of_comparison
from service.figures.of_study import Name, draw
from service.figures.rendering import Format, render
from service.figures.style import Figure
from service.routes import Store
from service.routes.comparisons import Reference
from service.store import comparisons, recent, studies
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
    curves of the last valid trials as a band, of the best one, and of the model without unlearning; `dynamics`: loop by
    loop, losses and updates of the best trial that has a trace (`record.trace` in the spec), the part coloured that
    harms what is to be kept; `times`: trials, passes and time. 409 while there are not enough trials."""
    with store.begin() as session:
        study = studies.get(session, study_id)
    figure = draw(name, study, Stored(store, study))
    return _answer(figure, format)


@router.get(
    "/comparisons/{comparison_id}/figures/{name}",
    response_class=Response,
    summary="A figure of a comparison",
    responses={200: figure_examples.COMPARISON, **problems(404, 409, 422, 503)},
)
def show_comparison(
    comparison_id: str, name: of_comparison.Name, store: Store, format: Form = "json", reference: Reference = None
):
    """`bars`: mean and standard error of each variant, coloured by the verdict against the reference, over the model
    without unlearning; published numbers beside them where the comparison comes from a preset that has them. `curves`:
    relearning curves of all variants, each a median with quartiles. `dynamics`: loop by loop, losses and updates of
    each variant's best trial with a trace, the part coloured that harms what is to be kept. `times`: trials, passes and
    time. 409 while there are not enough trials."""
    with store.begin() as session:
        comparison, rows, main = comparisons.compared(session, comparison_id, reference)
    sources = [Stored(store, study) for study in rows]
    variants = [
        of_comparison.Variant(study.variant or study.name, study, source, source.spent)
        for study, source in zip(rows, sources, strict=True)
    ]

    def made() -> TableView:
        with store.begin() as session:
            tallies = recent.tallies(session, rows, spent=False)
        return table(comparison.id, comparison.name, rows, tallies, main)

    published = presets.published(comparison.preset)
    figure = of_comparison.draw(name, of_comparison.Compared(comparison.name, variants, made, published))
    return _answer(figure, format)


def _answer(figure: Figure, form: Format) -> Response:
    drawn = render(figure, form)
    return Response(drawn.content, media_type=drawn.media_type, headers=drawn.headers)
