"""What modules read and write in a forward pass."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

Look = Callable[[int, Tensor, Tensor], None]
"""Called with a module's index, its input and its output."""


@contextmanager
def watched(modules: Iterable[nn.Module], look: Look) -> Iterator[None]:
    """Inside, ``look`` sees what each module reads and writes, in the order in which they run, detached."""
    handles = [
        module.register_forward_hook(
            lambda _module, args, output, index=index: look(index, args[0].detach(), output.detach())
        )
        for index, module in enumerate(modules)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
