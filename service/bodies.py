"""From the bytes of a request to a checked spec. Long bodies and unknown kinds are refused unparsed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Request
from pydantic import Field, WithJsonSchema, model_validator

from mudman import presets
from mudman.documents import read_json, read_yaml
from mudman.faults import FieldFault, SpecError, between_fields
from mudman.registry import source_faults
from mudman.specs import Model, Name, Range, StudySpec, parse, parse_as
from mudman.specs.comparison import ComparisonSpec, PlacedFault, is_comparison, location, parse_comparison
from service.access.caller import Caller
from service.refusals import BodyTooLarge, UnsupportedBody
from service.store.actions import RETRIED
from service.store.comparisons import VariantTaken
from service.store.refusals import WrongRequest
from service.store.scopes import Scope
from service.store.settings import Settings
from service.store.tables import Comparison
from service.store.tokens import LONGEST_DAYS

JSON = ("application/json",)
YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
_SWALLOW = 20
"""Times the limit that is read and thrown away: a client that sends first and listens later sees the answer too."""


class ComparisonPresetRequest(Model):
    """A packaged comparison, with changes."""

    preset: Name
    """Name of the preset; ``GET /presets`` lists them."""
    overrides: dict[str, Any] = {}
    """Changes by field; keys may be dotted (``budget.trials``). Mappings are merged, everything else replaces."""


class PresetRequest(ComparisonPresetRequest):
    """A packaged spec, with changes."""

    variant: Name | None = None
    """Which one, where the preset is a comparison; default: its first."""


class Extension(Model):
    """More trials for a finished study."""

    trials: int = Field(ge=1, le=1_000_000)
    """New total of ``budget.trials``."""


class ComparisonRetry(Model):
    """Which trials of a comparison's studies run again; without anything, all that ended for good and do not count."""

    outcomes: list[Literal["error", "out_of_memory", "lost"]] = Field(list(RETRIED), min_length=1, max_length=3)
    """Those whose last attempt ended so."""


class Retry(ComparisonRetry):
    """Which trials run again; without anything, all that ended for good and do not count."""

    ordinals: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = Field(None, min_length=1, max_length=100_000)
    """Only these."""


class Widening(Model):
    """A study like this one with wider ranges, begun with its best configurations."""

    name: Name | None = None
    """Of the new study; default: that of this one with `-widened`."""
    trials: int | None = Field(None, ge=1, le=1_000_000)
    """Its `budget.trials`; default: as many as this one has."""
    ranges: dict[Name, Range] = {}
    """New ranges by name, each of which contains the old one; default: those that `GET …/statistics` calls saturated,
    as it shows them under `widened`."""
    warm_start: int = Field(10, ge=0, le=1000)
    """Best configurations that are tried first; as many as there are, and no more than its trials."""


class Keeping(Model):
    """Which trials run once more to keep their weights; without anything, the best one."""

    best: int | None = Field(None, ge=1, le=100)
    """So many of the best."""
    trials: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = Field(None, min_length=1, max_length=100)
    """These, by number."""

    @model_validator(mode="after")
    def _either(self) -> "Keeping":
        if self.best is not None and self.trials is not None:
            raise between_fields([FieldFault("trials", "and best are two ways to choose", "give one of them")])
        return self


Chosen = dict[str, Annotated[Any, WithJsonSchema({"type": "number"})]]


class NewToken(Model):
    """A token that is to be made."""

    owner: Name
    """In whose name it acts."""
    scope: Annotated[Scope, Field(strict=False)]
    """`read`: look at everything; `submit`: make studies and change the owner's; `admin`: everybody's, and tokens."""
    days: int = Field(90, ge=1, le=LONGEST_DAYS)
    """Until it expires."""
    note: Annotated[str, Field(max_length=200)] = ""
    """Where it is used."""


class Enqueue(Model):
    """One trial, or several: values by hyper-parameter, named as in a trial's ``hyperparameters``."""

    hyperparameters: Chosen | None = None
    """Of one trial."""
    trials: list[Chosen] | None = Field(None, min_length=1, max_length=1000)
    """Of several, in order."""

    @model_validator(mode="after")
    def _either(self) -> "Enqueue":
        if (self.hyperparameters is None) == (self.trials is None):
            message = "needs either hyperparameters, for one trial, or trials, for several"
            raise between_fields([FieldFault("", message, "give one of them")])
        return self

    def places(self) -> dict[tuple[str, ...], dict[str, Any]]:
        """Each trial's values, by where they stand in the body."""
        if self.trials is None:
            return {("hyperparameters",): self.hyperparameters}
        return {("trials", str(index)): values for index, values in enumerate(self.trials)}


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
class ComparisonSubmission:
    spec: ComparisonSpec
    preset: str | None


async def _body(request: Request) -> Body:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = "json" if media_type in JSON else "yaml" if media_type in YAML else None
    if kind is None:
        given = f"Content-Type {media_type!r} is" if media_type else "A body without a Content-Type is"
        raise UnsupportedBody(f"{given} not read here. Send Content-Type: {JSON[0]} or {YAML[0]}.")
    if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise UnsupportedBody(f"Content-Encoding {encoding!r} is not read here. Send the body uncompressed.")
    return Body(await read(request, request.app.state.settings.max_body_bytes), kind)


async def _optional_body(request: Request) -> Body:
    """A request without a body needs no media type either."""
    announced = any(header in request.headers for header in ("content-type", "transfer-encoding"))
    if not announced and request.headers.get("content-length", "0") == "0":
        return Body(b"", "json")
    return await _body(request)


async def read(request: Request, limit: int) -> bytes:
    """The whole body. Raises ``BodyTooLarge``."""
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
OptionalBody = Annotated[Body, Depends(_optional_body)]
T = TypeVar("T")
Kind = TypeVar("Kind", bound=Model)


def parse_action(body: Body, kind: type[Kind]) -> Kind:
    """The body of an action; nothing means an empty mapping. Raises ``WrongRequest`` with every fault."""
    try:
        return parse_as(kind, _document(body) if body.raw.strip() else {})
    except RecursionError:
        raise WrongRequest.at("", "is nested too deeply", "it has three levels at most") from None
    except SpecError as error:
        raise WrongRequest(error.faults) from None


def canonical(request: Model) -> str:
    """Equal for requests that mean the same."""
    return json.dumps(request.model_dump(mode="json", exclude_defaults=True), sort_keys=True)


def parse_submission(body: Body, settings: Settings, caller: Caller) -> Submission:
    """A study, in the caller's name where it names no owner. Raises ``NotInYourName``, or ``SpecError`` with every
    fault, those of models, corpora and folders that are not there included.

    Of a preset that is a comparison one variant is taken.
    """

    def load(request: PresetRequest) -> Any:
        variant = request.variant
        if variant is None and is_comparison(presets.load(request.preset)):
            variant = presets.about(request.preset).variants[0]
        return presets.load(request.preset, request.overrides, variant=variant)

    def check(document: Any) -> StudySpec:
        return _study(_owned(document, caller), settings)

    spec, preset = _submitted(body, PresetRequest, load, check)
    caller.check_may_post(spec.owner)
    return Submission(spec, preset)


def parse_comparison_submission(body: Body, settings: Settings, caller: Caller) -> ComparisonSubmission:
    """As ``parse_submission``, of a comparison."""

    def load(request: ComparisonPresetRequest) -> Any:
        document = presets.load(request.preset, request.overrides)
        if not is_comparison(document):
            message = "is a study"
            raise SpecError.at(
                "preset", message, "post it to /studies (`mudman submit`), or give variants in overrides"
            )
        return document

    def check(document: Any) -> ComparisonSpec:
        return _comparison(_owned(document, caller), settings)

    spec, preset = _submitted(body, ComparisonPresetRequest, load, check)
    caller.check_may_post(spec.owner)
    return ComparisonSubmission(spec, preset)


def _owned(document: Any, caller: Caller) -> Any:
    if caller.owner is None or not isinstance(document, dict):
        return document
    return {"owner": caller.owner, **document}


def parse_added_variants(body: Body, comparison: Comparison, settings: Settings) -> ComparisonSpec:
    """The comparison with more variants: the body is ``{name: {dotted overrides}}``. All of it is validated together.

    Raises ``SpecError`` with every fault, at its place in the body, and ``VariantTaken``.
    """
    given: Any = None
    try:
        given = _document(body)
        if not (isinstance(given, dict) and given and all(isinstance(name, str) for name in given)):
            remedy = "give for example {no_mask: {method.mask: none}}"
            raise SpecError.at("", "must be a mapping of names of variants to overrides", remedy)
        known = comparison.document["variants"]
        for name in given.keys() & known.keys():
            if given[name] != known[name]:
                raise VariantTaken(comparison.id, name, known[name])
        return _comparison({**comparison.document, "variants": {**known, **given}}, settings)
    except RecursionError:
        raise SpecError([FieldFault("", "is nested too deeply", "a spec has five levels; take out the rest")]) from None
    except SpecError as error:
        raise SpecError([_in_added(fault, given) for fault in error.faults]) from None


def _in_added(fault: FieldFault, given: Any) -> FieldFault:
    """What is wrong elsewhere in the comparison has no place in this body."""
    at = fault.at[1:] if isinstance(fault, PlacedFault) and fault.at[:1] == ("variants",) else ()
    if at and at[0] in given:
        return PlacedFault(fault.path.removeprefix("variants."), fault.message, fault.remedy, at)
    return PlacedFault(fault.path, fault.message, fault.remedy)


def _submitted(
    body: Body, request_kind: type, load: Callable[[Any], Any], check: Callable[[Any], T]
) -> tuple[T, str | None]:
    """What the document or preset means, and the name of the preset."""
    try:
        data = _document(body)
        if not (isinstance(data, dict) and "preset" in data):
            return check(data), None
        request = parse_as(request_kind, data)
        document = load(request)
        try:
            return check(document), request.preset
        except SpecError as error:
            raise SpecError([_in_overrides(fault, request.overrides) for fault in error.faults]) from None
    except RecursionError:
        raise SpecError([FieldFault("", "is nested too deeply", "a spec has five levels; take out the rest")]) from None


def _document(body: Body) -> Any:
    try:
        text = body.raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError([FieldFault("", f"is not UTF-8 (byte {error.start})", "send it encoded in UTF-8")]) from None
    if not text.strip():
        remedy = 'send a study spec, or {"preset": "quickstart"}'
        raise SpecError([FieldFault("", "the body is empty", remedy)])
    return read_json(text) if body.kind == "json" else read_yaml(text)


def _study(data: Any, settings: Settings) -> StudySpec:
    if is_comparison(data):
        raise SpecError.at("variants", "makes it a comparison", "post it to /comparisons (`mudman compare`)")
    spec = parse(data)
    if faults := _named_faults(spec, settings):
        raise SpecError(faults)
    return spec


def _named_faults(spec: StudySpec, settings: Settings) -> list[FieldFault]:
    """Of what the spec names and asks for, as far as it can be seen here."""
    faults = source_faults(spec, settings.data_root)
    if settings.artifacts is None and (spec.checkpoints or (spec.repeats and spec.repeats.keep)):
        remedy = "leave it out, or set MUDMAN_ARTIFACTS to a folder or s3://bucket/prefix"
        faults.append(FieldFault("checkpoints", "cannot be kept: no place for them is configured", remedy))
    return faults


def _comparison(data: Any, settings: Settings) -> ComparisonSpec:
    spec = parse_comparison(data)
    faults: dict[FieldFault, list[str]] = {}
    for variant, study in spec.studies.items():
        for fault in _named_faults(study, settings):
            faults.setdefault(fault, []).append(variant)
    if faults:
        everywhere = len(spec.studies)
        raise SpecError(
            [
                placed
                for fault, variants in faults.items()
                for placed in ([fault] if len(variants) == everywhere else spec.placed(fault, variants))
            ]
        )
    return spec


def _in_overrides(fault: FieldFault, overrides: dict[str, Any]) -> FieldFault:
    """A fault in a preset with overrides points into the overrides, where the user can mend it."""
    return PlacedFault(fault.path, fault.message, fault.remedy, ("overrides", *location(fault.path, overrides)))
