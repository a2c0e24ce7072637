"""The reference of the API: every address with what it takes and answers, and every model of its answers."""

from collections.abc import Iterator
from typing import Any

from service.app import create_app
from service.reference.schemas import kind, reached, row, section, sentence
from service.store.settings import Settings

_HEAD = """# Every address of the API

Written by `make reference` from the OpenAPI document, which a running system has at `/openapi.json`, with examples of
each request and answer. Bodies are JSON, or YAML. Every error is a problem document (RFC 9457):
`title`, `detail`, and `errors` with a pointer to each wrong field and its remedy.
"""
_ELSEWHERE = "StudySpec"
"""Described in the reference of specs."""


def api() -> str:
    # Nothing is connected to: the document is made from the routes.
    document = create_app(Settings(database_url="postgresql://nowhere/none")).openapi()
    lines = _HEAD.splitlines()
    models: dict[str, None] = {}
    definitions = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += ["", *_operation(method.upper(), path, operation)]
            models |= dict.fromkeys(reached(list(_schemas(operation)), definitions))
    lines += ["", "## What is sent and answered", "", f"{_ELSEWHERE} and its parts: [specs](spec.md).", ""]
    of_specs = {_ELSEWHERE, *reached(definitions[_ELSEWHERE], definitions)}
    for name in sorted(models.keys() - of_specs):
        lines += section(name, definitions[name])
    text = "\n".join(lines).rstrip() + "\n"
    for name in of_specs:
        text = text.replace(f"(#{name.lower()})", f"(spec.md#{name.lower()})")
    return text


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    lines = [
        f"## {method} {path}",
        "",
        f"{operation['summary']}. {sentence(operation.get('description', ''))}".rstrip(),
    ]
    parameters = [one for one in operation.get("parameters", []) if one["in"] != "path"]
    if parameters:
        lines += ["", "| parameter | value | meaning |", "|---|---|---|"]
        for one in parameters:
            said = one.get("description") or one["schema"].get("description", "")
            name = f"`{one['name']}`" + (" (header)" if one["in"] == "header" else "")
            lines.append(row(name, kind(one["schema"]), sentence(said)))
    if body := operation.get("requestBody"):
        content = next(iter(body["content"].values()))
        wanted = "" if body.get("required") else " (may be left out)"
        lines += ["", f"Body{wanted}: {kind(content['schema'])}. {sentence(body.get('description', ''))}".rstrip()]
    lines += ["", "| status | answer |", "|---|---|"]
    for status, response in operation["responses"].items():
        kinds = [kind(content["schema"]) for content in response.get("content", {}).values() if "schema" in content]
        said = sentence(response.get("description", ""))
        is_plain = said in ("", "Successful Response")
        answer = " or ".join(dict.fromkeys(kinds)) or "nothing"
        lines.append(row(status, said if status[0] in "45" else answer if is_plain else f"{answer}: {said}"))
    return lines


def _schemas(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for status, response in operation["responses"].items():
        if status[0] == "2":
            yield from (content.get("schema", {}) for content in response.get("content", {}).values())
    yield from (one["schema"] for one in operation.get("parameters", []))
    yield from (content["schema"] for content in operation.get("requestBody", {}).get("content", {}).values())
