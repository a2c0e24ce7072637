"""The addresses of pages. Each shows what the same call of the REST API answers."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BeforeValidator
from starlette.responses import RedirectResponse

from mudman import presets
from mudman.results import Outcome
from mudman.specs.comparison import BASELINE
from service.comparison_table import Row
from service.comparison_table import table as make_table
from service.comparison_views import ComparisonView
from service.event_views import event_page
from service.published import by_variant
from service.refusals import NoValidTrial
from service.routes import Configuration, Store, Text, checkpoints, cluster, comparisons, studies, trials
from service.store import comparisons as compared
from service.store import events, recent, running
from service.store import studies as stored
from service.store.actions import RETRIED
from service.store.states import State
from service.web.page import Page
from service.web.rendering import render

EVENTS = 20
"""Latest events that a study's page shows."""
CHARTS = 6
"""Running trials whose curves are drawn; the others are listed."""

router = APIRouter(route_class=Page, include_in_schema=False)
Cursor = Annotated[str, Query(max_length=500)]
_NONE = BeforeValidator(lambda value: value or None)
"""A filter that is not set: browsers send it empty."""


@router.get("/")
def index(
    store: Store,
    state: Annotated[State | None, _NONE] = None,
    text: Annotated[Text | None, _NONE] = None,
    cursor: Cursor | None = None,
):
    wanted = studies.Filters(state=[state] if state else [], text=text, cursor=cursor, limit=25)
    first = not (state or text or cursor)
    newest = comparisons.list_comparisons(store, comparisons.Filters(limit=10)).items if first else []
    return render(
        "index.html",
        page=studies.list_studies(store, wanted),
        comparisons=newest,
        states=list(State),
        state=state,
        text=text or "",
    )


@router.get("/favicon.ico")
def favicon():
    return RedirectResponse("/ui/static/icon.svg", 308)


@router.get("/ui/studies/{study_id}")
def study(study_id: str, store: Store, outcome: Annotated[Outcome | None, _NONE] = None, cursor: Cursor | None = None):
    with store.begin() as session:
        row = stored.get(session, study_id)
        newest = row.last_event  # before all else: what comes after it is streamed
        latest = event_page(events.after(session, study_id, max(newest - EVENTS, 0)), EVENTS).items
        reports = running.reports(session, study_id)
    shown = studies.show(study_id, store)
    try:
        best, why_none = trials.best(study_id, store), None
    except NoValidTrial as error:
        best, why_none = None, str(error)
    return render(
        "study.html",
        study=shown,
        newest=newest,
        events=latest[::-1],
        reports=reports,
        charts=CHARTS,
        best=best,
        kept=checkpoints.list_checkpoints(study_id, store).items,
        why_none=why_none,
        actions=_actions(shown.state, shown.progress.outcomes),
        page=trials.list_trials(study_id, store, trials.TrialFilters(outcome=outcome, cursor=cursor, limit=25)),
        outcomes=list(Outcome),
        outcome=outcome,
        paged=cursor is not None,
    )


def _actions(state: State, outcomes: dict[str, int]) -> list[str]:
    """What can be done to a study in this state."""
    if state.finished:
        return ["retry", "extend"] if any(outcomes.get(outcome) for outcome in RETRIED) else ["extend"]
    return [*{State.RUNNING: ["pause"], State.PAUSED: ["resume"]}.get(state, []), "cancel"]


@router.get("/ui/studies/{study_id}/trials/{ordinal}")
def trial(study_id: str, ordinal: Annotated[int, Path(ge=0, lt=2**31)], store: Store):
    shown = studies.show(study_id, store)
    return render("trial.html", study=shown, trial=trials.show(study_id, ordinal, store))


@router.get("/ui/comparisons/{comparison_id}")
def comparison(comparison_id: str, store: Store):
    with store.begin() as session:
        row = compared.get(session, comparison_id)
        variants = compared.studies_of(session, row)
        tallies = recent.tallies(session, variants, spent=False)
    known = by_variant(presets.published(row.preset))
    table = make_table(row.id, row.name, variants, tallies, variants[0].variant, published=known)
    rows = [*table.rows, table.baseline] if table.baseline else table.rows
    shown = comparisons.show(comparison_id, store)
    return render(
        "comparison.html",
        comparison=shown,
        actions=_together(shown, rows),
        most=max(row.trials for row in table.rows),
        table=table,
        rows=rows,
        published=any(row.published for row in rows),
        bars=_bars(table),
        traced=any(one.spec.get("record", {}).get("trace") for one in variants),
    )


def _together(shown: ComparisonView, rows: list[Row]) -> list[str]:
    """What can be done to at least one of a comparison's studies."""
    found = {action for row in rows for action in _actions(State(row.state), row.outcomes)}
    if not any(one.state.finished for one in shown.variants if one.variant != BASELINE):
        found.discard("extend")
    return [action for action in ("pause", "resume", "cancel", "retry", "extend") if action in found]


def _bars(table: Any) -> tuple[list[tuple[str, float | None, float | None]], float | None, float | None]:
    rows = [
        (row.variant, row.result.mean if row.result else None, row.result.standard_error if row.result else None)
        for row in table.rows
    ]
    baseline = table.baseline.result.mean if table.baseline and table.baseline.result else None
    return rows, baseline, table.original.value if table.original else None


@router.get("/ui/cluster")
def show_cluster(store: Store, settings: Configuration):
    return render("cluster.html", cluster=cluster.show(store, settings))
