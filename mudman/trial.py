"""One whole trial: unlearn, attack by relearning, measure. A plain function that knows of no database and no Ray."""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mudman import simulation
from mudman.faults import SpecError
from mudman.results import Curve, Decision, Fault, Outcome, Point, Progress, Report, TrialResult
from mudman.specs import ConstraintSpec, MethodSpec, StudySpec, parse, resolve

if TYPE_CHECKING:
    from mudman.bench import Bench

DIVERGED_VIOLATION = 1000.0  # budgets: far beyond any finite overrun, and finite, as samplers need it


def run_trial(
    spec: StudySpec | Mapping[str, Any], hyperparameters: Mapping[str, float], report: Report | None = None
) -> TrialResult:
    """Run one trial and say how it ended.

    :param spec: the study, or the mapping that a spec file holds.
    :param hyperparameters: a value for every range of the method, by dotted path (``adversary.decay``).
    :param report: called after every pass; answering ``Decision.STOP`` ends the trial before the next one.
    :returns: a result for every way a trial can end, bad numbers, lack of memory and exceptions included.
    :raises SpecError: hyper-parameters that do not fit, a model or text that cannot be had: no trial took place.
    """
    spec = spec if isinstance(spec, StudySpec) else parse(dict(spec))
    method = resolve(spec.method, dict(hyperparameters))
    trial = _Trial(report or _carry_on, spec.constraint)
    if spec.model.id == simulation.MODEL_ID:
        return simulation.simulate(spec, dict(hyperparameters), trial.report)

    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(spec.resources.cpus)))
    try:
        return _run(spec, method, trial)
    except _StopOrdered:
        return trial.result(Outcome.CANCELLED)
    except SpecError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        return trial.result(Outcome.OUT_OF_MEMORY, fault=_fault(error))
    except Exception as error:  # noqa: BLE001 - whatever a trial raises is its result, stored with its traceback
        ran_out = "can't allocate memory" in str(error) or "out of memory" in str(error).lower()
        return trial.result(Outcome.OUT_OF_MEMORY if ran_out else Outcome.ERROR, fault=_fault(error))
    finally:
        torch.set_num_threads(threads)


def _run(spec: StudySpec, method: MethodSpec, trial: "_Trial") -> TrialResult:
    import torch

    from mudman.bench import bench_for
    from mudman.engine import relearn, unlearn

    bench = bench_for(spec)
    bench.restore()
    trial.begin(spec, bench)

    torch.manual_seed(spec.seeds.trial)
    _, unlearning = unlearn(
        bench.model,
        bench.forget.training,
        bench.retain.training,
        method,
        0 if method.type == "none" else spec.budget.unlearn_passes,
        evaluation=bench.evaluation,
        check_every=spec.constraint.check_every if spec.constraint else 30,
        stop_when=trial.is_over_budget,
        on_pass=trial.on_pass("unlearn", spec.budget.unlearn_passes),
    )
    if unlearning.diverged:
        return trial.result(Outcome.DIVERGED, ended_by_check=unlearning.stopped_at_pass is not None)
    if unlearning.stopped_at_pass is not None:
        return trial.result(Outcome.OVER_RETAIN_BUDGET, ended_by_check=True)

    torch.manual_seed(spec.seeds.trial)
    _, relearning = relearn(
        bench.model,
        bench.forget.attack,
        spec.attack,
        bench.retain.attack if spec.attack.retain else None,
        evaluation=bench.evaluation,
        on_pass=trial.on_pass("relearn", spec.attack.passes),
    )
    if relearning.diverged:
        return trial.result(Outcome.DIVERGED, ended_by_check=relearning.stopped_at_pass is not None)
    return trial.result(Outcome.VALID, reduce=spec.objective.reduce)


class _StopOrdered(Exception):
    """``report`` answered STOP."""


def _carry_on(progress: Progress) -> Decision:
    return Decision.CONTINUE


@dataclass
class _Trial:
    """What is known of a running trial: enough for a result at any moment."""

    report: Report
    constraint: ConstraintSpec | None
    started: float = field(default_factory=time.monotonic)
    bound: float | None = None
    device: str = "cpu"
    log: list[str] = field(default_factory=list)
    points: dict[str, list[Point]] = field(default_factory=lambda: {"unlearn": [], "relearn": []})
    """Of each phase's curve, as they come: a trial that ends early keeps them."""
    booked: dict[str, int] = field(default_factory=lambda: {"unlearn": 0, "relearn": 0})
    made: int = 0

    def begin(self, spec: StudySpec, bench: "Bench") -> None:
        untouched = bench.untouched
        self.points["unlearn"].append(untouched)
        self.device = str(next(bench.model.parameters()).device)
        self.say(f"untouched model: forget loss {untouched.forget_loss:.4f}, retain loss {untouched.retain_loss:.4f}")
        if self.constraint is not None:
            self.bound = untouched.retain_loss + self.constraint.retain_loss_increase
            self.say(f"retain loss may reach {self.bound:.4f}")

    def say(self, line: str) -> None:
        self.log.append(f"{time.monotonic() - self.started:8.2f} s  {line}")

    def on_pass(self, phase: str, of: int) -> Callable[[int, Point | None], None]:
        """To be called as a phase begins; what it answers, after every pass."""
        if phase == "relearn":  # the attack begins where unlearning ended
            self.points[phase].append(self.points["unlearn"][-1].model_copy(update={"passes": 0}))

        def passed(passes: int, point: Point | None) -> None:
            self.booked[phase] = passes
            if point is None:
                self.made += 1
            else:
                self.points[phase].append(point)
                self.say(f"{phase} {passes}/{of}: forget loss {point.forget_loss}, retain loss {point.retain_loss}")
            if self.report(Progress(phase=phase, passes=passes, of=of, point=point)) is Decision.STOP:
                self.say("stopped by order")
                raise _StopOrdered

        return passed

    def is_over_budget(self, point: Point) -> bool:
        return self.bound is not None and point.retain_loss > self.bound

    def violation(self) -> float | None:
        """Worst retain loss at the unlearning checks over its bound, in units of the budget (nats, where it is 0)."""
        if self.bound is None:
            return None
        losses = [point.retain_loss for point in self.points["unlearn"][1:] if point.retain_loss is not None]
        unit = self.constraint.retain_loss_increase or 1.0
        return (max(losses) - self.bound) / unit if losses else -1.0

    def result(
        self, outcome: Outcome, *, fault: Fault | None = None, ended_by_check: bool = False, reduce: str = "min"
    ) -> TrialResult:
        """The result of a trial that ends now, with all that was seen until now."""
        unlearning, relearning = Curve.of(self.points["unlearn"]), Curve.of(self.points["relearn"])
        checks = [loss for loss in relearning.forget_loss[1:] if loss is not None]
        minimum, final = (min(checks), checks[-1]) if checks else (None, None)
        booked = sum(self.booked.values())
        self.say(f"{outcome}" + (f": {fault.type}: {fault.message}" if fault else ""))
        return TrialResult(
            outcome=outcome,
            value=(minimum if reduce == "min" else final) if outcome is Outcome.VALID else None,
            violation=DIVERGED_VIOLATION
            if outcome is Outcome.DIVERGED
            else self.violation()
            if outcome.counts
            else None,
            overrun=unlearning.retain_loss[-1] - self.bound if outcome is Outcome.OVER_RETAIN_BUDGET else None,
            stopped_at_pass=booked if ended_by_check else None,
            unlearning=unlearning,
            relearning=relearning,
            forget_loss_min=minimum,
            forget_loss_final=final,
            forget_loss_unlearned=_last(unlearning.forget_loss),
            retain_loss_unlearned=_last(unlearning.retain_loss),
            retain_loss_final=_last(relearning.retain_loss),
            passes_booked=booked,
            passes_made=self.made,
            seconds=time.monotonic() - self.started,
            device=self.device,
            fault=fault,
            log="\n".join(self.log),
        )


def _last(losses: tuple[float | None, ...]) -> float | None:
    return losses[-1] if losses else None


def _fault(error: BaseException) -> Fault:
    return Fault(type=type(error).__name__, message=str(error)[:2000], traceback=traceback.format_exc()[-8000:])
