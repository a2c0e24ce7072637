"""``/comparisons``: create, list, look at, act on, delete, and the table that all of it is for."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from mudman import presets
from service import comparison_examples as examples
from service import table_formats
from service.action_examples import EXTENSION
from service.bodies import (
    ComparisonRetry,
    Extension,
    OptionalBody,
    RequestBody,
    parse_action,
    parse_added_variants,
    parse_comparison_submission,
)
from service.comparison_table import Measure, TableView, at_equal_compute, table
from service.comparison_views import (
    ChangedComparison,
    ComparisonPage,
    ComparisonView,
    changed_view,
    comparison_summary,
    comparison_view,
)
from service.cost import comparison_dry_run
from service.declared_problems import problems
from service.evidence.stored import write_comparison
from service.export import ComparisonExport, comparison_export, study_export
from service.published import by_variant
from service.routes import Configuration, Key, Store, Text, Who
from service.routes.attachments import attachment, bundled
from service.routes.statistics import Seed
from service.routes.studies import read_labels
from service.store import comparisons, exports, pages, recent, standing, together
from service.store.tables import Comparison

router = APIRouter(prefix="/comparisons", tags=["comparisons"])
Reference = Annotated[
    Text | None, Query(description="Variant that the others are measured against; default: the first.")
]


def _answers(state: str, *statuses: int, **more: Any) -> dict[str, Any]:
    """The comparison in its new state, or one of these problems."""
    example = {200: {"content": {"application/json": {"example": examples.changed(state)}}}}
    return {"response_model": ChangedComparison, "responses": example | problems(404, 409, *statuses, 422, 503), **more}


class Filters(BaseModel):
    """Which comparisons a list shows; all conditions hold at once."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    preset: Text | None = None
    owner: Text | None = None
    label: list[Annotated[Text, Field(examples=["team:red"])]] = []
    """``key:value``; may be repeated."""
    text: Text | None = None
    """Part of the name."""
    limit: int = Field(50, ge=1, le=200)
    """Items of a page."""
    cursor: Annotated[str, Field(max_length=500)] | None = None
    """``next`` of the page before."""


@router.post(
    "",
    status_code=201,
    response_model=ComparisonView,
    summary="Create a comparison",
    responses=examples.CREATED | problems(403, 409, 413, 415, 422, 503),
    openapi_extra={"requestBody": examples.SUBMISSION},
)
def create(
    request: Request,
    body: RequestBody,
    store: Store,
    settings: Configuration,
    who: Who,
    response: Response,
    dry_run: Annotated[bool, Query(description="Validate and estimate the cost; store nothing.")] = False,
    idempotency_key: Key = None,
):
    """A study's spec with `variants`, or a preset that is a comparison, with overrides; JSON or YAML.

    Creates one study for each variant, named `<comparison>/<variant>`, and one without unlearning (unless
    `baseline: false`): all of them or none. Posting the same comparison again, in whatever order of variants, answers
    the one that is there with the document as it was posted first (200); studies of it that failed or were cancelled
    are queued again by that, and run once the trials have ended that their group runs at that moment. Another one
    under the name is refused (409).
    """
    request.state.tried = dry_run  # for the audit
    submission = parse_comparison_submission(body, settings, who)
    if dry_run:
        dry = comparison_dry_run(submission.spec)
        return Response(dry.model_dump_json(), media_type="application/json")
    with store.begin() as session:
        made = comparisons.create(session, submission.spec, preset=submission.preset, idempotency_key=idempotency_key)
        view = _view(session, made.comparison)
    response.status_code = 201 if made.created else 200
    response.headers["Location"] = view.links.self
    return view


@router.get(
    "",
    response_model=ComparisonPage,
    summary="List comparisons",
    responses={200: {"content": {"application/json": {"example": examples.PAGE}}}, **problems(422, 503)},
)
def list_comparisons(store: Store, filters: Annotated[Filters, Query()]):
    """Newest first, a page at a time."""
    wanted = pages.StudyFilter(
        preset=filters.preset, owner=filters.owner, labels=read_labels(filters.label), text=filters.text
    )
    with store.begin() as session:
        rows, following = pages.comparisons(session, wanted, filters.limit, filters.cursor)
        return ComparisonPage(items=[comparison_summary(row) for row in rows], next=following)


@router.get(
    "/{comparison_id}",
    response_model=ComparisonView,
    summary="One comparison",
    responses={200: {"content": {"application/json": {"example": examples.COMPARISON}}}, **problems(404, 422, 503)},
)
def show(comparison_id: str, store: Store):
    """Its document, and each variant's study with its state and progress."""
    with store.begin() as session:
        return _view(session, comparisons.get(session, comparison_id))


@router.post(
    "/{comparison_id}/variants",
    status_code=201,
    response_model=ComparisonView,
    summary="Add variants to a comparison",
    responses=examples.ADDED | problems(404, 409, 413, 415, 422, 503),
    openapi_extra={"requestBody": examples.VARIANTS},
)
def add_variants(comparison_id: str, body: RequestBody, store: Store, settings: Configuration, response: Response):
    """`{name: {dotted overrides}}`, over the base that the comparison was posted with. Each becomes a queued study, in
    a group of its own so that it waits for no other; the baseline is that of the comparison. The comparison as a whole
    is validated again before anything is stored. Variants that are there already, with the same overrides, are left
    alone (200 where that is all of them); with others they are refused (409).

    A variant gets the base's `budget.trials`, whatever the comparison was extended to: override it where it matters.
    """
    with store.begin() as session:
        seen = comparisons.get(session, comparison_id)
    spec = parse_added_variants(body, seen, settings)
    with store.begin() as session:
        comparison = comparisons.locked(session, comparison_id)
        if comparison.document != seen.document:  # others have added some meanwhile
            spec = parse_added_variants(body, comparison, settings)
        added = comparisons.add_variants(session, comparison, spec)
        session.flush()
        view = _view(session, comparison)
    response.status_code = 201 if added else 200
    return view


@router.post("/{comparison_id}/pause", summary="Pause a comparison", **_answers("paused"))
def pause(comparison_id: str, store: Store):
    """Every study of it that runs, in one transaction; `changes` says what became of each, and why one was left as it
    is. One that is queued or preparing cannot be paused and **starts later**: pause the comparison again then, or
    cancel that study. 409 where none runs."""
    with store.begin() as session:
        return _changed(session, comparison_id, together.pause(session, comparison_id))


@router.post("/{comparison_id}/resume", summary="Resume a comparison", **_answers("running"))
def resume(comparison_id: str, store: Store):
    """Every study of it that is paused. 409 where none is."""
    with store.begin() as session:
        return _changed(session, comparison_id, together.resume(session, comparison_id))


@router.post("/{comparison_id}/cancel", summary="Cancel a comparison", **_answers("cancelled"))
def cancel(comparison_id: str, store: Store):
    """Every study of it that has not finished. Running trials end within seconds; what is finished stays. 409 where
    every study has finished."""
    with store.begin() as session:
        return _changed(session, comparison_id, together.cancel(session, comparison_id))


@router.post(
    "/{comparison_id}/extend",
    summary="Give the studies of a comparison more trials",
    **_answers("queued", 413, 415, openapi_extra={"requestBody": EXTENSION}),
)
def extend(comparison_id: str, body: RequestBody, store: Store):
    """Every finished study of it that unlearns gets `trials` in all and is queued again. One that has not finished, or
    has as many, is left as it is, and `changes` says so; 422 where it is no more for any, 409 where none has finished.
    """
    wanted = parse_action(body, Extension)
    with store.begin() as session:
        return _changed(session, comparison_id, together.extend(session, comparison_id, wanted.trials))


@router.post(
    "/{comparison_id}/retry",
    summary="Run the failed trials of a comparison again",
    **_answers("queued", 413, 415, openapi_extra={"requestBody": examples.RETRY}),
)
def retry(comparison_id: str, body: OptionalBody, store: Store):
    """Of every finished study, as for one study; a study that failed before any trial did is queued again, too. 409
    where there is nothing to retry."""
    wanted = parse_action(body, ComparisonRetry)
    with store.begin() as session:
        return _changed(session, comparison_id, together.retry(session, comparison_id, wanted.outcomes))


@router.delete(
    "/{comparison_id}", status_code=204, summary="Delete a comparison", responses=problems(404, 409, 422, 503)
)
def delete(comparison_id: str, store: Store) -> None:
    """With all its studies and their trials, for good. One that has not finished is cancelled first (409)."""
    with store.begin() as session:
        comparisons.delete(session, comparison_id)


@router.get(
    "/{comparison_id}/table",
    response_model=TableView,
    summary="The table of a comparison",
    responses={200: {"content": examples.TABLE}, **problems(404, 422, 503)},
)
def show_table(
    comparison_id: str,
    store: Store,
    reference: Reference = None,
    format: Annotated[Literal["json", "markdown", "csv"], Query(description="How the table is written.")] = "json",
    equal: Annotated[
        Measure | None,
        Query(description="Show every variant as it stood when it had spent as much of this as the one that spent "
        "least; `trials` are finished attempts, pruned and failed ones included. Default: as they stand now."),
    ] = None,
    seed: Seed = 0,
):  # fmt: skip
    """One row per variant: mean and standard error over the last valid trials by both conventions, the best, the
    median, the differences to a reference variant (with intervals by block bootstrap and Holm's correction) and to the
    model without unlearning, and what was spent."""
    with store.begin() as session:
        comparison, rows, main = comparisons.compared(session, comparison_id, reference)
        if equal is None:
            tallies, cut = recent.tallies(session, rows), None
        else:
            attempts = standing.finished(session, [study.id for study in rows])
    if equal is not None:
        tallies, cut = at_equal_compute(rows, attempts, equal)
    known = by_variant(presets.published(comparison.preset))
    made = table(comparison.id, comparison.name, rows, tallies, main, seed=seed, equal_compute=cut, published=known)
    match format:
        case "markdown":
            return Response(table_formats.markdown(made), media_type=table_formats.MARKDOWN)
        case "csv":
            return Response(table_formats.as_csv(made), media_type=table_formats.CSV)
    return made


@router.get(
    "/{comparison_id}/export",
    response_model=ComparisonExport,
    summary="Export a comparison",
    responses={200: {"content": examples.EXPORT}, **problems(404, 422, 503)},
)
def show_export(
    comparison_id: str,
    store: Store,
    reference: Reference = None,
    format: Annotated[
        Literal["json", "bundle"],
        Query(description="`bundle`: a zip, as that of a study, for all studies, with the table and its figures."),
    ] = "json",
    seed: Seed = 0,
):
    """Its table, and each study with every finished attempt: all of it can be computed again from the export alone
    (`mudman verify`)."""
    if format == "bundle":
        return bundled(
            f"{comparison_id}.zip", lambda file: write_comparison(store, comparison_id, reference, file, seed)
        )
    with store.begin() as session:
        comparison, rows, main = comparisons.compared(session, comparison_id, reference)
        found = [exports.of_study(session, study) for study in rows]
    known = by_variant(presets.published(comparison.preset))
    parts = [study_export(*one, seed=seed) for one in found]
    made = comparison_export(comparison, parts, main, seed=seed, published=known)
    return attachment(made.model_dump_json(), "application/json", f"{comparison_id}.json")


def _view(session: Session, comparison: Comparison) -> ComparisonView:
    studies = comparisons.studies_of(session, comparison)
    return comparison_view(comparison, pages.with_counts(session, studies), standing.whole_eta(session, studies))


def _changed(session: Session, comparison_id: str, changes: list[together.Change]) -> ChangedComparison:
    return changed_view(_view(session, comparisons.get(session, comparison_id)), changes)
