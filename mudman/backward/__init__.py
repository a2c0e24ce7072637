"""Tweaks of the unlearning backward pass (arXiv 2506.12484, appendix E); one file each, chosen by ``tweaked``."""

from collections.abc import Sequence

from torch import nn

from mudman.backward.base import Tweak
from mudman.backward.fading import Fading
from mudman.backward.first_layers import FirstLayers
from mudman.backward.misaligning import Misaligning
from mudman.backward.shrinking import Shrinking
from mudman.specs.components import Backward

TWEAKS: dict[str, type[Tweak]] = {
    "fading": Fading,
    "misalign": Misaligning,
    "tweak_first": FirstLayers,
    "shrink_activations": Shrinking,
}


def tweaked(model: nn.Module, parameters: Sequence[str], spec: Backward | None) -> Tweak:
    """A context manager, to be entered as often as needed: forwards inside are prepared, and their backwards tweaked.

    ``parameters``: names of the weights whose gradients are taken. None tweaks nothing. Between two backwards over one
    graph, ``off()`` leaves the first one plain::

        tweak = tweaked(model, names, spec.backward)
        with tweak:
            output = model(...)
            with tweak.off():
                adversary = torch.autograd.grad(..., retain_graph=True)
            unlearning = torch.autograd.grad(...)

    Raises ``SpecError`` at ``method.backward`` where the model or the weights do not fit the tweak.
    """
    return Tweak() if spec is None else TWEAKS[spec.type](model, parameters, spec)
