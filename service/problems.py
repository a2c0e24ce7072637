"""Every error of the API is a problem document (RFC 9457): what went wrong, where in the request, and the remedy."""

import difflib
import json
import logging
import math
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from mudman.artifacts import ArtifactsUnavailable, NoArtifacts
from mudman.faults import FieldFault, MudmanError, SpecError
from service.access.refusals import (
    CrossSite,
    InsufficientScope,
    NotAuthenticated,
    NotInYourName,
    NotLocal,
    NotYours,
    TooManyRequests,
    WrongHost,
)
from service.figures.of_study import NotEnough
from service.refusals import (
    BodyTooLarge,
    NoCheckpoint,
    NoSuchRange,
    NotAcceptable,
    NoValidTrial,
    UnknownPreset,
    UnknownTrial,
    UnsupportedBody,
)
from service.request_log import REQUEST_ID
from service.store.comparisons import ComparisonNameTaken, UnknownComparison, UnknownVariant, VariantTaken
from service.store.database import DatabaseUnavailable
from service.store.events import UnknownStudy
from service.store.idempotency import IdempotencyConflict
from service.store.pages import InvalidCursor
from service.store.refusals import (
    NoRoom,
    NotFinished,
    NothingToRepeat,
    NothingToRetry,
    NothingToWiden,
    PartOfComparison,
    WrongRequest,
)
from service.store.states import RefusedTransition
from service.store.studies import NameTaken
from service.store.together import NothingChanged
from service.store.tokens import UnknownToken
from service.web.headers import HEADERS

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 5
"""Seconds after which a client may try again while the database is away."""


class FieldProblem(BaseModel):
    """One wrong field of the request."""

    pointer: str
    """JSON pointer (RFC 6901) into the request body; empty for the body as a whole and for query parameters."""
    path: str
    """Dotted path of the field, or the name of the parameter."""
    detail: str
    """What is wrong."""
    remedy: str
    """What to do about it."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Problem(BaseModel):
    """Problem document (RFC 9457)."""

    type: str = Field(examples=["urn:mudman:problem:invalid-spec"])
    """Kind of problem; stable, for programs."""
    title: str = Field(examples=["The spec has wrong fields"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["1 field is wrong: budget.trials."])
    """What happened this time, and the remedy."""
    instance: str = Field(examples=["/studies"])
    """Path of the request."""
    errors: list[FieldProblem] = Field(
        default=[],
        examples=[
            [
                {
                    "pointer": "/budget/trials",
                    "path": "budget.trials",
                    "detail": "input should be greater than or equal to 1",
                    "remedy": "input should be greater than or equal to 1 (given: '0')",
                }
            ]
        ],
    )
    """Every wrong field of the request."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="allow")


class Kind(NamedTuple):
    status: int
    slug: str
    title: str


KINDS: dict[type[MudmanError], Kind] = {
    SpecError: Kind(422, "invalid-spec", "The spec has wrong fields"),
    WrongRequest: Kind(422, "invalid-request", "The request has wrong fields"),
    InvalidCursor: Kind(422, "invalid-cursor", "The cursor is malformed"),
    IdempotencyConflict: Kind(422, "idempotency-key-reused", "The idempotency key was used for another request"),
    UnknownStudy: Kind(404, "unknown-study", "There is no such study"),
    UnknownTrial: Kind(404, "unknown-trial", "There is no such trial"),
    UnknownPreset: Kind(404, "unknown-preset", "There is no such preset"),
    UnknownComparison: Kind(404, "unknown-comparison", "There is no such comparison"),
    UnknownVariant: Kind(404, "unknown-variant", "The comparison has no such variant"),
    NotAcceptable: Kind(406, "not-acceptable", "The answer is of no kind that the client takes"),
    NameTaken: Kind(409, "name-taken", "The name is taken by another spec"),
    RefusedTransition: Kind(409, "refused-transition", "The study's state does not allow this"),
    NoArtifacts: Kind(409, "no-artifacts", "There is no place where checkpoints could be kept"),
    ArtifactsUnavailable: Kind(503, "artifacts-unavailable", "The place for checkpoints does not answer"),
    NoSuchRange: Kind(416, "no-such-range", "The file has no such part"),
    NoCheckpoint: Kind(404, "no-checkpoint", "There is no such checkpoint"),
    NothingToRepeat: Kind(409, "nothing-to-repeat", "No trial can be run again"),
    NothingToRetry: Kind(409, "nothing-to-retry", "There is nothing to retry"),
    NothingToWiden: Kind(409, "nothing-to-widen", "No range is known to be too narrow"),
    NoRoom: Kind(409, "no-room", "The budget has no room for more trials"),
    NotFinished: Kind(409, "not-finished", "Only what has finished can be deleted"),
    PartOfComparison: Kind(409, "part-of-comparison", "The study belongs to a comparison"),
    ComparisonNameTaken: Kind(409, "name-taken", "The name is taken"),
    VariantTaken: Kind(409, "variant-taken", "The comparison has another variant of this name"),
    NothingChanged: Kind(409, "refused-transition", "No study of the comparison can be changed so"),
    NoValidTrial: Kind(409, "no-valid-trial", "No trial is valid"),
    NotEnough: Kind(409, "no-figure", "There is nothing to draw yet"),
    BodyTooLarge: Kind(413, "body-too-large", "The request body is too long"),
    UnsupportedBody: Kind(415, "unsupported-body", "The request body is of a kind that is not read here"),
    NotAuthenticated: Kind(401, "not-authenticated", "A token is needed"),
    InsufficientScope: Kind(403, "insufficient-scope", "The token does not reach that far"),
    NotYours: Kind(403, "not-yours", "It belongs to somebody else"),
    NotInYourName: Kind(403, "not-in-your-name", "The spec names another owner than the token"),
    CrossSite: Kind(403, "cross-site", "A page of another site may not change anything here"),
    WrongHost: Kind(403, "wrong-host", "The service does not go by this name"),
    NotLocal: Kind(403, "not-local", "Without tokens only this machine is answered"),
    UnknownToken: Kind(404, "unknown-token", "There is no such token"),
    TooManyRequests: Kind(429, "too-many-requests", "The caller asks too much at once"),
    DatabaseUnavailable: Kind(503, "database-unavailable", "The database is not available"),
}
INVALID_REQUEST = Kind(422, "invalid-request", "The request has wrong parameters")
INTERNAL = Kind(500, "internal", "The server made a mistake")


def respond(
    request: Request,
    kind: Kind,
    detail: str,
    faults: list[FieldFault] | None = None,
    headers: dict[str, str] | None = None,
    **members: Any,
) -> Response:
    request.state.problem = kind.slug  # for the audit event
    errors = [FieldProblem(pointer=f.pointer(), path=f.path, detail=f.message, remedy=f.remedy) for f in faults or []]
    problem = Problem(
        type=f"urn:mudman:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=request.scope["path"],
        errors=errors,
        **members,
    )
    return JSONResponse(problem.model_dump(), kind.status, headers, media_type=MEDIA_TYPE)


def handle_errors(app: FastAPI) -> None:
    """Register the handlers that turn every error into a problem document."""
    app.add_exception_handler(MudmanError, _typed)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


def document(request: Request, error: MudmanError | RequestValidationError) -> Response:
    return _parameters(request, error) if isinstance(error, RequestValidationError) else _typed(request, error)


def describe(request: Request, error: MudmanError) -> dict[str, Any]:
    """The problem document of an error, for a page that shows it."""
    return json.loads(_typed(request, error).body)


def _typed(request: Request, error: MudmanError) -> Response:
    kind = next((KINDS[base] for base in type(error).__mro__ if base in KINDS), None)
    if kind is None:
        return _unexpected(request, error)
    match error:
        case SpecError(faults=faults):
            paths = ", ".join(fault.path or "the document" for fault in faults)
            detail = f"1 field is wrong: {paths}." if len(faults) == 1 else f"{len(faults)} fields are wrong: {paths}."
            return respond(request, kind, detail, faults)
        case InvalidCursor():
            remedy = "take `next` of the page before, unchanged, or leave it out"
            fault = _ParameterFault("cursor", "is malformed", remedy)
            return respond(request, kind, str(error), [fault])
        case UnknownVariant():
            close = difflib.get_close_matches(error.variant, error.known, n=3)
            remedy = f"did you mean {' or '.join(close)}?" if close else f"one of {', '.join(error.known)}"
            fault = _ParameterFault("reference", f"there is no variant {error.variant!r}", remedy)
            return respond(request, kind, str(error), [fault])
        case NameTaken():
            return respond(
                request, kind, str(error), difference=error.difference, existing=f"/studies/{error.study_id}"
            )
        case ComparisonNameTaken():
            return respond(request, kind, str(error), difference=error.difference, existing=error.existing)
        case RefusedTransition():
            return respond(request, kind, str(error), state=str(error.current))
        case NothingChanged():
            told = [{"variant": one.variant, "study": one.study_id, "reason": one.reason} for one in error.changes]
            return respond(request, kind, str(error), state=str(error.state), studies=told)
        case VariantTaken():
            return respond(request, kind, str(error), variant=error.variant, existing=error.existing)
        case NotAuthenticated():
            return respond(request, kind, str(error), headers=_challenge("invalid_token" if error.given else None))
        case InsufficientScope():
            challenge = _challenge("insufficient_scope", scope=error.needed)
            return respond(request, kind, str(error), headers=challenge, needed=error.needed)
        case NoSuchRange():
            return respond(request, kind, str(error), headers={"Content-Range": f"bytes */{error.size}"})
        case TooManyRequests():
            return respond(request, kind, str(error), headers={"Retry-After": str(math.ceil(error.seconds))})
        case DatabaseUnavailable():
            return respond(request, kind, str(error), headers={"Retry-After": str(RETRY_AFTER)})
        case BodyTooLarge():
            # What is left of the body is not read: the connection cannot be used again.
            return respond(request, kind, str(error), headers={"Connection": "close"})
    return respond(request, kind, str(error))


def _challenge(error: str | None, **more: str) -> dict[str, str]:
    """https://www.rfc-editor.org/rfc/rfc6750#section-3"""
    said = {"realm": "mudman"} | ({"error": error} if error else {}) | more
    return {"WWW-Authenticate": "Bearer " + ", ".join(f'{name}="{value}"' for name, value in said.items())}


def _parameters(request: Request, error: RequestValidationError) -> Response:
    faults = [_parameter_fault(request, detail) for detail in error.errors()]
    names = ", ".join(fault.path for fault in faults)
    return respond(request, INVALID_REQUEST, f"Wrong: {names}.", faults)


class _ParameterFault(FieldFault):
    """Not in the body, so no pointer leads to it."""

    def pointer(self) -> str:
        return ""


def _parameter_fault(request: Request, detail: dict) -> FieldFault:
    place, *path = (str(part) for part in detail["loc"])
    name = path[0] if path else place
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        known = [parameter.alias for parameter in _query_parameters(request)]
        close = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"remove it; known are {', '.join(known) or 'none'}"
        return _ParameterFault(name, f"there is no {place} parameter of this name", remedy)
    expected = detail.get("ctx", {}).get("expected")
    remedy = f"one of {expected}" if expected else "correct it or leave it out"
    return _ParameterFault(name, f"{place} parameter: {message[:1].lower()}{message[1:]}", remedy)


def _query_parameters(request: Request) -> list:
    fields = []
    for parameter in request.scope["route"].dependant.query_params:
        model = getattr(parameter.field_info, "annotation", None)
        if isinstance(model, type) and issubclass(model, BaseModel):
            fields += [_Alias(field.alias or name) for name, field in model.model_fields.items()]
        else:
            fields.append(_Alias(parameter.alias))
    return fields


class _Alias(NamedTuple):
    alias: str


def _plain(request: Request, error: HTTPException) -> Response:
    title = HTTPStatus(error.status_code).phrase
    slug = title.lower().replace(" ", "-")
    headers = dict(error.headers or {})
    match error.status_code:
        case 404:
            detail = f"There is nothing at {request.scope['path']}. The addresses are listed in /openapi.json."
        case 405:
            headers["Allow"] = ", ".join(_methods(request))
            detail = f"{request.method} is not possible here. Possible: {headers['Allow']}."
        case _:
            detail = str(error.detail)
    return respond(request, Kind(error.status_code, slug, title), detail, headers=headers)


def _methods(request: Request) -> list[str]:
    """Methods of every route at this address; the framework's own ``Allow`` knows one route only."""
    routes = (route for router in request.app.state.routers for route in router.routes)
    matching = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in matching for method in route.methods or ()})


def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody is there to read it


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    detail = "An unexpected error. The server's log says more; nothing was stored."
    # This answer is given outside of every middleware.
    headers = HEADERS | {REQUEST_ID: request.state.request_id}
    return respond(request, INTERNAL, detail, headers=headers)
