"""The bounds on what a trial may cost, watched along unlearning."""

import math
from collections.abc import Callable, Iterator

from mudman.results import Point
from mudman.specs import ConstraintSpec

DIVERGED_VIOLATION = 1000.0  # units: the most that is reported, finite, as samplers need it


class Constraint:
    """Asked at each check of one unlearning run.

    A bound's excess is counted in units of the bound itself (in nats or accuracy, where the bound is 0): below 0 all
    is well. ``violation`` is the worst excess over all bounds and checks, so that a sampler sees how far a trial was
    from what is allowed, on either side.
    """

    def __init__(
        self,
        spec: ConstraintSpec,
        untouched: Point,
        accuracy: float | None,
        passes: int,
        kl_now: Callable[[], float | None],
        accuracy_now: Callable[[], float | None],
    ):
        """``accuracy``: of the untouched model on the evaluation of utility; ``passes``: of the whole run;
        ``kl_now``, ``accuracy_now``: measure the model as it is, called only where they are bounded (and due)."""
        self.spec, self.untouched, self.accuracy, self.passes = spec, untouched, accuracy, passes
        self._kl_now, self._accuracy_now = kl_now, accuracy_now
        self._accuracy_checked_at = 0
        self.violation = -1.0
        """−1 where nothing was checked: a run without a loop costs nothing."""
        self.violated: str | None = None
        """The bound that is over at this check: the worst, where it is several."""
        self.overrun: float | None = None
        """How far, in nats per token or accuracy."""
        self._checked = False

    @property
    def retain_bound(self) -> float | None:
        """Retain loss above which the run ends."""
        allowed = self.spec.retain_loss_increase
        return None if allowed is None else self.untouched.retain_loss + allowed

    def is_over(self, point: Point) -> bool:
        """Whether any bound is exceeded at this check; equal to the bound is within it."""
        excesses = [(excess / (bound or 1.0), name, excess) for name, excess, bound in self._excesses(point)]
        if excesses:
            worst, name, excess = max(excesses)
            seen = min(worst, DIVERGED_VIOLATION)  # nothing is worse than to diverge
            self.violation = max(self.violation, seen) if self._checked else seen
            self._checked = True
            if excess > 0:
                self.violated, self.overrun = name, excess if math.isfinite(excess) else None
        return self.violated is not None

    def pauses(self, point: Point) -> bool:
        """Whether unlearning pauses until the next check."""
        allowed = self.spec.pause_at
        return allowed is not None and point.retain_loss > self.untouched.retain_loss + allowed

    def _excesses(self, point: Point) -> Iterator[tuple[str, float, float]]:
        """Name, excess and bound of each bound that is checked now."""
        spec = self.spec
        if spec.retain_loss_increase is not None:
            yield "retain_loss_increase", point.retain_loss - self.retain_bound, spec.retain_loss_increase
        if spec.kl is not None:
            kl = self._kl_now()
            yield "kl", (math.inf if kl is None else kl) - spec.kl, spec.kl
        if spec.bounds_utility and self._accuracy_is_due(point.passes):
            accuracy = self._accuracy_now() or 0.0  # None: no number, the worst there is
            if spec.mmlu_drop is not None:
                yield "mmlu", self.accuracy - spec.mmlu_drop - accuracy, spec.mmlu_drop
            if spec.mmlu_floor is not None:
                yield "mmlu", spec.mmlu_floor - accuracy, spec.mmlu_floor

    def _accuracy_is_due(self, passes: int) -> bool:
        """At the first check past each multiple of ``mmlu_every``, and at the end."""
        due = passes // self.spec.mmlu_every > self._accuracy_checked_at // self.spec.mmlu_every
        due |= passes >= self.passes
        if due:
            self._accuracy_checked_at = passes
        return due
