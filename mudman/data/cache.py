"""Token batches kept on disk, so that the next worker and the next study need not read and tokenise a corpus again.

One safetensors file per key below ``MUDMAN_CACHE`` (default ``~/.cache/mudman``, or below ``XDG_CACHE_HOME``). A file
is written under another name and renamed, so that workers may share the folder; it names the hash of its content, and
a file that does not agree with it is made again. Where the folder cannot be used, everything works without.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

logger = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """None where nothing is chosen and the system knows no home of the user."""
    if chosen := os.environ.get("MUDMAN_CACHE"):
        return Path(chosen)
    if above := os.environ.get("XDG_CACHE_HOME"):
        return Path(above) / "mudman"
    try:
        return Path.home() / ".cache" / "mudman"
    except RuntimeError:
        return None


def key_of(identity: Mapping) -> str:
    """SHA-256 over canonical JSON of everything that the batches depend on."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hash_of(tensors: Iterable[Tensor]) -> str:
    """SHA-256 over the token ids, in order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def load(key: str) -> tuple[dict[str, Tensor], int] | None:
    """Tensors by name and the corpus's number of texts; None where there is nothing, or nothing sound."""
    path = _path(key)
    try:
        if path is None or not path.is_file():
            return None
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        if told.get("sha256") == hash_of(tensors.values()):
            return tensors, int(told["texts"])
        logger.warning("cached tokens %s do not have the hash they were written with: made again", path)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        logger.warning("cached tokens %s cannot be read (%s): made again", path, error)
    return None


def store(key: str, tensors: dict[str, Tensor], texts: int) -> None:
    """Keeps the tensors, where the folder allows it."""
    path = _path(key)
    if path is None:
        return
    told = {"sha256": hash_of(tensors[name] for name in sorted(tensors)), "texts": str(texts)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{key}.", suffix=".part", delete=False) as part:
            try:
                part.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}, told))
                part.close()
                os.replace(part.name, path)
            except BaseException:
                os.unlink(part.name)
                raise
    except OSError as error:
        logger.warning("tokens cannot be cached (%s): they will be made again next time", error)


def _path(key: str) -> Path | None:
    folder = cache_folder()
    return folder and folder / "tokens" / f"{key}.safetensors"
