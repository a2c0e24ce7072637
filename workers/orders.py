"""What crosses the wire between a runner and its trial actors: plain JSON, never a database or a secret."""

import platform
from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ConfigDict

from mudman.results import TrialResult
from mudman.specs import SPEC_VERSION, StudySpec


@cache
def versions() -> dict[str, str]:
    """What runner and actor must have in common: there is no shipping of code, the environment is its truth."""
    return {"mudman": version("mudman"), "spec": str(SPEC_VERSION), "python": platform.python_version()}


class Order(BaseModel):
    """One attempt at one trial."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study_id: str
    ordinal: int
    attempt: int
    spec: StudySpec
    hyperparameters: dict[str, float]
    cuts: dict[int, float] = {}
    """Of the study's pruner, by passes of the attack."""
    versions: dict[str, str]

    @property
    def log_fields(self) -> dict[str, str | int]:
        return {"study_id": self.study_id, "ordinal": self.ordinal, "attempt": self.attempt}


class Word(BaseModel):
    """What a place says of the trial that runs there: at least once a second, and at its end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    worker: dict[str, Any]
    """Node, host, process and device."""
    progress: dict[str, Any] | None = None
    """Phase, passes, of, and the curves so far."""
    result: TrialResult | None = None
    """Once the trial has ended: the place is free."""
