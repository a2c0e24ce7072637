"""`mudman submit SPEC --model ./mine`: what shows in the model's own folder, said before anything is queued."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from mudman.faults import SpecError
from mudman.preflight import Preflight, preflight
from mudman.specs import StudySpec

Document = Mapping[str, Any]
_SHOWN = 3


def named(folder: Path) -> dict[str, str]:
    """The change of a spec that names this folder. The service takes it where it lies below its data root."""
    return {"model.id": str(folder.expanduser().resolve())}


def check(folder: Path, dry_run: Document, *, here: bool) -> None:
    """Say what was found, on stderr. ``dry_run``: what the service said of the spec; ``here``: whether its trials run
    on this machine. Raises ``SpecError`` with every fault of the folder, and where a trial would not fit."""
    spec = StudySpec.model_validate(dry_run["spec"])
    found = preflight(folder.expanduser().resolve(), spec)
    free = _free() if here and not spec.resources.gpus else None
    for line in _said(folder, spec, found, dry_run["cost"], free):
        typer.echo(line, err=True)
    if free is not None and found.memory > free:
        message = f"makes a trial need about {_gigabytes(found.memory)}, and this machine has {_gigabytes(free)} free"
        remedy = "take a smaller batch or a larger machine, or try all the same with --no-preflight"
        raise SpecError.at("batch.size", message, remedy)


def _said(folder: Path, spec: StudySpec, found: Preflight, cost: Document, free: int | None) -> Iterator[str]:
    size = f"{_count(found.parameters)} parameters in {found.layers} layers"
    yield f"{folder}: {found.model_type}, {size}; whole, with its tokenizer"
    if found.matched:
        shown = ", ".join(found.matched[:_SHOWN]) + (" …" if len(found.matched) > _SHOWN else "")
        yield f"modules: {len(found.matched)} match, with {_count(found.intervened)} weights: {shown}"
    yield f"memory: about {_gigabytes(found.memory)} for a trial at its peak{_where(spec, found, free)}"
    passes = f"{cost['trials']} trials of up to {cost['passes_per_trial']} passes, {cost['passes_total']} in all"
    yield f"cost: {passes}; about {found.operations / 1e12:.3g} TFLOP a trial (how long here: `mudman bench`)"


def _where(spec: StudySpec, found: Preflight, free: int | None) -> str:
    if spec.resources.gpus:
        share = f"{spec.resources.gpus:g} of a card" if spec.resources.gpus < 1 else f"{spec.resources.gpus:g} card(s)"
        return f", on {share}"
    if free is None:
        return ""
    said = f"; {_gigabytes(free)} are free here"
    at_once = spec.resources.max_concurrent
    if at_once > 1 and found.memory * at_once > free:
        said += f", too little for {at_once} at once: lower resources.max_concurrent"
    return said


def _free() -> int | None:
    """Bytes that programs may still take on this machine; None where it does not say."""
    try:
        said = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(said[1]) * 1024 if said else None


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2g} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"


def _count(number: int) -> str:
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,}"
