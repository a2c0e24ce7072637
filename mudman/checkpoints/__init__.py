"""Keeping the weights of a trial: saved between unlearning and attack, so that they are those that were attacked."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mudman.checkpoints.card import CARD, card
from mudman.results import Checkpoint, KeptFile, TrialResult
from mudman.specs.repeats import Recorded

if TYPE_CHECKING:
    from mudman.bench import Bench
    from mudman.specs import StudySpec

MANIFEST = "checkpoint.json"
TOLERANCE = 0.01
"""Part of a loss by which a repeated attack may be off on another kind of machine, at any of its checks."""


@dataclass(frozen=True)
class Keeping:
    """The folder that a trial's weights are to lie in, and what was recorded of the trial that it repeats."""

    folder: Path
    ordinal: int | None = None
    """Of the trial that is repeated."""
    recorded: Recorded | None = None
    baseline: Recorded | None = None

    @classmethod
    def of(cls, spec: "StudySpec", ordinal: int, folder: Path) -> "Keeping":
        """For trial ``ordinal`` of a study that keeps its weights."""
        one = spec.repeats.configuration(ordinal)
        return cls(folder, one.ordinal, one.recorded, spec.repeats.baseline)


def save(bench: "Bench", folder: Path) -> None:
    """The model as it is now, its tokenizer and configuration, as ``from_pretrained`` loads them: safetensors only.
    A method's adapters are folded into the weights in the file, and stay in the model: it is still to be attacked."""
    from mudman.lora import folded

    bench.model.save_pretrained(folder, state_dict=folded(bench.model), safe_serialization=True)
    bench.tokenizer.save_pretrained(folder)


def finish(
    spec: "StudySpec", hyperparameters: dict[str, float], bench: "Bench", keeping: Keeping, result: TrialResult
) -> Checkpoint:
    """Write the card and the manifest beside the saved weights; what they are, without a place yet."""
    difference = largest_difference(keeping.recorded, result) if keeping.recorded else None
    found = Checkpoint(ordinal=keeping.ordinal, agreement=agreement(difference), difference=difference)
    folder = keeping.folder
    (folder / CARD).write_text(card(spec, hyperparameters, bench, keeping, result, found), "utf-8")
    files = tuple(described(path) for path in sorted(folder.iterdir()))
    manifest = {
        "spec": spec.model_dump(mode="json", exclude_unset=True, exclude={"repeats"}),
        "hyperparameters": hyperparameters,
        "result": result.model_dump(mode="json", exclude={"log", "checkpoint", "trace", "token_losses"}),
        "agreement": found.agreement,
        "largest_difference": difference,
        "files": [file.model_dump() for file in files],
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return found.model_copy(update={"files": (*files, described(folder / MANIFEST))})


def described(path: Path) -> KeptFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return KeptFile(name=path.name, bytes=path.stat().st_size, sha256=digest)


def largest_difference(recorded: Recorded, result: TrialResult) -> float | None:
    """Of the objective and of every loss at every check of the attack, as part of the recorded one: 0 where all are the
    same number. None where they cannot be held against each other: other checks, or no number on one side."""
    curve = result.relearning
    if curve.passes != recorded.passes:
        return None
    pairs = [(recorded.value, result.value)]
    pairs += zip(recorded.forget_loss, curve.forget_loss, strict=True)
    pairs += zip(recorded.retain_loss, curve.retain_loss, strict=True)
    largest = 0.0
    for before, now in pairs:
        if before == now:
            continue
        if before is None or now is None:
            return None
        largest = max(largest, abs(now - before) / max(abs(before), 1e-12))
    return largest


def agreement(difference: float | None) -> str:
    if difference is None:
        return "unknown"
    return "bit-equal" if difference == 0 else "within tolerance" if difference <= TOLERANCE else "differs"
