"""Follow a study while it runs: a live bar on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service.calling.api import FINISHED
from service.client import Client

Document = Mapping[str, Any]
_NEWEST = 2**31 - 1
_BARS = "▁▂▃▄▅▆▇█"


def follow(
    client: Client,
    study_id: str,
    console: Console,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Show progress until the study is finished; returns its last view. ``check`` is called every few seconds
    at least, also while the connection is lost."""
    study = client.study(study_id)
    view = _Bar(console) if console.is_terminal else _Lines(console)
    curves: dict[int, Document] = {}
    with view:
        view.show(study, curves)
        if study["state"] not in FINISHED:
            # What happened before does not matter here.
            for name, data in client.stream(study_id, after=_NEWEST):
                if name == "curves":
                    curves[data["ordinal"]] = data
                elif name == "standing":
                    study = study | data
                    live = {trial["ordinal"] for trial in study["progress"]["live"]}
                    curves = {ordinal: said for ordinal, said in curves.items() if ordinal in live}
                if data is not None:
                    view.show(study, curves)
                if study["state"] in FINISHED:
                    break
                check()
    return client.study(study_id)


def summary(study: Document) -> str:
    """``running · 3/10 trials · 2 valid, 1 diverged · best 3.4121 nats/token · about 40 s left``."""
    progress = study["progress"]
    parts = [study["state"], f"{progress['trials']}/{progress['budget']} trials"]
    if progress["outcomes"]:
        parts.append(
            ", ".join(f"{n} {outcome.replace('_', ' ')}" for outcome, n in sorted(progress["outcomes"].items()))
        )
    if progress["best_value"] is not None:
        parts.append(f"best {objective(study, progress['best_value'])}")
    if progress["eta_seconds"] and study["state"] not in FINISHED:
        parts.append(f"about {duration(progress['eta_seconds'])} left")
    return " · ".join(parts)


def objective(study: Document, value: float) -> str:
    """``3.4121 nats/token``, or ``0.2710 wmdp accuracy``."""
    metric = study["spec"]["objective"]["metric"]
    return f"{value:.4f} {'nats/token' if metric == 'forget_loss' else metric.replace('_', ' ')}"


def outcomes(counts: Mapping[str, int]) -> str:
    """``2 valid, 1 over retain budget``."""
    return ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(counts.items()))


def running(study: Document, curves: Mapping[int, Document] | None = None) -> list[str]:
    """One line for each trial that runs now, with its curve of forget loss so far."""
    lines = []
    for trial in study["progress"]["live"]:
        name = f"trial {trial['ordinal']}" + (f" (attempt {trial['attempt']})" if trial["attempt"] > 1 else "")
        doing = {"unlearn": "unlearning", "relearn": "under attack"}.get(trial["phase"], "starting")
        line = f"{name}: {doing}" + (f", pass {trial['passes']} of {trial['of']}" if trial["of"] else "")
        lines.append(line + curve((curves or {}).get(trial["ordinal"])))
    if not lines and study["state"] == "preparing":
        lines.append("measuring the untouched model, and attacking it")
    return lines


def curve(said: Document | None) -> str:
    """``  forget loss 2.0102 ▁▄█▅ 3.1415``, of unlearning and then of the attack; nothing before the first two."""
    phases = [(said or {}).get(phase) or {} for phase in ("unlearning", "relearning")]
    losses = [loss for phase in phases for loss in phase.get("forget_loss") or () if loss is not None]
    if len(losses) < 2:
        return ""
    return f"  forget loss {losses[0]:.4f} {_sparkline(losses)} {losses[-1]:.4f}"


def _sparkline(values: Sequence[float], width: int = 24) -> str:
    shown = (
        [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)] if len(values) > width else values
    )
    low, high = min(shown), max(shown)
    return "".join(_BARS[round((value - low) / ((high - low) or 1.0) * (len(_BARS) - 1))] for value in shown)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class _Bar:
    def __init__(self, console: Console):
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def show(self, study: Document, curves: Mapping[int, Document]) -> None:
        progress = study["progress"]
        head = Table.grid(padding=(0, 1))
        head.add_row(Text(study["name"], "bold"), ProgressBar(progress["budget"], progress["trials"], width=40))
        self._live.update(
            Group(head, Text(summary(study)), *(Text(f"  {line}", "dim") for line in running(study, curves)))
        )


class _Lines:
    """A line where something changed: for logs and pipes."""

    def __init__(self, console: Console):
        self._console = console
        self._last: tuple | None = None

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...

    def show(self, study: Document, curves: Mapping[int, Document]) -> None:
        progress = study["progress"]
        now = (study["state"], progress["trials"], sorted(progress["outcomes"].items()))
        if now != self._last:
            self._last = now
            self._console.print(f"{study['name']}: {summary(study)}", markup=False, highlight=False, soft_wrap=True)
