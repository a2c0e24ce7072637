"""Which part of the unlearning gradient is applied (step 11 of MUDMAN's loop).

``sign`` is Disruption Masking; the others are what it was compared with, or grew out of (arXiv 2506.12484, appendix E).
Throughout, u is the unlearning gradient: the update is −η · u, so that to first order it raises the retain loss in the
entries where u and the retain gradient differ in sign. Every mask changes u in place. Only ``absolute`` (one) and
``compromise`` (two) hold accumulators as large as the weights; ``percentile`` and ``absolute`` need temporaries of that
size.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from mudman.components import mask_disruption_
from mudman.faults import SpecError
from mudman.specs.components import AbsoluteMask, CompromiseMask, PercentileMask
from mudman.specs.methods import MudmanSpec


def project_conflict_(gradients: list[Tensor], retain: list[Tensor]) -> None:
    """A-GEM (arXiv 1812.00420, equation 11): u ← u − (u·r)/(r·r) · r where u·r < 0, all tensors as one vector.

    Then u·r = 0: the retain loss stays as a whole, yet entries may grow, also against it. Products are in float32.
    """
    pairs = list(zip(gradients, retain, strict=True))
    dot = torch.stack([torch.dot(u.flatten().float(), r.flatten().float()) for u, r in pairs]).sum()
    size = torch.stack([r.float().square().sum() for r in retain]).sum()
    excess = torch.where(dot < 0, dot / size, torch.zeros_like(dot))
    for u, r in pairs:
        u.sub_((excess * r.float()).to(u.dtype))


def keep_lowest_(gradients: list[Tensor], scores: list[Tensor], share: float) -> None:
    """Keep the ``share`` of all entries whose scores are lowest; ties with the last of them stay too."""
    limit = _at_share(torch.cat([score.flatten() for score in scores]), share)
    for gradient, score in zip(gradients, scores, strict=True):
        gradient.mul_(score <= limit)


def keep_percentiles_(gradients: list[Tensor], retain: list[Tensor], forget_share: float, retain_share: float) -> None:
    """Disruption percentiles: keep what is among the largest |u| and also among the lowest disruption, −r · sign(u).

    Either share is of all entries of all tensors given; ties with the last one stay.
    """
    disruptions = [-r * u.sign() for u, r in zip(gradients, retain, strict=True)]
    sizes = [-u.abs() for u in gradients]  # of what was there before the first cut
    keep_lowest_(gradients, disruptions, retain_share)
    keep_lowest_(gradients, sizes, forget_share)


class Mask:
    """Every entry is applied (``none``). Also what the other masks must offer."""

    state: Sequence[Tensor] = ()
    """Accumulators, changed in place only."""

    def watching(self) -> AbstractContextManager:
        """Inside run the forward and the backward of the retain batch."""
        return nullcontext()

    def saw(self, retain: list[Tensor]) -> None:
        """The gradients of that backward."""

    def apply_(self, gradients: list[Tensor], retain_average: list[Tensor], loop: int) -> None:
        """Step 11 of loop ``loop``, the first being 0."""


class Sign(Mask):
    """Disruption Masking: entries whose sign is that of the retain accumulator (section 4)."""

    def apply_(self, gradients: list[Tensor], retain_average: list[Tensor], loop: int) -> None:
        mask_disruption_(gradients, retain_average)


class AGem(Mask):
    """A-GEM's projection on the retain accumulator."""

    def apply_(self, gradients: list[Tensor], retain_average: list[Tensor], loop: int) -> None:
        project_conflict_(gradients, retain_average)


class Percentile(Mask):
    """Disruption percentiles, after a warm-up in which nothing is unlearned and the accumulator fills."""

    def __init__(self, spec: PercentileMask, names: Sequence[str]):
        self.spec = spec
        self.groups = list(_groups(names, spec.scope).values())

    def apply_(self, gradients: list[Tensor], retain_average: list[Tensor], loop: int) -> None:
        if loop < self.spec.warm_up:
            torch._foreach_zero_(gradients)
            return
        shares = self.spec.forget_quantile, self.spec.retain_quantile
        for group in self.groups:
            keep_percentiles_([gradients[i] for i in group], [retain_average[i] for i in group], *shares)


class Absolute(Mask):
    """Absolute-value aggregation: |retain gradient|^p averaged over loops, over |u|^a; the lowest scores are kept."""

    def __init__(self, spec: AbsoluteMask, momentum: float, weights: Sequence[Tensor]):
        self.spec, self.momentum = spec, momentum
        self.state = [torch.zeros_like(weight) for weight in weights]

    def saw(self, retain: list[Tensor]) -> None:
        torch._foreach_mul_(self.state, self.momentum)
        for average, gradient in zip(self.state, retain, strict=True):
            average.add_(gradient.abs().pow_(self.spec.power), alpha=1 - self.momentum)

    def apply_(self, gradients: list[Tensor], retain_average: list[Tensor], loop: int) -> None:
        scores = [
            average / gradient.abs().pow_(self.spec.forget_power)
            for average, gradient in zip(self.state, gradients, strict=True)
        ]
        for score in scores:  # 0/0: nothing to forget there
            score.nan_to_num_(nan=torch.inf, posinf=torch.inf)
        keep_lowest_(gradients, scores, self.spec.quantile)


class Compromise(Mask):
    """The scaled compromise: what the update harms against ``factor`` times what it helps, token by token.

    A token's contribution to a weight's retain gradient is c = (input activation) · (gradient of the output). Averaged
    over loops are Σ |c|^p of the tokens with c > 0, and of those with c < 0: descending u helps the former where u > 0
    and the latter where u < 0. Kept are the entries whose help, times ``factor``, exceeds their harm (with p = 1 and
    factor 1 that asks for the sign of the retain accumulator, as Disruption Masking does), or the ``quantile`` of those
    that come closest to it. Contributions are those of the whole retain loss, its representation term included.
    """

    def __init__(self, spec: CompromiseMask, momentum: float, modules: Sequence[nn.Module]):
        """Raises ``SpecError`` for modules that are no linear layers."""
        if strange := {type(module).__name__ for module in modules if not isinstance(module, nn.Linear)}:
            raise SpecError.at(
                "method.mask",
                f"compromise splits the gradient of linear layers by tokens, and {', '.join(sorted(strange))} is none",
                "take linear layers for target_modules, or another mask",
            )
        self.spec, self.momentum, self.modules = spec, momentum, list(modules)
        self.rising, self.falling = ([torch.zeros_like(m.weight.data) for m in modules] for _ in range(2))
        self.state = [*self.rising, *self.falling]

    @contextmanager
    def watching(self) -> Iterator[None]:
        torch._foreach_mul_(self.state, self.momentum)
        with ExitStack() as hooks:
            for index, module in enumerate(self.modules):
                hooks.callback(module.register_forward_hook(self._hook(index)).remove)
            yield

    def _hook(self, index: int):
        def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(lambda gradient: self._split(index, inputs[0].detach(), gradient))

        return watch

    def _split(self, index: int, inputs: Tensor, gradient: Tensor) -> None:
        """Adds the tokens' contributions: like signs of input and output gradient make positive ones."""
        above, below = self._parts(inputs)
        up, down = self._parts(gradient)
        share = 1 - self.momentum
        self.rising[index].addmm_(up.T, above, alpha=share).addmm_(down.T, below, alpha=share)
        self.falling[index].addmm_(up.T, below, alpha=share).addmm_(down.T, above, alpha=share)

    def _parts(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """|positive part|^p and |negative part|^p, [tokens, features], in the type of the accumulators: under autocast
        values are in a lower one, and a product that is added in place asks for one type."""
        flat = values.flatten(0, -2).to(self.rising[0].dtype)
        return flat.clamp(min=0).pow_(self.spec.power), flat.neg().clamp_(min=0).pow_(self.spec.power)

    def apply_(self, gradients: list[Tensor], retain_average: list[Tensor], loop: int) -> None:
        scores = map(self._score, gradients, self.rising, self.falling)
        if self.spec.quantile is not None:
            keep_lowest_(gradients, list(scores), self.spec.quantile)
            return
        for gradient, score in zip(gradients, scores, strict=True):
            gradient.mul_(score < 0)

    def _score(self, gradient: Tensor, rising: Tensor, falling: Tensor) -> Tensor:
        """Harm less ``factor`` times help."""
        rises = gradient > 0
        help_ = torch.where(rises, rising, falling)
        return torch.where(rises, falling, rising).sub_(help_, alpha=self.spec.factor)


def mask_of(spec: MudmanSpec, model: nn.Module, names: Sequence[str], weights: Sequence[Tensor]) -> Mask:
    """The mask that ``spec`` asks for, on the intervened parameters ``names`` with the values ``weights``."""
    match spec.mask.type:
        case "none":
            return Mask()
        case "sign":
            return Sign()
        case "agem":
            return AGem()
        case "percentile":
            return Percentile(spec.mask, names)
        case "absolute":
            return Absolute(spec.mask, spec.retain_momentum, weights)
        case "compromise":
            modules = [model.get_submodule(name.removesuffix(".weight")) for name in names]
            return Compromise(spec.mask, spec.retain_momentum, modules)


def _at_share(values: Tensor, share: float) -> Tensor:
    """The largest of the lowest ``share`` of all entries of a vector; −∞ where that is none of them.

    By selection: ``torch.quantile`` takes 16 million entries at most, and intervened weights are more.
    """
    count = round(share * values.numel())
    return values.kthvalue(count).values if count else values.new_tensor(-torch.inf)


def _groups(names: Sequence[str], scope: str) -> dict[object, list[int]]:
    """Indices of the parameters that share one threshold."""
    groups: dict[object, list[int]] = {}
    for index, name in enumerate(names):
        layer = next((part for part in name.split(".") if part.isdigit()), name)
        groups.setdefault({"global": None, "tensor": index, "layer": layer}[scope], []).append(index)
    return groups
