"""``/studies``: create, list, look at."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from service import examples
from service.bodies import RequestBody, parse_submission
from service.cost import DryRun, cost_of
from service.declared_problems import problems
from service.routes import Configuration, Key, Store, Text, Who
from service.store import pages, studies
from service.store.states import State
from service.stored_views import view_of
from service.views import StudyPage, StudyView, study_summary

router = APIRouter(prefix="/studies", tags=["studies"])


class Filters(BaseModel):
    """Which studies a list shows; all conditions hold at once."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    state: list[State] = []
    """Any of these states; may be repeated."""
    preset: Text | None = None
    owner: Text | None = None
    model: Text | None = None
    """Model id, whole."""
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
    response_model=StudyView,
    summary="Create a study",
    responses={
        200: {
            "description": "The same study was there already, and is queued again if it had failed or was cancelled; "
            "or, with `dry_run`, the spec is valid",
            "content": {
                "application/json": {
                    "schema": {
                        "anyOf": [
                            {"$ref": "#/components/schemas/StudyView"},
                            {"$ref": "#/components/schemas/DryRun"},
                        ]
                    },
                    "examples": {
                        "repeated": {"value": examples.STUDY},
                        "dry_run": {"value": examples.DRY_RUN},
                    },
                }
            },
        },
        201: {
            "description": "Created",
            "headers": {"Location": {"description": "Address of the study", "schema": {"type": "string"}}},
            "content": {"application/json": {"example": examples.STUDY}},
        },
        **problems(403, 409, 413, 415, 422, 503),
    },
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
    """From a spec, or from a preset with overrides; JSON or YAML.

    Posting the same spec again answers the study that is there already (200); one that failed or was cancelled runs
    again by that, and keeps the trials that count. Another spec under a name that the owner has used is refused (409),
    with the difference.
    """
    request.state.tried = dry_run  # for the audit
    submission = parse_submission(body, settings, who)
    spec = submission.spec
    if dry_run:
        dry = DryRun(valid=True, spec=spec.model_dump(mode="json"), unused=spec.unused(), cost=cost_of(spec))
        return Response(dry.model_dump_json(), media_type="application/json")
    with store.begin() as session:
        creation = studies.create(session, spec, preset=submission.preset, idempotency_key=idempotency_key)
        view = view_of(session, creation.study)
    response.status_code = 201 if creation.created else 200
    response.headers["Location"] = view.links.self
    return view


@router.get(
    "",
    response_model=StudyPage,
    summary="List studies",
    responses={200: {"content": {"application/json": {"example": examples.STUDY_PAGE}}}, **problems(422, 503)},
)
def list_studies(store: Store, filters: Annotated[Filters, Query()]):
    """Newest first, a page at a time."""
    wanted = pages.StudyFilter(
        states=tuple(filters.state),
        preset=filters.preset,
        owner=filters.owner,
        model=filters.model,
        labels=read_labels(filters.label),
        text=filters.text,
    )
    with store.begin() as session:
        rows, following = pages.studies(session, wanted, filters.limit, filters.cursor)
        return StudyPage(items=[study_summary(row) for row in rows], next=following)


@router.get(
    "/{study_id}",
    response_model=StudyView,
    summary="One study",
    responses={200: {"content": {"application/json": {"example": examples.STUDY}}}, **problems(404, 422, 503)},
)
def show(study_id: str, store: Store):
    """Its spec, state, progress, estimated time to completion, and who works on it."""
    with store.begin() as session:
        return view_of(session, studies.get(session, study_id))


def read_labels(given: list[str]) -> dict[str, str]:
    labels = {}
    for label in given:
        key, colon, value = label.partition(":")
        if not (key and colon):
            raise _wrong_label(f"{label!r} is not key:value")
        if labels.setdefault(key, value) != value:
            raise _wrong_label(f"no label {key!r} is both {labels[key]!r} and {value!r}")
    return labels


def _wrong_label(message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("query", "label"), "msg": message, "type": "label"}])
