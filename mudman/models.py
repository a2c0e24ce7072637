"""Loading a causal language model and its tokenizer: safetensors only, no code from a hub, nothing unpickled."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from mudman.faults import SpecError
from mudman.hub import first_line, hub_faults
from mudman.registry import model_place
from mudman.specs import ModelSpec

FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.txt"]
"""What a model is loaded from, of all that lies in its folder."""

# What transformers raises for files that are incomplete, damaged, or of another kind of model.
_UNREADABLE = (
    AttributeError,
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class LoadedModel:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    revision: str
    """Commit on the hub; ``packaged`` or ``folder`` for local ones."""
    folder: Path
    """Where its files lie."""


def load_model(spec: ModelSpec, device: torch.device) -> LoadedModel:
    """The model in the dtype of the spec on ``device``. Raises ``SpecError`` at ``model.id`` or ``model.revision``."""
    place = model_place(spec)
    if place.kind == "hub":
        with hub_faults("model", "id", spec.id, spec.revision):
            folder = Path(snapshot_download(spec.id, revision=spec.revision, allow_patterns=FILES))
        revision = folder.name
    else:
        folder, revision = place.path, place.kind
    for name, what in (("config.json", "configuration"), ("*.safetensors", "weights in safetensors format")):
        if not any(folder.glob(name)):
            raise _fault(
                f"{spec.id} holds no {what} ({name})", "save the model with save_pretrained and name that folder"
            )
    with _readable(f"{spec.id} cannot be loaded as a causal language model",
                   "name a model that AutoModelForCausalLM loads without remote code"):  # fmt: skip
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, spec.dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if missing := sorted(report["missing_keys"]):  # transformers would go on with random numbers there
        raise _fault(
            f"the weights of {spec.id} lack {len(missing)} that its architecture needs, such as {missing[0]}",
            "save the whole model, its head included, with save_pretrained",
        )
    with _readable(f"the tokenizer of {spec.id} cannot be loaded",
                   "save it into the model's folder with tokenizer.save_pretrained"):  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return LoadedModel(model.to(device), tokenizer, revision, folder)


def longest_input(model: PreTrainedModel) -> int:
    """Tokens that the model takes at most; more than anyone has where it does not say."""
    return getattr(model.config, "max_position_embeddings", sys.maxsize)


@contextmanager
def _readable(message: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except _UNREADABLE as error:
        raise _fault(f"{message}: {first_line(error)}", remedy) from error


def _fault(message: str, remedy: str) -> SpecError:
    return SpecError.at("model.id", message, remedy)
