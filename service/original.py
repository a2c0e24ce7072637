"""What the model came to before anything was done to it: neither unlearned nor attacked."""

from collections.abc import Mapping
from typing import Any

from mudman.specs import StudySpec


def original(spec: StudySpec, preparation: Mapping[str, Any] | None) -> float | None:
    """The objective of the untouched model, as it was measured when the study was prepared; None before that."""
    prepared = preparation or {}
    if spec.objective.metric == "forget_loss":
        return prepared.get("initial_forget_loss")
    wanted = _judging(spec)
    for one in (prepared.get("baseline") or {}).get("measurements") or ():
        if one["when"] == "untouched" and (one["name"], one["protocol"]) in wanted:
            return one["value"]
    return None


def _judging(spec: StudySpec) -> set[tuple[str, str]]:
    """Name and protocol of the evaluation that the objective is taken from."""
    if spec.objective.metric == "cloze_accuracy":
        return {(one.questions, "cloze") for one in spec.evaluations if one.type == "cloze"}
    multiple = (one for one in spec.evaluations if one.type == "multiple_choice" and one.measures == "forget")
    return {(one.questions, "published") for one in multiple}
