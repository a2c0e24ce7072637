"""JSON schemas in words."""

import json
from typing import Any

Schema = dict[str, Any]


def kind(schema: Schema) -> str:
    """What a value may be, in Markdown; other models are links."""
    if "$ref" in schema:
        return link(schema["$ref"].rpartition("/")[2])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(kind(one) for one in schema[choice]))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"list of {', '.join(kind(one) for one in schema['prefixItems'])}"
        case "array":
            return f"list of {kind(schema.get('items', {}))}"
        case "object":
            inner = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
            return f"mapping of names to {kind(inner)}" if isinstance(inner, dict) else "mapping"
        case "integer":
            return f"whole number{_bounds(schema)}"
        case "number":
            return f"number{_bounds(schema)}"
        case "string":
            return {"date-time": "moment", "binary": "bytes"}.get(schema.get("format", ""), "text")
        case "boolean":
            return "true or false"
        case "null":
            return "null"
    return "anything"


def link(model: str) -> str:
    return f"[{model}](#{model.lower()})"


def references(schema: Any) -> list[str]:
    """Names of the models that a schema mentions, in order."""
    if isinstance(schema, dict):
        own = [schema["$ref"].rpartition("/")[2]] if isinstance(schema.get("$ref"), str) else []
        return own + [name for key, part in schema.items() if key != "mapping" for name in references(part)]
    return [name for part in schema for name in references(part)] if isinstance(schema, list) else []


def reached(start: Schema, definitions: dict[str, Schema]) -> list[str]:
    """Models that ``start`` needs, each after the one that mentions it first."""
    found: list[str] = []
    waiting = references(start)
    while waiting:
        name = waiting.pop(0)
        if name not in found and name in definitions:
            found.append(name)
            waiting = references(definitions[name]) + waiting
    return found


def section(name: str, schema: Schema) -> list[str]:
    """A model as a heading, what it is, and a table of its fields."""
    lines = [f"### {name}", ""]
    if said := schema.get("description"):
        lines += [sentence(said), ""]
    fields = schema.get("properties", {})
    if not fields:
        return [*lines, *([kind(schema), ""] if schema.get("type") != "object" else [])]
    lines += ["| field | value | default | meaning |", "|---|---|---|---|"]
    required = schema.get("required", ())
    for field, its in fields.items():
        default = "required" if field in required else f"`{json.dumps(its['default'])}`" if "default" in its else ""
        lines.append(row(f"`{field}`", kind(its), default, sentence(its.get("description", ""))))
    return [*lines, ""]


def row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def sentence(text: str) -> str:
    """On one line, with Markdown's marks for code."""
    return " ".join(text.replace("``", "`").split())


def _bounds(schema: Schema) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    said = [f"{sign} {schema[name]:g}" for name, sign in signs.items() if name in schema]
    return f" {', '.join(said)}" if said else ""
