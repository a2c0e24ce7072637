"""Completes the generated OpenAPI document: the vocabulary of specs, and problem documents."""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from mudman.specs import StudySpec
from mudman.specs.repeats import ConfirmationSpec
from service.access import cookie, rules
from service.bodies import (
    ComparisonPresetRequest,
    ComparisonRetry,
    Enqueue,
    Extension,
    Keeping,
    NewToken,
    PresetRequest,
    Retry,
    Widening,
)
from service.cost import ComparisonDryRun, DryRun
from service.declared_problems import problems
from service.problems import Problem

_TEMPLATE = "#/components/schemas/{model}"


def complete(app: FastAPI) -> FastAPI:
    """Let ``app.openapi()`` answer the generated document with everything that its references name."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            actions = (Extension, Retry, ComparisonRetry, Enqueue, Widening, ConfirmationSpec, Keeping)
            asked = (StudySpec, PresetRequest, ComparisonPresetRequest, *actions, NewToken)
            answered = (Problem, DryRun, ComparisonDryRun)
            _, definitions = models_json_schema([(kind, "validation") for kind in asked], ref_template=_TEMPLATE)
            _, answers = models_json_schema([(kind, "serialization") for kind in answered], ref_template=_TEMPLATE)
            _declare_access(document)
            _restore_examples(app, document)
            schemas = document["components"]["schemas"]
            for extra in (definitions["$defs"], answers["$defs"]):
                schemas.update(extra)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi
    return app


def _declare_access(document: dict[str, Any]) -> None:
    """What ``service.access.gate`` and ``service.web.browser_rules`` answer before any route does."""
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            scope = rules.needed(method.upper(), path)
            operation["security"] = [{name: [scope]} for name in _SCHEMES] if scope else []
            for status in (401, 403, 429, 503) if scope else (403, 429):
                operation["responses"].setdefault(str(status), problems(status)[status])
            if scope:
                operation["responses"]["401"]["headers"] = {"WWW-Authenticate": _CHALLENGE}
            operation["responses"]["429"]["headers"] = {"Retry-After": _RETRY_AFTER}


_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Of scope `read`, `submit` or `admin`, each with all that the ones before it have. Not needed "
        "where the service runs without access, on loopback.",
    },
    "browser": {
        "type": "apiKey",
        "in": "cookie",
        "name": cookie.NAME,
        "description": "The same token, as `/ui/sign-in` leaves it with a browser.",
    },
}
_CHALLENGE = {"description": "RFC 6750", "schema": {"type": "string"}, "example": 'Bearer realm="mudman"'}
_RETRY_AFTER = {"description": "Seconds", "schema": {"type": "integer"}}


def _restore_examples(app: FastAPI, document: dict[str, Any]) -> None:
    """The generator drops every null, also those inside examples, which then lack fields."""
    for router in app.state.routers:
        for route in router.routes:
            if not route.include_in_schema:
                continue  # a page
            for method in route.methods:
                operation = document["paths"][route.path_format][method.lower()]
                body = (route.openapi_extra or {}).get("requestBody")
                given = [(body, operation["requestBody"])] if body else []
                given += [(response, operation["responses"][str(code)]) for code, response in route.responses.items()]
                for source, target in given:
                    for media_type, content in source["content"].items():
                        kept = {key: value for key, value in content.items() if key in ("example", "examples")}
                        target["content"][media_type].update(kept)
