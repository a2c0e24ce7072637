"""Which problems a route answers, for the OpenAPI document."""

from typing import Any

from service.problems import INTERNAL, INVALID_REQUEST, KINDS, MEDIA_TYPE


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declares, for OpenAPI, which problems a route answers beside 500."""
    return {status: _declared(status) for status in (*statuses, 500)}


def _declared(status: int) -> dict[str, Any]:
    named = {error.__name__: kind for error, kind in KINDS.items()}
    named |= {"InvalidRequest": INVALID_REQUEST, "Internal": INTERNAL}
    kinds = {name: kind for name, kind in named.items() if kind.status == status}
    examples = {
        name: {
            "summary": kind.title,
            "value": {
                "type": f"urn:mudman:problem:{kind.slug}",
                "title": kind.title,
                "status": status,
                "detail": "What happened this time, and the remedy.",
                "instance": "/studies",
                "errors": [],
            },
        }
        for name, kind in kinds.items()
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}}
    return {"description": "; or: ".join(kind.title for kind in kinds.values()), "content": content}
