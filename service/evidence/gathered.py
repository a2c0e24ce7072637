"""What is kept of trials as they pass by, whole, one after the other: the numbers of all, the curves of a few."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from mudman.results import Curve, Trace
from mudman.specs import StudySpec
from service.export import ExportedStudy, ExportedTrial, attempts_of
from service.figures.of_study import MOST_CURVES
from service.statistics.compute import Attempt, best_first


class Gathered:
    """``figures.of_study.Source`` over the trials of a bundle, which are added by ordinal and attempt."""

    def __init__(self, study: ExportedStudy):
        self.study = study
        self.trials: list[ExportedTrial] = []
        self.confirmation: Gathered | None = None
        """The study that ran the best ones again, where there is one."""
        spec = StudySpec.model_validate(study.spec)
        self.minimise = spec.objective.minimise
        self._last: deque[tuple[int, Curve | None]] = deque(maxlen=min(spec.statistics.last, MOST_CURVES))
        self._best: tuple[ExportedTrial, Curve | None] | None = None
        self._traced: tuple[ExportedTrial, Trace] | None = None

    def add(self, trial: ExportedTrial, result: Mapping[str, Any] | None) -> None:
        self.trials.append(trial)
        if trial.outcome != "valid":
            return
        found = (result or {}).get("relearning")
        curve = Curve.model_validate(found) if found else None
        curve = curve if curve and curve.passes else None
        self._last.append((trial.ordinal, curve))
        if trial.value is not None and self._is_better(trial.value, self._best):
            self._best = trial, curve
        trace = (result or {}).get("trace")
        if trace and trial.value is not None and self._is_better(trial.value, self._traced):
            self._traced = trial, Trace.model_validate(trace)

    def _is_better(self, value: float, held: tuple[ExportedTrial, Any] | None) -> bool:
        if held is None:
            return True
        return value < held[0].value if self.minimise else value > held[0].value

    def attempts(self) -> list[Attempt]:
        """Every finished one, with its hyper-parameters."""
        return attempts_of(self.trials)

    def finished(self) -> list[Attempt]:
        return self.attempts()

    def valid(self) -> list[Attempt]:
        return [one for one in self.attempts() if one.outcome == "valid" and one.value is not None]

    def best(self) -> Attempt:
        return best_first(self.attempts(), 1, minimise=self.minimise)[0]

    def best_trial(self) -> ExportedTrial | None:
        return self._best and self._best[0]

    def last_curves(self, many: int) -> dict[int, Curve]:
        """``many``: no more than the study's statistics look at."""
        latest = list(self._last)[::-1][:many]
        return {ordinal: curve for ordinal, curve in latest if curve}

    def curve(self, ordinal: int) -> Curve | None:
        held = self._best
        return held[1] if held and held[0].ordinal == ordinal else None

    def trace(self) -> tuple[int, Trace] | None:
        return self._traced and (self._traced[0].ordinal, self._traced[1])
