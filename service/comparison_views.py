"""What the API answers about comparisons."""

import datetime
from collections.abc import Iterable
from typing import Any

from service.figures.names import OfComparison
from service.store import comparisons
from service.store.pages import ComparisonRow, StudyRow
from service.store.states import State
from service.store.tables import Comparison
from service.store.together import Change
from service.view import View
from service.views import SummaryProgress


class ComparisonLinks(View):
    self: str
    table: str
    export: str
    figures: dict[str, str]
    """By name."""


class _Head(View):
    id: str
    name: str
    owner: str
    preset: str | None
    labels: dict[str, str]
    state: State
    """Running until every study has ended; then failed or cancelled where one of them is."""
    created_at: datetime.datetime
    links: ComparisonLinks


class VariantView(View):
    """One study of a comparison."""

    variant: str
    study: str
    """Id."""
    state: State
    progress: SummaryProgress
    problem: dict[str, Any] | None
    """Problem document of a failed study."""
    link: str


class TotalProgress(View):
    trials: int
    """Trials of all studies that count."""
    budget: int


class WholeProgress(TotalProgress):
    running: int
    """Trials that run now."""
    finished: int
    """Studies that have ended, however."""
    studies: int
    eta_seconds: float | None
    """Seconds until every study is complete, from the mean duration of their trials; null while unknown."""


class ComparisonView(_Head):
    """One comparison: its document and how far its studies are."""

    document: dict[str, Any]
    """As it was posted, with the variants that were added since."""
    progress: WholeProgress
    variants: list[VariantView]
    """In the document's order, the baseline last."""


class ChangeView(View):
    """What became of one study."""

    variant: str
    study: str
    """Id."""
    changed: bool
    reason: str | None
    """Why it was left as it is."""


class ChangedComparison(ComparisonView):
    """A comparison after something was done to all its studies at once."""

    changes: list[ChangeView]
    """Study by study, in the order of the variants: those that could not be changed so are as they were."""


class ComparisonSummary(_Head):
    studies: int
    """Variants, and the baseline."""
    progress: TotalProgress


class ComparisonPage(View):
    items: list[ComparisonSummary]
    next: str | None
    """Cursor of the next page; null on the last."""


def comparison_view(comparison: Comparison, rows: list[StudyRow], eta_seconds: float | None) -> ComparisonView:
    variants = [_variant(row) for row in rows]
    return ComparisonView(
        **_head(comparison, [row.study.state for row in rows]),
        document=comparison.document,
        progress=WholeProgress(
            trials=sum(one.progress.trials for one in variants),
            budget=sum(one.progress.budget for one in variants),
            running=sum(one.progress.running for one in variants),
            finished=sum(one.state.finished for one in variants),
            studies=len(variants),
            eta_seconds=eta_seconds,
        ),
        variants=variants,
    )


def changed_view(view: ComparisonView, changes: Iterable[Change]) -> ChangedComparison:
    told = [
        ChangeView(variant=one.variant, study=one.study_id, changed=one.changed, reason=one.reason) for one in changes
    ]
    return ChangedComparison(**dict(view), changes=told)


def comparison_summary(row: ComparisonRow) -> ComparisonSummary:
    return ComparisonSummary(
        **_head(row.comparison, row.states),
        studies=len(row.states),
        progress=TotalProgress(trials=row.trials, budget=row.budget),
    )


def _variant(row: StudyRow) -> VariantView:
    budget = row.study.spec["budget"]["trials"]
    progress = {"trials": row.trials, "budget": budget, "running": row.running, "best_value": row.best_value}
    return VariantView(
        variant=row.study.variant,
        study=row.study.id,
        state=State(row.study.state),
        progress=SummaryProgress(**progress),
        problem=row.study.problem,
        link=f"/studies/{row.study.id}",
    )


def _head(comparison: Comparison, states: list[str]) -> dict[str, Any]:
    same = ("id", "name", "owner", "preset", "labels", "created_at")
    here = f"/comparisons/{comparison.id}"
    return {
        **{name: getattr(comparison, name) for name in same},
        "state": comparisons.overall(states),
        "links": ComparisonLinks(
            self=here,
            table=f"{here}/table",
            export=f"{here}/export",
            figures={str(name): f"{here}/figures/{name}" for name in OfComparison},
        ),
    }
