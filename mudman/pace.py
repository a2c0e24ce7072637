"""How long a study's trials take on this machine: the beginnings of both phases, timed."""

import time
from dataclasses import dataclass

from mudman.results import Decision, Progress, TrialResult
from mudman.specs import NoUnlearning, StudySpec
from mudman.trial import run_trial


@dataclass(frozen=True)
class Pace:
    """Seconds; checks and evaluations of the curve are part of the passes that they follow."""

    start: float
    """Until the first pass of a new process: the model, the texts, the first losses."""
    unlearning: float
    """Of one booked pass."""
    attack: float
    """Of one booked pass."""
    device: str

    def trial(self, spec: StudySpec) -> float:
        """Of a whole trial; what a study evaluates once more at its end is not in it."""
        unlearned = 0 if isinstance(spec.method, NoUnlearning) else spec.budget.unlearn_passes
        return unlearned * self.unlearning + spec.attack.passes * self.attack

    def study(self, spec: StudySpec) -> float:
        """Of all trials, as many at once as the spec says, none of them pruned or over its budget."""
        return self.trial(spec) * spec.budget.trials / spec.resources.max_concurrent


def measured(spec: StudySpec, hyperparameters: dict[str, float], seconds: float = 10.0) -> Pace:
    """Runs each phase for about ``seconds``, or to its end. Raises ``SpecError``, and ``RuntimeError`` where a phase
    fails before it has made two passes."""
    attack_alone = spec.model_copy(update={"method": NoUnlearning(type="none"), "constraint": None})
    began = time.monotonic()
    attack, first = _phase(attack_alone, {}, "relearn", seconds)
    if isinstance(spec.method, NoUnlearning):
        return Pace(first.at - began, 0.0, attack, first.device)
    unlearning, _ = _phase(spec.model_copy(update={"constraint": None}), hyperparameters, "unlearn", seconds)
    return Pace(first.at - began, unlearning, attack, first.device)


@dataclass
class _First:
    at: float = 0.0
    device: str = ""


def _phase(spec: StudySpec, hyperparameters: dict[str, float], phase: str, seconds: float) -> tuple[float, _First]:
    """Seconds of one pass of the phase, and when its first one was made."""
    seen: list[tuple[float, int]] = []

    def watch(progress: Progress) -> Decision:
        if progress.phase != phase:
            return Decision.STOP if seen else Decision.CONTINUE
        seen.append((time.monotonic(), progress.passes))
        return Decision.STOP if seen[-1][0] - seen[0][0] > seconds else Decision.CONTINUE

    result = run_trial(spec, hyperparameters, watch)
    if len({passes for _, passes in seen}) < 2:
        raise RuntimeError(f"the {phase} phase ended before it was timed: {_why(result)}")
    (began, first), (ended, last) = seen[0], seen[-1]
    return (ended - began) / (last - first), _First(began, result.device)


def _why(result: TrialResult) -> str:
    return f"{result.outcome}" if result.fault is None else f"{result.outcome}: {result.fault.message}"
