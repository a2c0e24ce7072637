"""Who shows where the capability lives: the model itself, copies of its weights, or adapters on top of them.

Copies and adapters are trained on the forget set (arXiv 2506.12484, section 4; adapters and several adversaries:
appendix E). With several, adversary ``loop mod amount`` is in use, and every ``fork_every / amount`` loops, rounded
down to whole loops and at least one, the next in turn is renewed; loop 0 renews them all. (The published code first
rounds the interval of adapters down to a multiple of 6, whatever their number: 20 loops are 18 there and 20 here.)
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from mudman.lora import Adapters
from mudman.specs.components import LoraSpec
from mudman.specs.methods import MudmanSpec
from mudman.swap import swapped

_SEED = 0x10A0
"""First seed of adapters; each renewal has one of its own, so that a continued run draws what the whole run draws."""


class Adversary:
    """The model itself, untrained: storage is shared, so that nothing goes stale. Also what the others must offer."""

    weights: list[nn.Parameter] = []
    """What is trained on the forget set, as parameters of the model while ``computing``."""

    def renew(self, loop: int) -> None:
        """At the start of each loop, before the retain step: whose turn it is, and who starts anew."""

    def computing(self) -> AbstractContextManager:
        """Inside, the model computes as the adversary; afterwards as itself, whatever is raised."""
        return nullcontext()

    def train(self, gradients: Iterable[Tensor]) -> None:
        """One step on ∇ forget loss of ``weights``, in order, then the decay towards the model (step 7)."""
        for index, gradient in enumerate(gradients):
            self.train_weight(index, gradient)

    def train_weight(self, index: int, gradient: Tensor) -> None:
        """``train`` for one of the ``weights``, in place through ``.data``: a kept graph does not notice."""

    def follow(self, update: list[Tensor], rate: float) -> None:
        """Takes its share of an update of the model (step 15)."""

    def state(self) -> list[Tensor] | None:
        """Tensors that a run continues from, to be written in place."""
        return None


class Fork(Adversary):
    """Copies of the intervened weights. ``base`` are the model's own values, live."""

    def __init__(self, spec: MudmanSpec, weights: list[nn.Parameter], base: list[Tensor]):
        self.spec, self.weights, self.base = spec, weights, base
        self.copies = [[weight.clone() for weight in base] for _ in range(int(spec.adversary.amount))]
        self.used = self.copies[0]

    def renew(self, loop: int) -> None:
        for turn in _due(loop, self.spec):
            torch._foreach_copy_(self.copies[turn], self.base)
        self.used = self.copies[loop % len(self.copies)]

    def computing(self) -> AbstractContextManager:
        return swapped(self.weights, self.used)

    def train_weight(self, index: int, gradient: Tensor) -> None:
        weight, decay = self.used[index], self.spec.adversary.decay
        weight.add_(gradient, alpha=-self.spec.adversary_rate)
        if decay != 1:
            weight.mul_(decay).add_(self.base[index], alpha=1 - decay)

    def follow(self, update: list[Tensor], rate: float) -> None:
        """All of them, so that none lies further back than the others when its turn comes."""
        for copy in self.copies if self.spec.adversary.update else ():
            torch._foreach_add_(copy, update, alpha=-self.spec.adversary.update * rate)

    def state(self) -> list[Tensor]:
        return [tensor for copy in self.copies for tensor in copy]


class LoraAdversary(Adversary):
    """Adapters on the target modules, in the model only while it computes as the adversary. They stand on the model's
    own weights, so every update reaches them; decay shrinks A and B, as published."""

    def __init__(self, spec: MudmanSpec, model: nn.Module, modules: list[str]):
        """Raises ``SpecError`` for target modules that are no linear layers."""
        self.spec = spec
        path, lora = "method.adversary.type", LoraSpec(rank=int(spec.adversary.rank))
        self.sets = [Adapters(model, modules, lora, _SEED, path) for _ in range(int(spec.adversary.amount))]
        self.used = self.sets[0]

    @property
    def weights(self) -> list[nn.Parameter]:
        return self.used.parameters

    def renew(self, loop: int) -> None:
        for turn in _due(loop, self.spec):
            self.sets[turn].renew(_SEED + loop * len(self.sets) + turn)
        self.used = self.sets[loop % len(self.sets)]

    def computing(self) -> AbstractContextManager:
        return self.used.attached()

    def train_weight(self, index: int, gradient: Tensor) -> None:
        parameter = self.weights[index].data
        parameter.add_(gradient, alpha=-self.spec.adversary_rate)
        if self.spec.adversary.decay != 1:
            parameter.mul_(self.spec.adversary.decay)

    def state(self) -> list[Tensor]:
        return [parameter.data for adapters in self.sets for parameter in adapters.parameters]


def adversary_of(
    spec: MudmanSpec, model: nn.Module, names: Iterable[str], weights: list[nn.Parameter], base: list[Tensor]
) -> Adversary:
    """The adversary that ``spec`` asks for, on the intervened parameters ``names``."""
    match spec.adversary.type:
        case "fork":
            return Fork(spec, weights, base)
        case "lora":
            return LoraAdversary(spec, model, [name.removesuffix(".weight") for name in names])
        case "none":
            return Adversary()


def _due(loop: int, spec: MudmanSpec) -> list[int]:
    """Adversaries that are renewed at the start of this loop."""
    amount = int(spec.adversary.amount)
    interval = max(1, int(spec.fork_every) // amount)
    if loop == 0:
        return list(range(amount))
    return [loop // interval % amount] if loop % interval == 0 else []
