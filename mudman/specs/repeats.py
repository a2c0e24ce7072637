"""What is done with the best of a search: run again on fresh seeds, or once more on its own to keep its weights.

Either is a study of its own, of trials that are known beforehand: ``repeats`` says which, and under which seeds.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from mudman.faults import FieldFault
from mudman.specs.base import Model, Name, Range, Seed


class SeedsSpec(Model):
    data: Seed = 42
    """Shuffle that splits the corpora into train, validation and test."""
    trial: Seed = 42
    """Set before unlearning and again before the attack."""


class ConfirmationSpec(Model):
    """When the study completes, its best configurations are run again on fresh seeds and other held-out batches, in a
    study of its own (docs/statistics.md)."""

    best: int = Field(3, ge=1, le=100)
    """Configurations."""
    seeds: int = Field(5, ge=2, le=100)
    """Runs of each."""


class CheckpointsSpec(Model):
    """When the study completes, its best configurations are run once more from their own seeds, compared with what was
    recorded, and their unlearned weights kept (docs/checkpoints.md)."""

    best: int = Field(1, ge=1, le=100)
    """Configurations."""


class Recorded(Model):
    """Losses at the checks of an attack, as they were recorded; null where one was no number."""

    value: float | None = None
    """The objective."""
    passes: Annotated[tuple[int, ...], Field(strict=False)] = ()
    forget_loss: Annotated[tuple[float | None, ...], Field(strict=False)] = ()
    retain_loss: Annotated[tuple[float | None, ...], Field(strict=False)] = ()


class Configuration(Model):
    """A trial of the other study."""

    ordinal: int = Field(ge=0, lt=2**31)
    value: float
    """What the search found."""
    hyperparameters: dict[Name, float] = {}
    """One for each range of the method, by dotted path below ``method``."""
    recorded: Recorded = Recorded()
    """Its attack, where weights are kept: they are those of that trial only if it comes out again."""


class RepeatsSpec(Model):
    """Trials that are known beforehand: trial ``i`` takes configuration ``i // len(seeds)`` under the pair of seeds
    ``i % len(seeds)``. One that ends without counting is replaced by the first again."""

    study: Name
    """Id of the study that the configurations come from."""
    configurations: Annotated[tuple[Configuration, ...], Field(strict=False, min_length=1, max_length=100)]
    seeds: Annotated[tuple[SeedsSpec, ...], Field(strict=False, min_length=1, max_length=100)]
    keep: bool = False
    """Keep the unlearned weights of each trial in the artifact store."""
    baseline: Recorded | None = None
    """The same attack on the model without unlearning, for the card beside the weights."""

    @property
    def trials(self) -> int:
        return len(self.configurations) * len(self.seeds)

    def configuration(self, ordinal: int) -> Configuration:
        return self.configurations[ordinal // len(self.seeds) % len(self.configurations)]

    def seeds_of(self, ordinal: int) -> SeedsSpec:
        return self.seeds[ordinal % len(self.seeds)]

    def hyperparameters(self, ordinal: int, space: Mapping[str, Range]) -> dict[str, float]:
        """As a sampler would give them: whole numbers where those are searched."""
        values = self.configuration(ordinal).hyperparameters
        return {name: int(values[name]) if searched.int else values[name] for name, searched in space.items()}

    def faults(self, space: Mapping[str, Range], trials: int) -> list[FieldFault]:
        """What does not fit the search space and the budget of the study."""
        found = []
        if trials != self.trials:
            message = (
                f"is {trials}, and {len(self.configurations)} configurations on {len(self.seeds)} seeds are to run"
            )
            found.append(FieldFault("budget.trials", message, f"take {self.trials}"))
        for index, one in enumerate(self.configurations):
            path = f"repeats.configurations.{index}.hyperparameters"
            if one.hyperparameters.keys() != space.keys():
                remedy = f"give {', '.join(space) or 'none'}"
                found.append(FieldFault(path, "are not those that the study searches", remedy))
                continue
            for name, searched in space.items():
                value = one.hyperparameters[name]
                # The end of a log range may have been sampled a rounding outside.
                if not math.isclose(searched.nearest(value), value, rel_tol=1e-9):
                    remedy = f"give a number from {searched.low:g} to {searched.high:g}"
                    found.append(FieldFault(f"{path}.{name}", "is outside the search space", remedy))
        return found


def fresh_seeds(searched: SeedsSpec, many: int) -> tuple[SeedsSpec, ...]:
    """Pairs that differ from those of the search and from each other, always the same for the same search: the first
    four bytes of SHA-256 over ``data/DATA/TRIAL/I`` and ``trial/DATA/TRIAL/I``, I counting up."""
    found: dict[tuple[int, int], SeedsSpec] = {}
    taken_data, taken_trial = {searched.data}, {searched.trial}
    number = 0
    while len(found) < many:
        number += 1
        data, trial = (_drawn(f"{kind}/{searched.data}/{searched.trial}/{number}") for kind in ("data", "trial"))
        if data not in taken_data and trial not in taken_trial:
            taken_data.add(data)
            taken_trial.add(trial)
            found[data, trial] = SeedsSpec(data=data, trial=trial)
    return tuple(found.values())


def _drawn(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
