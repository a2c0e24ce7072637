"""Whether a confirmation runs trials of the study that it stands beside, as that has them."""

from collections.abc import Iterable, Iterator
from typing import Any

from mudman.specs import StudySpec
from service.agreement import differing


def disagreements(study_id: str, trials: Iterable[Any], repeating: Any) -> Iterator[str]:
    """``trials``: finished attempts of the study; ``repeating``: the one that runs the best again. Both as an export
    has them. By path within the latter's spec."""
    repeats = StudySpec.model_validate(repeating.spec).repeats
    if repeats is None:
        yield "repeats: is missing, and a confirmation has it"
        return
    yield from differing(repeats.study, study_id, "repeats.study")
    valid = {one.ordinal: one for one in trials if one.outcome == "valid"}
    for place, stated in enumerate(repeats.configurations):
        path = f"repeats.configurations.{place}"
        if (trial := valid.get(stated.ordinal)) is None:
            yield f"{path}.ordinal: {stated.ordinal} is stated, and the study has no such valid trial"
            continue
        for name in ("value", "hyperparameters"):
            yield from differing(getattr(stated, name), getattr(trial, name), f"{path}.{name}")
