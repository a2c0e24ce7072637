"""What the tweaks share: hooks that are there inside a ``with`` and never outside, and a switch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from mudman.faults import SpecError
from mudman.modules import LayerParts, layers

_PATH = "method.backward"


class Tweak:
    """Tweaks nothing; the others say in ``attach`` what they hook."""

    def __init__(self):
        self.on = True
        self._attached = ExitStack()

    def attach(self, stack: ExitStack) -> None:
        """Hooks what is to be hooked; ``stack`` takes it away."""

    def __enter__(self) -> "Tweak":
        with ExitStack() as stack:
            self.attach(stack)
            self._attached = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._attached.close()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Backwards inside are plain, also over forwards that were prepared."""
        self.on = False
        try:
            yield
        finally:
            self.on = True

    def change_gradient(self, tensor: Tensor, change: Callable[[Tensor], Tensor]) -> None:
        """What reaches ``tensor`` in a backward goes on changed. (``change`` must not hold ``tensor``: a cycle.)"""
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: change(gradient) if self.on else gradient)


def known_layers(model: nn.Module) -> list[LayerParts]:
    """The model's layers. Raises ``SpecError`` where its architecture is not known."""
    try:
        return layers(model)
    except (AttributeError, SpecError):
        raise SpecError.at(
            _PATH,
            f"this tweak needs to know the parts of a layer, and those of {type(model).__name__} are not known",
            "take a GPT-NeoX, Llama, Qwen3 or Gemma 3 model, or leave backward out",
        ) from None


def targets(model: nn.Module, parameters: Sequence[str]) -> list[nn.Module]:
    """The modules that the named weights belong to."""
    return [model.get_submodule(name.removesuffix(".weight")) for name in parameters]


def no_target(what: str, group: str) -> SpecError:
    """The error of a tweak that none of the target modules has a use for."""
    return SpecError.at(
        _PATH, f"changes the gradient of {what}, and none is a target module", f"add {group} to target_modules"
    )
