"""MUDMAN: unlearning that lasts, the attack that tests it, and one trial of both (arXiv 2506.12484).

``unlearn`` and ``relearn`` change a transformers model in place; ``run_trial`` runs one whole trial of a study. They
are loaded on first use, so that importing the vocabulary (``mudman.specs``) never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mudman.engine import relearn, unlearn
    from mudman.trial import run_trial

_HOMES = {"unlearn": "mudman.engine", "relearn": "mudman.engine", "run_trial": "mudman.trial"}
__all__ = ["relearn", "run_trial", "unlearn"]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mudman' has no attribute {name!r}")
