"""The model card beside kept weights: what was done to the model, and the evidence."""

import io
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML, YAMLError

from mudman import objective
from mudman.registry import model_place
from mudman.results import Checkpoint, TrialResult

if TYPE_CHECKING:
    from mudman.bench import Bench
    from mudman.checkpoints import Keeping
    from mudman.specs import StudySpec

CARD = "README.md"
_FOLDED = (
    "The method trained adapters, and they are folded into these weights: what is computed with them is what was "
    "attacked within rounding, not bit for bit. The attack below trained weights and adapters alike; one on these "
    "weights starts at the same losses within rounding, and may take another course from there."
)
_VERSIONS = ("mudman", "torch", "transformers", "safetensors", "datasets")


def card(
    spec: "StudySpec",
    hyperparameters: dict[str, float],
    bench: "Bench",
    keeping: "Keeping",
    result: TrialResult,
    checked: Checkpoint,
) -> str:
    """Markdown with the front matter that model hubs read."""
    licence = _licence(spec)
    tags = dict.fromkeys(["unlearning", "mudman", spec.method.type])
    front = {"library_name": "transformers", "tags": [*tags]}
    front |= {"license": licence.lower() if licence else "other"}
    if model_place(spec.model).kind == "hub":
        front["base_model"] = spec.model.id
    of = spec.repeats.study if spec.repeats else spec.name
    trial = "" if keeping.ordinal is None else f", trial {keeping.ordinal} of study `{of}`"
    folded = getattr(spec.method, "lora", None) is not None
    parts = [
        f"---\n{_yaml(front)}---",
        f"# {spec.model.id}, unlearned by {spec.method.type}",
        f"The weights of `{spec.model.id}` (revision `{bench.revision}`, {spec.model.dtype}) after unlearning and "
        f"before the attack below{trial}. {_checked(checked)} `checkpoint.json` holds the whole spec, the curves, and "
        "the SHA-256 of each file.",
        _FOLDED if folded else "",
        "## Does what was forgotten come back?",
        _numbers(spec, keeping, result),
        f"The attack: {spec.attack.passes} passes of relearning on texts of the forgotten kind, at rate "
        f"{spec.attack.rate:g}. Losses in nats per token on held-out batches; forget loss: higher is better, retain "
        "loss: lower is better.",
        _measurements(result),
        "## The attack, check by check",
        _curve(keeping, result),
        "## Method",
        f"```yaml\n{_yaml({'method': _method(spec, hyperparameters)})}```",
        f"{spec.budget.unlearn_passes} passes of unlearning; seeds: data {spec.seeds.data}, trial {spec.seeds.trial}; "
        f"batches of {spec.batch.size} × {spec.batch.length} tokens.",
        "## Texts",
        _texts(spec, bench),
        "## Made with",
        ", ".join(f"{name} {version(name)}" for name in _VERSIONS)
        + f", Python {platform.python_version()}, on {result.device}.",
        "## Licence",
        f"That of the base model: {licence or 'not known here; see its own card'}. The texts keep their own licences.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _licence(spec: "StudySpec") -> str | None:
    """Of the base model; None where it is not known."""
    from mudman import packaged

    if known := packaged.MODELS.get(spec.model.id):
        return known.licence
    if folder := model_place(spec.model).path:
        return _stated(folder / CARD)
    return None


def _stated(card: Path) -> str | None:
    """The licence in the front matter of a model's own card."""
    try:
        _, front, _ = card.read_text("utf-8").split("---\n", 2)
        stated = YAML(typ="safe").load(front)["license"]
    except (OSError, ValueError, KeyError, TypeError, YAMLError):
        return None
    return stated if isinstance(stated, str) else None


def _checked(checked: Checkpoint) -> str:
    said = {
        "bit-equal": "Run again from its seeds, its attack came out bit for bit as the search recorded it.",
        "within tolerance": "Run again from its seeds, its attack came out as the search recorded it, within "
        f"{(checked.difference or 0):.2%} at every check.",
        "differs": "**Run again from its seeds, its attack came out otherwise than the search recorded it**, by up to "
        f"{(checked.difference or 0):.2%}: the numbers below are of these weights, those of the search of others.",
        "unknown": "The numbers below are of these weights; there was nothing recorded to hold them against.",
    }
    return said[checked.agreement]


def _numbers(spec: "StudySpec", keeping: "Keeping", result: TrialResult) -> str:
    before = result.unlearning
    rows = [
        ("original model", before.forget_loss[0], before.retain_loss[0]),
        ("this model", result.forget_loss_unlearned, result.retain_loss_unlearned),
    ]
    for name, curve in (
        ("original model, attacked", keeping.baseline),
        ("this model, attacked", result.relearning),
        ("this model, attacked, as the search saw it", keeping.recorded),
    ):
        if curve is not None and curve.passes:
            rows.append((name, objective.judged(spec, curve), curve.retain_loss[-1]))
    said = f"forget loss{' (lowest of the attack)' if spec.objective.reduce == 'min' else ''}"
    return _table(("model", said, "retain loss"), [(name, _loss(one), _loss(other)) for name, one, other in rows])


def _measurements(result: TrialResult) -> str:
    rows = [(m.name, m.when, _loss(m.value), _loss(m.standard_error), str(m.n)) for m in result.measurements]
    return _table(("evaluation", "when", "value", "± SE", "n"), rows) if rows else ""


def _curve(keeping: "Keeping", result: TrialResult) -> str:
    ours, recorded, baseline = result.relearning, keeping.recorded, keeping.baseline
    head, columns = ["passes", "forget loss", "retain loss"], [ours.passes, ours.forget_loss, ours.retain_loss]
    for name, other in (("forget loss in the search", recorded), ("forget loss without unlearning", baseline)):
        if other is not None and other.passes == ours.passes:
            head.append(name)
            columns.append(other.forget_loss)
    rows = [(str(passes), *map(_loss, losses)) for passes, *losses in zip(*columns, strict=True)]
    return _table(tuple(head), rows)


def _method(spec: "StudySpec", hyperparameters: dict[str, float]) -> dict[str, Any]:
    from mudman.specs import resolve

    return resolve(spec.method, hyperparameters).model_dump(mode="json", exclude_unset=True)


def _texts(spec: "StudySpec", bench: "Bench") -> str:
    named = (("forget", spec.forget, bench.forget), ("retain", spec.retain, bench.retain))
    named += (("attack", spec.attack.texts, bench.attack),)
    rows = []
    for field, corpus, tokens in named:
        if tokens is not None:
            known = tokens.provenance()
            shown = (known.get("revision"), known.get("licence"), known.get("tokens_sha256"))
            rows.append((field, corpus.corpus, *(str(one or "–") for one in shown)))
    return _table(("for", "corpus", "revision", "licence", "SHA-256 of the tokens"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _yaml(document: dict[str, Any]) -> str:
    text, writer = io.StringIO(), YAML()
    writer.dump(document, text)
    return text.getvalue()
