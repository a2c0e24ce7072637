"""Completes the generated OpenAPI document: the vocabulary of specs, and problem documents."""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from mudman.specs import StudySpec
from service.bodies import (
    ComparisonPresetRequest,
    ComparisonRetry,
    Enqueue,
    Extension,
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
            actions = (Extension, Retry, ComparisonRetry, Enqueue, Widening)
            asked = (StudySpec, PresetRequest, ComparisonPresetRequest, *actions)
            answered = (Problem, DryRun, ComparisonDryRun)
            _, definitions = models_json_schema([(kind, "validation") for kind in asked], ref_template=_TEMPLATE)
            _, answers = models_json_schema([(kind, "serialization") for kind in answered], ref_template=_TEMPLATE)
            _declare_cross_site(document)
            _restore_examples(app, document)
            schemas = document["components"]["schemas"]
            for extra in (definitions["$defs"], answers["$defs"]):
                schemas.update(extra)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi
    return app


def _declare_cross_site(document: dict[str, Any]) -> None:
    """Whatever changes something is refused to pages of other sites (``service.web.browser_rules``)."""
    for methods in document["paths"].values():
        for method, operation in methods.items():
            if method != "get":
                operation["responses"]["403"] = problems(403)[403]


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
