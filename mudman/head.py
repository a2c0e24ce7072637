"""The output head, fused with what a loss makes of its logits: they are formed some rows at a time, never whole.

A loss that is a mean over positions needs of the logits [positions, vocabulary] one row at a time, and so does its
gradient. So the forward pass of the loss forms, group by group of rows, the logits, the loss and its gradient with
respect to hidden states (and to the head's weight, where that is trained); within a group, losses are taken block by
block, while the block lies in the processor's cache. The backward pass only hands out what was formed. The slow twin is
``F.linear`` followed by the same loss (``tests/core/test_head.py``).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mudman.modes import in_mode
from mudman.products import lower
from mudman.sizes import GROUP

BLOCK = {"cpu": 2 * 2**20, "cuda": 256 * 2**20}
"""Bytes of logits whose loss is taken at once: they stay in the cache of a CPU."""
NARROW = 512
"""Width of hidden states below which the head's gradient is gathered transposed: then logits are read as they lie."""
LIKELY = 1e-30
"""Probability from which its logarithm is exact enough in float32: the loss needs no second look at the logits."""

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""Of logits [rows, vocabulary] and target tokens [rows] the loss of each row, [rows]; differentiable."""

_plain: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


class Logits:
    """Logits [batch, length, vocabulary] not formed: ``hidden`` states [batch, length, width] in front of the head."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype | None = None):
        """``dtype``: that the product is computed in; that of ``hidden`` by default."""
        self.hidden, self.weight, self.bias, self.dtype = hidden, weight, bias, dtype or hidden.dtype
        self._last: tuple[Tensor, Tensor] | None = None

    def formed(self) -> Tensor:
        """The slow twin of everything here."""
        return F.linear(*(part if part is None else part.to(self.dtype) for part in self._parts))

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.hidden, self.weight, self.bias

    def detach(self) -> "Logits":
        return Logits(*(part if part is None else part.detach() for part in self._parts), self.dtype)

    def cross_entropy(self, tokens: Tensor) -> Tensor:
        """As ``losses.cross_entropy``. Asked twice for the same tokens it is one scalar, of one graph: the adversary
        and the unlearning step share it."""
        if self._last is None or self._last[0] is not tokens:
            self._last = tokens, self._mean(_cross_entropy, self.hidden[:, :-1], tokens[:, 1:])
        return self._last[1]

    def mean_over_next(self, loss: RowLoss, tokens: Tensor) -> Tensor:
        """Mean over all positions but the last of ``loss`` on float32 logits and the next tokens. A scalar."""
        rows = _by_autograd(lambda logits, targets: loss(logits.float(), targets))
        return self._mean(rows, self.hidden[:, :-1], tokens[:, 1:])

    def mean_over_all(self, loss: RowLoss, tokens: Tensor) -> Tensor:
        """Mean over all positions of ``loss`` on logits in their own type, and the tokens there. A scalar."""
        return self._mean(_by_autograd(loss), self.hidden, tokens)

    @torch.no_grad()
    def groups(self) -> Iterator[Tensor]:
        """Logits [rows, vocabulary] of all positions but the last of each sequence, in float32, some rows at a time."""
        weight, bias = (part if part is None else part.to(self.dtype) for part in (self.weight, self.bias))
        for hidden in self.hidden[:, :-1].flatten(0, 1).split(_rows_of(GROUP, weight, torch.float32)):
            yield F.linear(hidden.to(self.dtype), weight, bias).float()

    def _mean(self, rows: "_Rows", hidden: Tensor, targets: Tensor) -> Tensor:
        parts = hidden.flatten(0, 1), self.weight, self.bias
        wanted = [torch.is_grad_enabled() and part is not None and part.requires_grad for part in parts]
        return _MeanOverRows.apply(*parts, targets.flatten(), rows, wanted, self.dtype)


def logits_of(model: nn.Module, tokens: Tensor) -> Logits | Tensor:
    """The model's on ``tokens`` [batch, length]; not formed where its head is plain."""
    with unformed(model) if has_plain_head(model) else nullcontext():
        return model(input_ids=tokens, use_cache=False).logits


def groups_of(logits: Logits | Tensor) -> Iterator[Tensor]:
    """As ``Logits.groups``, of one or the other."""
    return logits.groups() if isinstance(logits, Logits) else (each.float() for each in logits[:, :-1])


@contextmanager
def unformed(model: nn.Module) -> Iterator[None]:
    """Inside, the model's outputs have ``Logits`` for their logits, where its head is a plain linear layer."""
    head = model.get_output_embeddings()
    seen: list[Logits] = []

    def catch(head: nn.Linear, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, device = inputs[0], inputs[0].device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else lower()
        seen.append(Logits(hidden, head.weight, head.bias, dtype))
        return (hidden[:, :0],)

    def hand_over(_model: nn.Module, _inputs: tuple, output):
        output.logits = seen.pop()
        return output

    hooks = [head.register_forward_pre_hook(catch), model.register_forward_hook(hand_over)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def has_plain_head(model: nn.Module) -> bool:
    """Whether the model's logits are what a linear head makes of its last hidden states, and nothing is done to them
    afterwards (some architectures cap or scale them). Found out once by a look at both, and not while hooks watch the
    head: adapters change what it computes."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if type(head) is not nn.Linear or head._forward_hooks or head._forward_pre_hooks:
        return False
    if model not in _plain:
        _plain[model] = _is_plain(model, head)
    return _plain[model]


@torch.no_grad()
def _is_plain(model: nn.Module, head: nn.Linear) -> bool:
    # A copy: what is done in place to the output would be done to what was seen too.
    # Not token 0 alone: as padding its embedding may be zero, and nothing done to zeros shows.
    tokens, seen = torch.arange(1, 9, device=head.weight.device)[None] % len(head.weight), []
    hook = head.register_forward_hook(lambda _head, _inputs, output: seen.append(output.clone()))
    try:
        with in_mode(model, training=False):
            logits = model(input_ids=tokens, use_cache=False).logits
    finally:
        hook.remove()
    return len(seen) == 1 and torch.equal(seen[0], logits)


# ------------------------------------------------------------------------------------------------- groups of rows

_Rows = Callable[[Tensor, Tensor, bool], Tensor]
"""Logits [rows, vocabulary], targets [rows], whether a gradient is wanted: the sum of the rows' losses in float32.
Where it is wanted, the logits are overwritten with its gradient."""


class _MeanOverRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, rows: _Rows, wanted: list[bool], dtype: torch.dtype) -> Tensor:
        count, (most, block) = len(hidden), (_rows_of(limit, weight, dtype) for limit in (GROUP, BLOCK))
        group = max(1, math.ceil(count / math.ceil(count / most))) if count else 1  # alike: no small one at the end
        want_hidden, want_weight, want_bias = wanted
        # Gradients gather in the type of what they are for; products are formed in ``dtype``. The mean's 1 / count goes
        # into the smaller factor.
        of_hidden = torch.empty_like(hidden) if want_hidden else None
        of_weight, of_bias = None, torch.zeros_like(bias) if want_bias else None
        low_hidden, low_weight, low_bias = (part if part is None else part.to(dtype) for part in (hidden, weight, bias))
        narrow = weight.shape[1] < NARROW
        scaled = (hidden / count).to(dtype) if want_weight else None
        total = torch.zeros((), device=hidden.device)
        for first in range(0, count, group):
            part = slice(first, first + group)
            logits = F.linear(low_hidden[part], low_weight, low_bias)
            for some, their_targets in zip(logits.split(block), targets[part].split(block), strict=True):
                total += rows(some, their_targets, any(wanted))
            if want_hidden:
                of_hidden[part] = logits @ low_weight
            if want_weight:
                gathered = scaled[part].T @ logits if narrow else logits.T @ scaled[part]
                of_weight = gathered.to(weight.dtype) if of_weight is None else of_weight.add_(gathered)
            if want_bias:
                of_bias += logits.sum(0, dtype=bias.dtype) / count
        if want_hidden:
            of_hidden /= count
        if want_weight and narrow:
            of_weight = of_weight.T.contiguous()
        ctx.save_for_backward(of_hidden, of_weight, of_bias)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx, scale: Tensor):
        # Where it can be seen without waiting for the device, a plain descent costs no copy.
        one = scale.device.type == "cpu" and scale == 1
        formed = (part if part is None or one else part * scale for part in ctx.saved_tensors)
        return *formed, None, None, None, None


def _rows_of(limit: dict[str, int], weight: Tensor, dtype: torch.dtype) -> int:
    return max(1, limit.get(weight.device.type, limit["cuda"]) // (dtype.itemsize * len(weight)))


def _cross_entropy(logits: Tensor, targets: Tensor, wanted: bool) -> Tensor:
    """−log p(target) in float32, by hand: one exponential per entry."""
    p = torch.softmax(logits, -1, dtype=torch.float32)
    of_target = p.gather(-1, targets[:, None])
    if p.device.type == "cpu" and of_target.min() > LIKELY:  # elsewhere the look would wait for the device
        loss = -of_target.log()
    else:
        # log Σ exp z, by the likeliest token: its p is at least one in the vocabulary, that of the target may be 0.
        normalizer = logits.amax(-1, keepdim=True).float() - p.amax(-1, keepdim=True).log()
        loss = normalizer - logits.gather(-1, targets[:, None]).float()
    if wanted:
        logits.copy_(p.scatter_(-1, targets[:, None], of_target - 1))
    return loss.sum()


def _by_autograd(loss: RowLoss) -> _Rows:
    def rows(logits: Tensor, targets: Tensor, wanted: bool) -> Tensor:
        with torch.set_grad_enabled(wanted):
            leaf = logits.detach().requires_grad_(wanted)
            total = loss(leaf, targets).sum()
            if wanted:
                logits.copy_(torch.autograd.grad(total, leaf)[0])
            return total.detach().float()

    return rows
