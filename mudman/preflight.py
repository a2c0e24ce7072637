"""What can be said of a model's folder in seconds, before anything is queued: from its configuration and the headers of
its weight files, without loading either weights or torch."""

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mudman.architectures import matches, suffixes, unmatched
from mudman.faults import FieldFault, SpecError, checked
from mudman.sizes import GROUP, STATES, is_large
from mudman.specs import NoUnlearning, StudySpec

_PROCESS = 700 * 2**20
"""Bytes of Python, torch and transformers by themselves."""
_TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"), ("vocab.txt",))
_HEAD = "lm_head.weight"
_LONGEST_HEADER = 100 * 2**20
"""Bytes, as the format allows."""


@dataclass(frozen=True)
class Preflight:
    """A folder that can be worked on, and what a trial on it takes."""

    model_type: str
    parameters: int
    layers: int
    matched: tuple[str, ...]
    """Names of the weights that the method may change."""
    intervened: int
    """Numbers in them."""
    memory: int
    """Bytes that a trial takes at its peak, about: on the card where it has one, else of the machine."""
    operations: float
    """Floating-point operations of one trial that is not stopped early, about, evaluations apart."""


def preflight(folder: Path, spec: StudySpec) -> Preflight:
    """Raises ``SpecError`` with every fault that shows in the files: no configuration, weights that are pickled,
    incomplete or absent, code of its own, no tokenizer or another model's, modules that match nothing, batches that are
    too long."""
    config = _configuration(folder)
    shapes, *_ = checked(
        lambda: _shapes(folder),
        lambda: _check_code(folder, config),
        lambda: _check_tokenizer(folder),
    )
    model_type, layers = str(config.get("model_type", "unknown")), number(config, "num_hidden_layers")
    tied = _tied_head(config, shapes)
    matched, *_ = checked(
        lambda: _matched(spec, model_type, shapes, tied),
        lambda: _check_length(spec, config),
        lambda: _check_vocabulary(folder, shapes),
    )
    parameters = sum(map(math.prod, shapes.values()))
    intervened = sum(math.prod(shapes[tied.get(name, name)]) for name in matched)
    logits = 3 * GROUP["cuda" if spec.resources.gpus else "cpu"]  # themselves, their gradient, and what it is made of
    return Preflight(
        model_type=model_type,
        parameters=parameters,
        layers=layers,
        matched=matched,
        intervened=intervened,
        memory=_PROCESS + logits + tensors(spec, config, parameters, intervened),
        operations=_operations(spec, parameters),
    )


def tensors(spec: StudySpec, config: dict[str, Any], parameters: int, intervened: int) -> int:
    """Bytes of what a trial holds at its peak: the weights and their snapshot, which of a large model on a card lies in
    the host's memory; while unlearning, four numbers for each that the method may change (gradient, adversary,
    accumulator, and one to spare), while attacked, a gradient of all, or in a large model of the largest tensor; and
    the activations of one batch, by Korthikanti et al. (arXiv 2205.05198, equation 1) with all heads' attention; and
    what is kept of the original model's hidden states, where the method looks at them."""
    size = spec.model.bytes_per_number
    large = is_large(parameters * size)
    attacked = number(config, "vocab_size") * number(config, "hidden_size") if large else parameters
    copies = 1 if large and spec.resources.gpus else 2
    held = copies * parameters + max(4 * intervened, attacked if spec.attack.lora is None else 0)
    tokens, length = spec.batch.size * spec.batch.length, spec.batch.length
    hidden, heads = number(config, "hidden_size"), number(config, "num_attention_heads")
    wide = max(4 * hidden, 2 * number(config, "intermediate_size"))
    activations = number(config, "num_hidden_layers") * tokens * (13 * hidden + wide + 3 * heads * length)
    return size * (held + activations) + min(STATES, size * _original_states(spec, config))


def _original_states(spec: StudySpec, config: dict[str, Any]) -> int:
    """Numbers that the original model's hidden states are, on all batches of which a trial asks for them."""
    asked = spec.method.original_batches_per_loop()
    if not asked:
        return 0
    states = (number(config, "num_hidden_layers") + 1) * number(config, "hidden_size")
    loops = spec.budget.unlearn_passes // spec.method.passes_per_loop()
    return loops * asked * states * spec.batch.size * spec.batch.length


def _operations(spec: StudySpec, parameters: int) -> float:
    """Two for each parameter and token of a forward pass, up to four of a backward: three on average."""
    unlearning = 0 if isinstance(spec.method, NoUnlearning) else spec.budget.unlearn_passes
    passes = unlearning + spec.attack.passes
    return 3.0 * parameters * spec.batch.size * spec.batch.length * passes


def _configuration(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise _fault(f"there is no folder {folder}", "name the folder that save_pretrained made")
    config = _read_json(folder / "config.json")
    if not config:
        raise _fault(f"{folder} holds no configuration (config.json)", "save the model with save_pretrained")
    text = config.get("text_config")  # of a model that sees and reads, the part that reads
    return {**text, **config} if isinstance(text, dict) else config


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Of every tensor in the weight files, by name."""
    index = _read_json(folder / "model.safetensors.index.json")
    names: Iterable[str] = sorted(path.name for path in folder.glob("*.safetensors"))
    if index is not None:
        mapped = index.get("weight_map")
        wanted = sorted({str(name) for name in mapped.values()}) if isinstance(mapped, dict) else []
        if absent := [name for name in wanted if not (folder / name).is_file()]:
            raise _fault(f"{folder} lacks {', '.join(absent)}", "copy the whole folder")
        names = wanted
    if not names:
        pickled = next((path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)), None)
        held = f"its weights only in {pickled}, which is unpickled, and so could run code" if pickled else "no weights"
        remedy = "load it where you trust it, and save it with save_pretrained: that writes safetensors"
        raise _fault(f"{folder} holds {held}", remedy)
    return {name: shape for file in names for name, shape in _header(folder / file).items()}


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes: a file of safetensors begins with the length of its JSON header (8 bytes, little endian)."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length <= _LONGEST_HEADER else {}
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _fault(f"{path.name} cannot be read as safetensors: {error}", "copy or save it again") from None
    if not entries or path.stat().st_size != 8 + length + end:
        raise _fault(f"{path.name} is not whole: it was cut off while it was copied or saved", "copy or save it again")
    return shapes


def _check_code(folder: Path, config: dict[str, Any]) -> None:
    if config.get("auto_map"):
        raise _fault(
            f"{folder} asks for code of its own (auto_map), and no code that comes with a model is ever run",
            "take a model that transformers itself knows",
        )


def _check_tokenizer(folder: Path) -> None:
    if not any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS):
        raise _fault(f"{folder} holds no tokenizer", "save it there with tokenizer.save_pretrained")


def _check_vocabulary(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Tokens beyond the embedding, where the tokenizer says which it has."""
    described = _read_json(folder / "tokenizer.json") or {}
    rows = max((shape[0] for name, shape in shapes.items() if "embed" in name and len(shape) == 2), default=None)
    try:
        added = [int(token["id"]) for token in described.get("added_tokens") or ()]
        highest = max([*map(int, described["model"]["vocab"].values()), *added], default=0)
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # of a kind that says it otherwise: preparation asks the tokenizer itself
    if rows is not None and highest >= rows:
        raise _fault(
            f"its tokenizer gives token {highest}, and the model knows {rows} tokens",
            "save the tokenizer that belongs to the model into its folder",
        )


def _check_length(spec: StudySpec, config: dict[str, Any]) -> None:
    longest = number(config, "max_position_embeddings")
    if longest and spec.batch.length > longest:
        message = f"{spec.batch.length} tokens are more than the model takes"
        raise SpecError.at("batch.length", message, f"take at most {longest}")


def _tied_head(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """The head's weight, where the files hold none because it is the embedding's: both names. A configuration that does
    not say so may leave it to what its architecture does by itself."""
    embedding = next((name for name, shape in shapes.items() if "embed" in name and len(shape) == 2), None)
    if embedding is None or _HEAD in shapes or not config.get("tie_word_embeddings", True):
        return {}
    return {_HEAD: embedding}


def _matched(
    spec: StudySpec, model_type: str, shapes: dict[str, tuple[int, ...]], tied: dict[str, str]
) -> tuple[str, ...]:
    """As ``mudman.modules.matching_weights`` finds them in the loaded model: of two names of one weight, the first."""
    if isinstance(spec.method, NoUnlearning):
        return ()
    named = shapes | {name: shapes[own] for name, own in tied.items()}
    modules = {name.removesuffix(".weight"): shape for name, shape in named.items() if name.endswith(".weight")}
    found, faults = [], []
    for target in sorted(set(spec.method.target_modules)):
        meant = suffixes(model_type, target)
        ours = [name for name in modules if any(matches(name, suffix) for suffix in meant)]
        if not ours:
            present = sorted({name.rsplit(".", 1)[-1] for name, shape in modules.items() if len(shape) == 2})
            faults.append(unmatched(model_type, target, present))
        found += ours
    if faults:
        raise SpecError(faults)
    order = {name: number for number, name in enumerate(modules)}
    weights = [f"{name}.weight" for name in sorted(set(found), key=order.__getitem__)]
    return tuple(name for name in weights if tied.get(name) not in weights)


def number(config: dict[str, Any], name: str) -> int:
    """A whole number of a configuration; 0 where it says none."""
    value = config.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _read_json(path: Path) -> dict[str, Any] | None:
    """None where there is no such file."""
    try:
        read = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _fault(f"{path.name} cannot be read: {error}", "copy or save it again") from None
    if not isinstance(read, dict):
        raise _fault(f"{path.name} holds no mapping", "copy or save it again")
    return read


def _fault(message: str, remedy: str) -> SpecError:
    return SpecError([FieldFault("model.id", message, remedy)])
