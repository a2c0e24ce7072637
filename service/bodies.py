"""From the bytes of a request to a checked spec. Long bodies and unknown kinds are refused unparsed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, Request

from mudman import presets
from mudman.documents import read_json, read_yaml
from mudman.faults import FieldFault, SpecError
from mudman.registry import source_faults
from mudman.specs import Model, Name, StudySpec, parse, parse_as
from service.problems import BodyTooLarge, UnsupportedBody

JSON = ("application/json",)
YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
_SWALLOW = 20
"""Times the limit that is read and thrown away: a client that sends first and listens later sees the answer too."""


class PresetRequest(Model):
    """A packaged spec, with changes."""

    preset: Name
    """Name of the preset; ``GET /presets`` lists them."""
    overrides: dict[str, Any] = {}
    """Changes by field; keys may be dotted (``budget.trials``). Mappings are merged, everything else replaces."""


@dataclass(frozen=True)
class Body:
    """A request body of a size and kind that is read here, not parsed yet."""

    raw: bytes
    kind: Literal["json", "yaml"]


@dataclass(frozen=True)
class Submission:
    spec: StudySpec
    preset: str | None


@dataclass(frozen=True)
class _OverrideFault(FieldFault):
    """A fault in a preset with overrides: it points into the overrides, where the user can mend it."""

    at: tuple[str, ...] = ()

    def pointer(self) -> str:
        return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in ("overrides", *self.at))


async def _body(request: Request) -> Body:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = "json" if media_type in JSON else "yaml" if media_type in YAML else None
    if kind is None:
        given = f"Content-Type {media_type!r} is" if media_type else "A body without a Content-Type is"
        raise UnsupportedBody(f"{given} not read here. Send Content-Type: {JSON[0]} or {YAML[0]}.")
    if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise UnsupportedBody(f"Content-Encoding {encoding!r} is not read here. Send the body uncompressed.")
    return Body(await _read(request, request.app.state.settings.max_body_bytes), kind)


async def _read(request: Request, limit: int) -> bytes:
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length <= limit:
            parts.append(part)
        elif length > _SWALLOW * limit:
            break
    if length > limit:
        raise BodyTooLarge(
            f"The body is longer than the {limit} bytes that are read. A spec needs a few kilobytes: name corpora "
            "instead of including them, or ask the operator to raise MUDMAN_MAX_BODY_BYTES."
        )
    return b"".join(parts)


RequestBody = Annotated[Body, Depends(_body)]


def parse_submission(body: Body, data_root: Path) -> Submission:
    """Raises ``SpecError`` with every fault, those of models, corpora and folders that are not there included."""
    try:
        return _submission(_document(body), data_root)
    except RecursionError:
        raise SpecError([FieldFault("", "is nested too deeply", "a spec has five levels; take out the rest")]) from None


def _submission(data: Any, data_root: Path) -> Submission:
    if not (isinstance(data, dict) and "preset" in data):
        return Submission(_checked(data, data_root), None)
    request = parse_as(PresetRequest, data)
    document = presets.load(request.preset, request.overrides)
    try:
        return Submission(_checked(document, data_root), request.preset)
    except SpecError as error:
        raise SpecError([_in_overrides(fault, request.overrides) for fault in error.faults]) from None


def _document(body: Body) -> Any:
    try:
        text = body.raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError([FieldFault("", f"is not UTF-8 (byte {error.start})", "send it encoded in UTF-8")]) from None
    if not text.strip():
        remedy = 'send a study spec, or {"preset": "quickstart"}'
        raise SpecError([FieldFault("", "the body is empty", remedy)])
    return read_json(text) if body.kind == "json" else read_yaml(text)


def _checked(data: Any, data_root: Path) -> StudySpec:
    spec = parse(data)
    if faults := source_faults(spec, data_root):
        raise SpecError(faults)
    return spec


def _in_overrides(fault: FieldFault, overrides: dict[str, Any]) -> FieldFault:
    return _OverrideFault(**vars(replace(fault)), at=tuple(_location(fault.path, overrides)))


def _location(path: str, overrides: Any) -> list[str]:
    """Keys that lead to ``path``, as far as the overrides mention it. Their keys may be dotted."""
    if isinstance(overrides, dict):
        for key, value in overrides.items():
            if path == key or key.startswith(f"{path}."):
                return [key]
            if path.startswith(f"{key}."):
                return [key, *_location(path[len(key) + 1 :], value)]
    return []
