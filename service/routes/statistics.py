"""``/studies/{id}/statistics`` and exports: what the numbers say, and all that they are made of."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from service import export, statistics_examples
from service.confirmation_views import confirmation_view
from service.declared_problems import problems
from service.evidence.stored import write_study
from service.export import StudyExport, study_export
from service.parquet import as_parquet
from service.routes import Store
from service.routes.attachments import attachment, bundled
from service.statistics.means import TOP
from service.store import exports, repeating, standing, studies
from service.study_statistics import StatisticsView, study_statistics

router = APIRouter(prefix="/studies/{study_id}", tags=["statistics"])
PARQUET = "application/vnd.apache.parquet"
Seed = Annotated[int, Query(ge=0, lt=2**32, description="Of the bootstrap: the same seed gives the same numbers.")]


@router.get(
    "/statistics",
    response_model=StatisticsView,
    summary="Statistics of a study",
    responses={
        200: {"content": {"application/json": {"example": statistics_examples.STATISTICS}}},
        **problems(404, 422, 503),
    },
)
def show(study_id: str, store: Store, seed: Seed = 0):
    """Mean and standard error over the last valid trials by both conventions, the best, the median and the mean of the
    ten best; the gain over the model without unlearning with its interval; whether the search has converged, with the
    evidence; ranges that may be too narrow; and what was spent, with pruned and failed trials."""
    with store.begin() as session:
        study = studies.get(session, study_id)
        parts = standing.by_outcome(session, [study_id])[study_id]
        top = standing.top(session, study, TOP)
        again = repeating.confirming(session, study_id)
    confirmation = again and confirmation_view(study, *again)
    return study_statistics(study, parts, top, confirmation=confirmation, seed=seed)


@router.get(
    "/export",
    response_model=StudyExport,
    summary="Export a study",
    responses={200: {"content": statistics_examples.EXPORT}, **problems(404, 422, 503)},
)
def show_export(
    study_id: str,
    store: Store,
    format: Annotated[
        Literal["json", "csv", "parquet", "bundle"],
        Query(
            description="`json`: spec, statistics and attempts; `csv`, `parquet`: the attempts; `bundle`: a zip with "
            "all that is known of every attempt, curves and figures too, and a hash of each file."
        ),
    ] = "json",
    seed: Seed = 0,
):
    """Every finished attempt, whatever became of it, and the statistics: they can be computed again from the export
    alone (`mudman verify`)."""
    if format == "bundle":
        return bundled(f"{study_id}.zip", lambda file: write_study(store, study_id, file, seed))
    with store.begin() as session:
        found = exports.of_study(session, studies.get(session, study_id))
    made = study_export(*found, seed=seed)
    if format == "parquet":
        return attachment(as_parquet(made), PARQUET, f"{study_id}.parquet")
    if format == "csv":
        return attachment(export.as_csv(made), "text/csv", f"{study_id}.csv")
    return attachment(made.model_dump_json(), "application/json", f"{study_id}.json")
