"""What is known of a trial while it runs, and the result that it comes to."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from mudman import objective
from mudman.constraint import DIVERGED_VIOLATION, Constraint
from mudman.faults import checked
from mudman.results import (
    Curve,
    Decision,
    Fault,
    Measurement,
    Outcome,
    Point,
    Progress,
    Report,
    Trace,
    TrialResult,
)
from mudman.shape import attack_shape
from mudman.specs import StudySpec
from mudman.specs.evaluations import Evaluation, KlEvaluation

if TYPE_CHECKING:
    from mudman.bench import Bench, Evaluated


class StopOrdered(Exception):
    """``report`` answered STOP."""


class BelowCut(Exception):
    """A check of the attack found less than the pruner asks for."""


@dataclass
class Record:
    """What is known of a running trial: enough for a result at any moment."""

    spec: StudySpec
    report: Report
    cuts: Mapping[int, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    bench: "Bench | None" = None
    constraint: Constraint | None = None
    device: str = "cpu"
    log: list[str] = field(default_factory=list)
    points: dict[str, list[Point]] = field(default_factory=lambda: {"unlearn": [], "relearn": []})
    """Of each phase's curve, as they come: a trial that ends early keeps them."""
    booked: dict[str, int] = field(default_factory=lambda: {"unlearn": 0, "relearn": 0})
    made: int = 0
    evaluated: dict[Evaluation, "Evaluated"] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    latest: dict[Evaluation, tuple[int, tuple[Measurement, ...]]] = field(default_factory=dict)
    """Booked passes at which an evaluation was measured last, and what it gave: no state is measured twice."""
    token_losses: dict[str, list[list[float]]] = field(default_factory=dict)
    trace: Trace | None = None
    paused_passes: int = 0
    zero_norm_loops: int = 0

    def begin(self, bench: "Bench") -> None:
        """The model is untouched now. Raises ``SpecError`` for an evaluation that cannot be had."""
        self.bench, untouched = bench, bench.untouched
        self.points["unlearn"].append(untouched)
        self.device = str(next(bench.model.parameters()).device)
        self.say(f"untouched model: forget loss {untouched.forget_loss:.4f}, retain loss {untouched.retain_loss:.4f}")
        needed = [*self.spec.evaluations]
        if self.spec.constraint is not None and self.spec.constraint.kl is not None:
            needed.append(_KL)
        ready = [partial(bench.evaluated, each, f"evaluations.{index}") for index, each in enumerate(needed)]
        self.evaluated = dict(zip(needed, checked(*ready), strict=True))
        self.latest = {each: (0, evaluated.untouched) for each, evaluated in self.evaluated.items()}
        self.measure_all("untouched")
        if self.spec.constraint is not None:
            self.constraint = self._watch(untouched)

    def _watch(self, untouched: Point) -> Constraint:
        spec, utility = self.spec.constraint, objective.measuring(self.spec, "utility")
        constraint = Constraint(
            spec,
            untouched,
            self.latest[utility][1][0].value if spec.bounds_utility else None,
            self.spec.budget.unlearn_passes,
            lambda: self.measure(_KL, "unlearned")[0].value,
            lambda: self.measure(utility, "unlearned")[0].value,
        )
        if constraint.retain_bound is not None:
            self.say(f"retain loss may reach {constraint.retain_bound:.4f}")
        return constraint

    def measure(self, evaluation: Evaluation, when: str) -> tuple[Measurement, ...]:
        """The numbers of the model as it is now; they go into the log."""
        passes = sum(self.booked.values())
        at, found = self.latest[evaluation]
        if at != passes:
            found = self.evaluated[evaluation].evaluator.measure(when)
            self.say("; ".join(f"{m.name} ({m.protocol}) {m.value}" for m in found))
        self.latest[evaluation] = passes, tuple(m.model_copy(update={"when": when}) for m in found)
        return self.latest[evaluation][1]

    def measure_all(self, when: str) -> None:
        """What the spec asks for, at one of the three moments."""
        for evaluation in dict.fromkeys(self.spec.evaluations):
            self.measurements += self.measure(evaluation, when)
        if self.spec.record.token_losses:
            from mudman.evals.loss import token_losses

            self.token_losses[when] = token_losses(self.bench.model, self.bench.evaluation.forget)

    def say(self, line: str) -> None:
        self.log.append(f"{time.monotonic() - self.started:8.2f} s  {line}")

    def on_pass(self, phase: str, of: int) -> Callable[[int, Point | None], None]:
        """To be called as a phase begins; what it answers, after every pass. Both may raise ``StopOrdered``."""
        if phase == "relearn":  # the attack begins where unlearning ended
            self.points[phase].append(self.points["unlearn"][-1].model_copy(update={"passes": 0}))
        self._tell(Progress(phase=phase, passes=0, of=of, point=self.points[phase][0]))

        def passed(passes: int, point: Point | None) -> None:
            self.booked[phase] = passes
            if point is None:
                self.made += 1
            else:
                self.points[phase].append(point)
                self.say(f"{phase} {passes}/{of}: forget loss {point.forget_loss}, retain loss {point.retain_loss}")
            self._tell(Progress(phase=phase, passes=passes, of=of, point=point))
            if phase == "relearn" and point is not None and self._is_below_cut(passes):
                raise BelowCut

        return passed

    def _tell(self, progress: Progress) -> None:
        if self.report(progress) is Decision.STOP:
            self.say("stopped by order")
            raise StopOrdered

    def _is_below_cut(self, passes: int) -> bool:
        """Whether the pruner ends the attack at this check; a loss that is no number ends it by itself."""
        if passes not in self.cuts or self.points["relearn"][-1].forget_loss is None:
            return False
        judged, cut = self._judged(), self.cuts[passes]
        if judged < cut:
            self.say(f"forget loss {judged:.4f} is below the pruner's cut {cut:.4f}")
        return judged < cut

    def _judged(self) -> float | None:
        """The forget loss that the objective would be if the attack ended now."""
        return objective.judged(self.spec, Curve.of(self.points["relearn"]))

    def is_over(self, point: Point) -> bool:
        """Whether a bound ends the trial at this check."""
        self.booked["unlearn"] = point.passes  # a loop may make fewer passes than it books
        return self.constraint is not None and self.constraint.is_over(point)

    def result(self, outcome: Outcome, *, fault: Fault | None = None, ended_by_check: bool = False) -> TrialResult:
        """The result of a trial that ends now, with all that was seen until now."""
        unlearning, relearning = Curve.of(self.points["unlearn"]), Curve.of(self.points["relearn"])
        minimum, final = objective.attacked_losses(relearning)
        booked, pruned = sum(self.booked.values()), outcome is Outcome.PRUNED
        over = self.constraint if outcome is Outcome.OVER_RETAIN_BUDGET else None
        if over is not None:  # what was measured at the check that ended it
            self.say(f"over the bound {over.violated} by {over.overrun}")
            self.measurements += [m for passes, found in self.latest.values() if passes == booked for m in found]
        self.say(f"{outcome}" + (f": {fault.type}: {fault.message}" if fault else ""))
        return TrialResult(
            outcome=outcome,
            value=self.value() if outcome is Outcome.VALID else None,
            violation=self._violation(outcome),
            violated=over and over.violated,
            overrun=over and over.overrun,
            stopped_at_pass=booked if ended_by_check else None,
            unlearning=unlearning,
            relearning=relearning,
            forget_loss_min=minimum,
            forget_loss_final=final,
            forget_loss_unlearned=_last(unlearning.forget_loss),
            retain_loss_unlearned=_last(unlearning.retain_loss),
            retain_loss_final=_last(relearning.retain_loss),
            measurements=tuple(self.measurements),
            attack_shape=attack_shape(relearning.passes, relearning.forget_loss) if relearning.passes else None,
            trace=self.trace,
            token_losses=self.token_losses or None,
            passes_booked=booked,
            passes_skipped=self.spec.attack.passes - self.booked["relearn"] if pruned else 0,
            judged=self._judged() if pruned else None,
            pruned_below=self.cuts[self.booked["relearn"]] if pruned else None,
            passes_made=self.made,
            paused_passes=self.paused_passes,
            zero_norm_loops=self.zero_norm_loops,
            seconds=time.monotonic() - self.started,
            device=self.device,
            fault=fault,
            log="\n".join(self.log),
        )

    def value(self) -> float | None:
        """The objective, after the attack; None where it is no number."""
        if self.spec.objective.metric == "forget_loss":
            return self._judged()
        return self.latest[objective.deciding(self.spec)][1][0].value

    def _violation(self, outcome: Outcome) -> float | None:
        if outcome is Outcome.DIVERGED:
            return DIVERGED_VIOLATION
        return self.constraint.violation if self.constraint is not None and outcome.counts else None


_KL = KlEvaluation(type="kl")


def _last(losses: tuple[float | None, ...]) -> float | None:
    return losses[-1] if losses else None
