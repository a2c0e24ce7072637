"""The form for a new study or comparison. It works without scripts: each button posts it whole, and the server answers
it with text and fields in agreement and what is wrong. A script posts it as it is typed."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from mudman import presets
from mudman.documents import read_yaml, write_yaml
from mudman.faults import MudmanError, SpecError
from mudman.specs.comparison import is_comparison
from service import bodies, problems
from service.access.caller import Caller
from service.bodies import Body, parse_comparison_submission, parse_submission
from service.cost import comparison_dry_run, cost_of
from service.refusals import BodyTooLarge
from service.routes import Configuration, Store, Text, Who, comparisons, studies
from service.routes.presets import show as show_preset
from service.web import fields
from service.web.page import Page
from service.web.rendering import render

router = APIRouter(route_class=Page, include_in_schema=False)
_FIRST = "quickstart"
_MOST_FIELDS = 1000
_SET, _BEFORE = "set.", "before."
"""What names of form fields begin with: a field's value, and the one that it had when the form was made."""


async def _form(request: Request) -> dict[str, str]:
    raw = await bodies.read(request, request.app.state.settings.max_body_bytes)
    try:
        return dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise BodyTooLarge(f"The form has more than {_MOST_FIELDS} fields. Give the spec as text.") from None


@router.get("/ui/new")
def new(request: Request, settings: Configuration, who: Who, preset: Text = _FIRST):
    said = show_preset(preset)
    return _page(request, settings, who, said["name"], write_yaml(said["spec"]))


@router.post("/ui/new")
def change(
    request: Request,
    store: Store,
    settings: Configuration,
    who: Who,
    form: Annotated[dict[str, str], Depends(_form)],
):
    text, preset = form.get("spec", ""), form.get("preset", _FIRST)
    with suppress(SpecError):  # the check of the text says what is wrong with it
        text = fields.changed(text, _given(form), _of(form, _BEFORE))
    starts = form.get("action") == "start"
    request.state.tried = not starts  # for the audit: a script posts the form as it is typed
    if starts:
        try:
            return _start(request, text, store, settings, who)
        except MudmanError as error:
            return _page(request, settings, who, preset, text, refusal=error)
    return _page(request, settings, who, preset, text)


def _given(form: Mapping[str, str]) -> dict[str, str]:
    """Browsers send of a flag only that it is set."""
    unset = {path: "false" for path, value in _of(form, _BEFORE).items() if value in ("true", "false")}
    return unset | _of(form, _SET)


def _of(form: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in form.items() if name.startswith(prefix)}


def _start(request: Request, text: str, store: Any, settings: Any, who: Caller) -> Response:
    create = comparisons.create if _kind(text) == "comparison" else studies.create
    made = create(request, Body(text.encode(), "yaml"), store, settings, who, Response())
    return RedirectResponse(f"/ui{made.links.self}", 303)


def _kind(text: str) -> Literal["study", "comparison"]:
    try:
        return "comparison" if is_comparison(read_yaml(text)) else "study"
    except SpecError:
        return "study"


def _page(
    request: Request, settings: Any, who: Caller, preset: str, text: str, *, refusal: MudmanError | None = None
) -> Response:
    """``refusal``: why it was not started, which the answer's status says too."""
    kind, starts = _kind(text), refusal is not None
    verdict, faults, status = "", [], 200
    if refusal is None:
        try:
            verdict = _valid(kind, Body(text.encode(), "yaml"), settings, who)
        except MudmanError as error:
            refusal = error
    if refusal is not None:
        said = problems.describe(request, refusal)
        verdict, faults, status = said["detail"], said["errors"], said["status"] if starts else 200
    return render(
        "new.html",
        status,
        names=presets.names(),
        preset=presets.about(preset),
        kind=kind,
        text=text,
        sections=fields.sections(text),
        valid=refusal is None,
        verdict=verdict,
        faults=faults,
    )


def _valid(kind: str, body: Body, settings: Any, who: Caller) -> str:
    """What it would cost. Raises ``SpecError``, ``NotInYourName``."""
    if kind == "comparison":
        dry = comparison_dry_run(parse_comparison_submission(body, settings, who).spec)
        trials, passes, unused = dry.trials, dry.passes_total, []
    else:
        spec = parse_submission(body, settings, who).spec
        cost = cost_of(spec)
        trials, passes, unused = cost.trials, cost.passes_total, spec.unused()
    more = f" Not used by this method: {', '.join(unused)}." if unused else ""
    return f"Valid: {trials} trials, {passes:,} passes with the attack on the untouched model.{more}"
