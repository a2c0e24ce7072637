"""Simulated trials: no torch, chosen duration and outcome. They drive scheduler and fault tests at any scale.

A study is simulated when its model's id is ``simulated``. The trial's length and end are read from the spec's
``labels``, so that a simulated study is an ordinary study to everything but the core:

* ``seconds``: how long a trial takes (default 0);
* ``outcome``: one of the outcomes for every trial, or ``mixed``: decided by the hyper-parameters (default ``valid``).
"""

import math
import re
import time
from collections.abc import Mapping

from mudman.faults import SpecError
from mudman.results import Curve, Decision, Fault, Outcome, Point, Progress, Report, TrialResult
from mudman.specs import StudySpec

MODEL_ID = "simulated"
_STEPS = 10
_VIOLATIONS = {
    Outcome.VALID: -1.0,
    Outcome.PRUNED: -1.0,
    Outcome.OVER_RETAIN_BUDGET: 0.5,
    Outcome.DIVERGED: 1000.0,
}


def simulate(
    spec: StudySpec, hyperparameters: dict[str, float], report: Report, cuts: Mapping[int, float] | None = None
) -> TrialResult:
    """A smooth function of the hyper-parameters as objective, reported in ten steps per phase; as a relearning curve it
    falls towards its value. ``cuts``: as for ``run_trial``."""
    started = time.monotonic()
    seconds, asked = wishes(spec)
    value = _value(hyperparameters)
    outcome = _mixed(value) if asked == "mixed" else Outcome(asked)
    curves: dict[str, list[Point]] = {"unlearn": [], "relearn": []}
    cut_short = _play(spec, value, seconds, report, cuts if cuts and outcome is Outcome.VALID else {}, curves)
    outcome = cut_short or outcome
    booked = sum(points[-1].passes for points in curves.values() if points)
    last = curves["relearn"][-1] if curves["relearn"] else None
    pruned, over = outcome is Outcome.PRUNED, outcome is Outcome.OVER_RETAIN_BUDGET
    return TrialResult(
        outcome=outcome,
        value=value if outcome is Outcome.VALID else None,
        violation=_VIOLATIONS.get(outcome),
        violated="retain_loss_increase" if over else None,
        overrun=0.02 if over else None,
        stopped_at_pass=booked if pruned else 30 if over else None,
        judged=last.forget_loss if pruned else None,
        pruned_below=(cuts or {}).get(last.passes) if pruned else None,
        unlearning=Curve.of(curves["unlearn"]),
        relearning=Curve.of(curves["relearn"]),
        forget_loss_min=last and (last.forget_loss if cut_short else value),
        forget_loss_final=last and (last.forget_loss if cut_short else value),
        forget_loss_unlearned=curves["unlearn"][-1].forget_loss,
        retain_loss_unlearned=3.0,
        retain_loss_final=last and 3.0,
        passes_booked=booked,
        passes_skipped=spec.budget.unlearn_passes + spec.attack.passes - booked if pruned else 0,
        passes_made=booked,
        seconds=time.monotonic() - started,
        device="simulated",
        fault=Fault(type="SimulatedFault", message="asked for") if outcome is Outcome.ERROR else None,
        log=f"simulated trial, value {value:.6f}",
    )


def _play(
    spec: StudySpec,
    value: float,
    seconds: float,
    report: Report,
    cuts: Mapping[int, float],
    curves: dict[str, list[Point]],
) -> Outcome | None:
    """Both phases, into ``curves``; how the trial ended, where it was not at its end."""
    for phase, total in (("unlearn", spec.budget.unlearn_passes), ("relearn", spec.attack.passes)):
        for step in range(1, _STEPS + 1):
            if seconds:
                time.sleep(seconds / (2 * _STEPS))
            point = Point(passes=total * step // _STEPS, forget_loss=value + (1 / step - 1 / _STEPS), retain_loss=3.0)
            curves[phase].append(point)
            if report(Progress(phase=phase, passes=point.passes, of=total, point=point)) is Decision.STOP:
                return Outcome.CANCELLED
            if phase == "relearn" and point.forget_loss < cuts.get(point.passes, -math.inf):
                return Outcome.PRUNED
    return None


def checks(spec: StudySpec) -> tuple[int, ...]:
    """Passes of the attack at which it is evaluated."""
    return tuple(spec.attack.passes * step // _STEPS for step in range(1, _STEPS + 1))


def wishes(spec: StudySpec) -> tuple[float, str]:
    """Seconds and outcome asked for by the labels. Raises ``SpecError`` at a label that asks for nothing known."""
    seconds, outcome = spec.labels.get("seconds", "0"), spec.labels.get("outcome", Outcome.VALID)
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", seconds):
        raise SpecError.at("labels.seconds", f"{seconds!r} is no number of seconds", "give a number such as 0.5")
    if outcome not in (*Outcome, "mixed"):
        raise SpecError.at("labels.outcome", f"{outcome!r} is not known", f"one of {', '.join(Outcome)}, mixed")
    return float(seconds), outcome


def _value(hyperparameters: dict[str, float]) -> float:
    """Between 2 and 4; highest where every hyper-parameter is near 10^-2."""
    distance = sum((math.log10(max(abs(x), 1e-12)) + 2) ** 2 for x in hyperparameters.values())
    return 2 + 2 / (1 + distance / max(len(hyperparameters), 1))


def _mixed(value: float) -> Outcome:
    share = (value * 1e6) % 1.0  # a digit far behind the point: arbitrary, but the same for the same hyper-parameters
    return Outcome.VALID if share < 0.6 else Outcome.OVER_RETAIN_BUDGET if share < 0.85 else Outcome.DIVERGED
