"""Weight ablation by importance (arXiv 2506.12484, appendix E)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mudman.activations import watched
from mudman.faults import SpecError
from mudman.losses import cross_entropy
from mudman.methods.base import Losses, Unlearning
from mudman.modules import layers
from mudman.passes import Passes
from mudman.specs.methods import WeightAblationSpec
from mudman.trace import Trace


class WeightAblation(Unlearning):
    """Scales the weights that matter ``ratio`` times more to the forget set than to the retain set.

    Importance, summed over the loops: ``gradient``: |∇ cross-entropy| of a batch; ``activation``: mean over tokens of
    (∂h/∂w)² with h = act(gate x) · up x the input of the second layer in a gated MLP: act(gate x)² ⊗ x² for ``up`` and
    (up x · act′(gate x))² ⊗ x² for ``gate``. A weight that matters to neither set stays. The loops only look:
    ``finish`` scales. Beside the model two float32 copies of the weights are held.
    """

    STATE = ("loop", "forget_importance", "retain_importance")

    def __init__(self, model: nn.Module, spec: WeightAblationSpec, passes: Passes, trace: Trace | None = None):
        """Raises ``SpecError`` where ``activation`` meets an MLP that is not gated, or another target module."""
        super().__init__(model, spec, passes, trace)
        self.gated = _GatedLayers(model, self.weights) if spec.importance == "activation" else None
        self.forget_importance = [torch.zeros_like(w, dtype=torch.float32) for w in self.base]
        self.retain_importance = [importance.clone() for importance in self.forget_importance]

    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One loop looks at one batch of each set."""
        self.loop += 1
        look = self._by_gradient if self.gated is None else self._by_activation
        losses = look(next(forget), self.forget_importance), look(next(retain), self.retain_importance)
        if self.trace is not None:
            self.trace.record(forget_loss=losses[0], retain_loss=losses[1])
        return losses

    def _by_gradient(self, tokens: Tensor, importance: list[Tensor]) -> Tensor:
        loss = cross_entropy(self.passes.forward(tokens).logits, tokens)
        gradients = self.passes.gradients(loss, self.weights)
        torch._foreach_abs_(gradients)
        torch._foreach_add_(importance, gradients)
        return loss.detach()

    def _by_activation(self, tokens: Tensor, importance: list[Tensor]) -> Tensor:
        with torch.no_grad(), self.gated.adding_to(importance):
            return cross_entropy(self.passes.forward(tokens).logits, tokens)

    def finish(self) -> None:
        """Scales every weight whose ratio of importances exceeds the bound."""
        for weight, forget, retain in zip(self.base, self.forget_importance, self.retain_importance, strict=True):
            chosen = forget > retain * self.spec.ratio
            weight.mul_(torch.where(chosen, self.spec.factor, 1.0).to(weight.dtype))


class _GatedLayers:
    """Gate and up projections of the MLPs, with the place that each has among the weights."""

    def __init__(self, model: nn.Module, weights: list[nn.Parameter]):
        parts = layers(model)
        if any(len(part.first_mlp) != 2 for part in parts):
            raise SpecError.at(
                "method.importance",
                f"activation is for gated MLPs, and {type(model).__name__} has others",
                "take importance: gradient",
            )
        place = {id(weight): index for index, weight in enumerate(weights)}
        self.mlps = [(part, *(place.pop(id(layer.weight), None) for layer in part.first_mlp)) for part in parts]
        if place:
            raise SpecError.at(
                "method.target_modules",
                "importance: activation is defined for the first layers of gated MLPs only",
                "take group:gate and group:up, or importance: gradient",
            )

    def adding_to(self, importance: list[Tensor]):
        """Inside, every forward adds its tokens' mean to the weights' ``importance``."""
        read: dict[int, Tensor] = {}

        def look(index: int, x: Tensor, output: Tensor) -> None:
            read[index] = output.flatten(0, -2)
            if len(read) == 2:
                self._add(*self.mlps[index // 2], x.flatten(0, -2), *(read.pop(i) for i in sorted(read)), importance)

        return watched([layer for part, *_ in self.mlps for layer in part.first_mlp], look)

    @staticmethod
    def _add(part, gate_place, up_place, x, gate, up, importance) -> None:
        act, slope = torch.func.jvp(part.mlp.act_fn, (gate,), (torch.ones_like(gate),))
        squares = x.float().square() / len(x)
        for place, factor in ((gate_place, up * slope), (up_place, act)):
            if place is not None:
                importance[place].addmm_(factor.float().square().mT, squares)
