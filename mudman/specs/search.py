"""How a study looks for hyper-parameters, and when it ends a trial early."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from mudman.faults import FieldFault
from mudman.specs.base import MOST_PASSES, SHORTHAND, Model, Name, Range, Seed

Points = Annotated[int, Field(ge=1, le=1000)]

# -------------------------------------------------------------------------------------------------------- samplers


class SamplerSpec(Model):
    """How the next hyper-parameters are chosen. Whatever learns ranks trials that violate the constraint behind all
    others, by how far they do (docs/search.md)."""

    type: Literal["tpe", "random", "grid", "cmaes", "gp"] = "tpe"
    """``tpe``: tree-structured Parzen estimator; ``random``; ``grid``: every point of a grid once, in shuffled order;
    ``cmaes``: covariance matrix adaptation; ``gp``: Gaussian process, slow beyond some hundred trials."""
    seed: Seed = 0
    startup_trials: int = Field(10, ge=0, le=1_000_000)
    """Random trials before the sampler learns from results (``tpe``, ``gp``)."""
    points: Points | dict[Name, Points] = 5
    """Points on each range, or by dotted path below ``method``, 5 on those that are not named (``grid``)."""
    population: int | None = Field(None, ge=3, le=10_000)
    """Trials of a generation; default 4 + ⌊3 ln n⌋ for n ranges (``cmaes``)."""
    sigma: float = Field(0.2, gt=0, le=1)
    """First step, as a share of each range, log ranges by their logarithm (``cmaes``)."""

    def idle_fields(self) -> set[str]:
        """Settings that this type does not use."""
        return {"startup_trials", "points", "population", "sigma"} - _USED[self.type]

    def levels(self, space: Mapping[str, Range]) -> dict[str, tuple[float, ...]]:
        """The values of each range that make up the grid."""
        return {path: range_.levels(self._points_on(path)) for path, range_ in space.items()}

    def grid_faults(self, space: Mapping[str, Range], trials: int) -> list[FieldFault]:
        """A budget that the grid cannot fill, and points on what is no range of the search."""
        faults = []
        if isinstance(self.points, dict):
            remedy = f"one of {', '.join(space)}" if space else "remove it: nothing is searched"
            faults = [
                FieldFault(f"sampler.points.{path}", "is no searched range", remedy)
                for path in self.points.keys() - space.keys()
            ]
        size = math.prod(len(levels) for levels in self.levels(space).values())
        if trials > size:
            message = f"is more than the {size} points of the grid"
            faults.append(FieldFault("budget.trials", message, f"take {size} at most, or more sampler.points"))
        return faults

    def _points_on(self, path: str) -> int:
        return self.points.get(path, _POINTS) if isinstance(self.points, dict) else self.points


_POINTS = SamplerSpec.model_fields["points"].default
_USED = {
    "tpe": {"startup_trials"},
    "random": set(),
    "grid": {"points"},
    "cmaes": {"population", "sigma"},
    "gp": {"startup_trials"},
}

Sampler = Annotated[SamplerSpec, SHORTHAND]

# --------------------------------------------------------------------------------------------------------- pruners


class _Judging(Model):
    warmup_passes: int = Field(0, ge=0, le=MOST_PASSES)
    """Passes of the attack before which no trial is stopped."""


class MedianPruner(_Judging):
    """Stop below the median of what the valid trials had at the same check."""

    type: Literal["median"]
    startup_trials: int = Field(5, ge=0, le=1_000_000)
    """Valid trials before any is stopped."""
    min_trials: int = Field(1, ge=1, le=1_000_000)
    """Valid trials that must have reached a check before it stops any."""

    @property
    def percentile(self) -> float:
        return 50.0


class PercentilePruner(_Judging):
    """Stop what is not among the best ``percentile`` per cent of the valid trials at the same check."""

    type: Literal["percentile"]
    percentile: float = Field(25.0, ge=0, le=100)
    """Per cent that go on."""
    startup_trials: int = Field(5, ge=0, le=1_000_000)
    """Valid trials before any is stopped."""
    min_trials: int = Field(1, ge=1, le=1_000_000)
    """Valid trials that must have reached a check before it stops any."""


class SuccessiveHalvingPruner(Model):
    """ASHA, asynchronous successive halving (arXiv 1810.05934): only the best ``1 / reduction_factor`` of all that
    came there, itself among them, pass a rung; rungs are the first checks at or behind
    ``min_passes · reduction_factor^k`` passes."""

    type: Literal["successive_halving"]
    min_passes: int | None = Field(None, ge=1, le=MOST_PASSES)
    """Passes of the attack at the first rung; default: its first check."""
    reduction_factor: int = Field(4, ge=2, le=1000)
    """η: one in so many passes a rung."""


class ThresholdPruner(_Judging):
    """Stop below a fixed value."""

    type: Literal["threshold"]
    lower: float
    """Forget loss in nats per token."""


Pruner = Annotated[
    Annotated[MedianPruner | PercentilePruner | SuccessiveHalvingPruner | ThresholdPruner, Field(discriminator="type")],
    SHORTHAND,
]
