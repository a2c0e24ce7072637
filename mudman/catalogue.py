"""What a spec can name: definition, source, settings, findings and cost of each. ``python -m mudman.catalogue`` writes
docs/methods.md.

Sentences and formulas are in catalogue.yaml; settings, defaults and bounds come from the specs. No torch.
"""

import inspect
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import AfterValidator, BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mudman import packaged
from mudman.data.named import HUB_CORPORA
from mudman.documents import read_yaml
from mudman.specs.attack import AttackSpec
from mudman.specs.base import Model
from mudman.specs.compatibility import REFUSALS
from mudman.specs.components import AdversarySpec, Backward, ElasticPenalty, Mask, RepresentationLoss
from mudman.specs.evaluations import Evaluation
from mudman.specs.losses import Loss
from mudman.specs.methods import MethodSpec, MudmanSpec
from mudman.specs.search import Pruner, SamplerSpec

TITLES = {
    "methods": "Methods",
    "adversaries": "Adversaries (`method.adversary.type`)",
    "gradients": "Where the unlearning gradient is taken (`method.adversary.gradient`)",
    "masks": "Masks (`method.mask`)",
    "normalizations": "Normalisations (`method.normalization`)",
    "components": "Further components of MUDMAN",
    "backward": "Tweaks of the unlearning backward pass (`method.backward`)",
    "losses": "Unlearning losses (`method.loss`)",
    "attacks": "Attacks (`attack`)",
    "evaluations": "Evaluations (`evaluations`)",
    "samplers": "Samplers (`sampler`)",
    "pruners": "Early stopping (`pruner`)",
}


@dataclass(frozen=True)
class Setting:
    """One field of a spec."""

    name: str
    default: str
    bounds: str
    meaning: str


@dataclass(frozen=True)
class Entry:
    """One thing that a spec can name."""

    kind: str
    name: str
    definition: str
    source: str
    found: str | None
    passes: str | None
    memory: str | None
    spec: type[Model] | None
    """The model of its settings, where it has a section of its own."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        return tuple(_settings(self.spec)) if self.spec else ()

    @property
    def json_schema(self) -> dict[str, Any] | None:
        return self.spec.model_json_schema() if self.spec else None


@dataclass(frozen=True)
class Source:
    """A model or corpus that a spec can name without a path."""

    name: str
    summary: str
    licence: str | None
    source: str
    offline: bool


def variants(union: Any) -> dict[str, type[Model]]:
    """The models of an annotated union by their ``type``."""
    return {name: kind for kind in get_args(get_args(union)[0]) for name in literals(kind, "type")}


def literals(kind: type[Model], field: str) -> tuple[str, ...]:
    return get_args(kind.model_fields[field].annotation)


def named() -> dict[str, dict[str, type[Model] | None]]:
    """All that the specs can name, by kind: each needs an entry."""
    return {
        "methods": variants(MethodSpec),
        "adversaries": {name: AdversarySpec if name != "none" else None for name in literals(AdversarySpec, "type")},
        "gradients": dict.fromkeys(literals(AdversarySpec, "gradient")),
        "masks": variants(Mask),
        "normalizations": dict.fromkeys(literals(MudmanSpec, "normalization")),
        "components": {
            "forget_momentum": None,
            "consensus_power": None,
            "growing_weights": None,
            "revert_below": None,
            "representation_loss": RepresentationLoss,
            "ewc": ElasticPenalty,
        },
        "backward": variants(Backward),
        "losses": variants(Loss),
        "attacks": dict.fromkeys(literals(AttackSpec, "type"), AttackSpec),
        "evaluations": variants(Evaluation),
        "samplers": dict.fromkeys(literals(SamplerSpec, "type")),
        "pruners": variants(Pruner),
    }


@cache
def entries() -> dict[str, dict[str, Entry]]:
    """By kind and name, in the order of the specs."""
    texts = read_yaml(resources.files("mudman").joinpath("catalogue.yaml").read_text("utf-8"))
    optional = dict.fromkeys(("found", "passes", "memory"))
    return {
        kind: {name: Entry(kind, name, spec=spec, **optional | texts[kind][name]) for name, spec in names.items()}
        for kind, names in named().items()
    }


def models() -> list[Source]:
    return [Source(model.name, model.summary, model.licence, model.source, True) for model in packaged.MODELS.values()]


def corpora() -> list[Source]:
    """Packaged texts, then named data sets of the hub."""
    here = [Source(text.name, text.summary, text.licence, text.source, True) for text in packaged.TEXTS.values()]
    hub = [
        Source(c.name, f"{c.dataset}, split {c.split}, columns {', '.join(c.columns)}", c.licence, c.source, False)
        for c in HUB_CORPORA.values()
    ]
    return here + hub


# -------------------------------------------------------------------------------------------------------- settings

_SYMBOLS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _settings(spec: type[Model]) -> Iterator[Setting]:
    for name, field in spec.model_fields.items():
        if name != "type":
            yield Setting(name, _default(field), _bounds(field), _meaning(name, field))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return json.dumps(value.model_dump(mode="json"))
    return json.dumps(TypeAdapter(Any).dump_python(value, mode="json"))


def _bounds(field: FieldInfo) -> str:
    words = []
    for item in field.metadata:
        if isinstance(item, AfterValidator):  # numbers may be ranges: their bounds are in no JSON schema
            ends = inspect.getclosurevars(item.func).nonlocals
            words.append(f"≥ {ends['low']:g}" if math.isinf(ends["high"]) else f"{ends['low']:g} to {ends['high']:g}")
        words += [
            f"{symbol} {value:g}"
            for key, symbol in _SYMBOLS.items()
            if (value := getattr(item, key, None)) is not None and not math.isinf(value)
        ]
    choices = get_args(field.annotation)
    if choices and all(isinstance(choice, str | int) for choice in choices):
        words.append(" or ".join(f"`{choice}`" for choice in choices))
    return ", ".join(words)


def _meaning(name: str, field: FieldInfo) -> str:
    """Its docstring; the same setting of MUDMAN explains it elsewhere."""
    fallback = MudmanSpec.model_fields.get(name)
    return " ".join((field.description or (fallback and fallback.description) or "").split()).replace("``", "`")


# -------------------------------------------------------------------------------------------------------- document


def document() -> str:
    """docs/methods.md."""
    parts = [
        "# Methods, losses, attacks, evaluations",
        "Written by `python -m mudman.catalogue`; do not edit. Sections, figures and findings are those of arXiv "
        "2506.12484 unless said; *found* quotes it, and is no result of this project. A pass is one forward or one "
        "backward over one batch. P is the memory of the intervened weights. Every number of a method takes a value or "
        "a range `{low, high, log, int}` to search; whole counts (steps, loops) take a value only.",
    ]
    for kind, found in entries().items():
        parts.append(f"## {TITLES[kind]}")
        parts += [_section(entry) for entry in found.values()]
    rows = [f"| `{r.one}` | `{r.other}` | {r.reason} | {r.remedy} |" for r in REFUSALS]
    table = ["| with | does not combine | because | remedy |", "|---|---|---|---|", *rows]
    parts += ["## What does not combine", "All other settings of MUDMAN combine.", "\n".join(table)]
    for title, sources in (("Models", models()), ("Corpora", corpora())):
        rows = [
            f"| `{s.name}` | {s.summary} | {s.licence or 'none stated'} | {s.source} | {'yes' if s.offline else 'no'} |"
            for s in sources
        ]
        header = ["| name | what | licence | source | packaged |", "|---|---|---|---|---|"]
        parts += [f"## {title}", "Beside these: any hub id, or a folder.", "\n".join([*header, *rows])]
    return "\n\n".join(parts) + "\n"


def _section(entry: Entry) -> str:
    facts = {"Definition": entry.definition, "Source": entry.source, "Found": entry.found,
             "Passes": entry.passes, "Memory": entry.memory}  # fmt: skip
    lines = [f"### {entry.name}", "", *(f"- *{name}*: {text}" for name, text in facts.items() if text)]
    if entry.settings:
        lines += ["", "| setting | default | bounds | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{s.name}` | `{s.default}` | {s.bounds or ' '} | {s.meaning.replace('|', '&#124;') or ' '} |"
            for s in entry.settings
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("docs", "methods.md").write_text(document(), "utf-8")
