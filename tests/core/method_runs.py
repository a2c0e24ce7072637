"""Any method on a small model, loop by loop: finished, continued from its state, or ended by a stop order."""

import itertools

import pytest
import torch
from small_models import snapshot, token_batches
from torch import nn

import mudman
from mudman.engine import Record
from mudman.lora import Adapter
from mudman.methods import METHODS
from mudman.passes import Passes
from mudman.specs import MethodSpec, parse_as

FORGET, RETAIN = token_batches(1, 6), token_batches(2, 6)


class Stop(Exception):
    """What a stop order raises."""


def unlearned(model, config: dict, loops: int, **more) -> tuple[dict, Record]:
    """All weights after ``loops`` loops, and the record."""
    booked = parse_as(MethodSpec, config).passes_per_loop()
    record = mudman.unlearn(model, FORGET, RETAIN, config, loops * booked, **more).record
    return snapshot(model), record


class Run:
    """A method under way, on batches that go on where ``done`` loops have left them."""

    def __init__(self, model, config: dict, state: dict | None = None, taken: tuple[int, int] = (0, 0)):
        spec = parse_as(MethodSpec, config)
        self.method = METHODS[spec.type](model, spec, Passes(model))
        self.taken = list(taken)
        self.streams = [self._stream(0, FORGET), self._stream(1, RETAIN)]
        model.requires_grad_(False).train()
        for weight in self.method.weights:
            weight.requires_grad_(True)
        if state is not None:
            self.method.load(state)

    def _stream(self, which: int, batches: list[torch.Tensor]):
        for batch in itertools.islice(itertools.cycle(batches), self.taken[which], None):
            self.taken[which] += 1
            yield batch

    def loops(self, count: int) -> "Run":
        for _ in range(count):
            self.method.step(*self.streams)
        return self


def continues(make_model, config: dict) -> bool:
    """Whether two loops, saved, and two more from there on another model equal four loops, bit for bit."""
    whole, half, rest = make_model(), make_model(), make_model()
    Run(whole, config).loops(4)
    first = Run(half, config).loops(2)
    saved, state = snapshot(half), first.method.state()
    with torch.no_grad():
        for name, weight in rest.named_parameters():
            weight.copy_(saved[name])
    Run(rest, config, state, tuple(first.taken)).loops(2)
    mine, theirs = snapshot(rest), snapshot(whole)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def stopped_everywhere(make_model, config: dict, loops: int = 1) -> list[torch.nn.Module]:
    """Models that a stop order left after each single pass, with the storage of their weights checked to be theirs."""
    left, passes = [], itertools.count(1)
    for last in passes:
        model, seen = make_model(), itertools.count(1)
        own = {name: weight.data_ptr() for name, weight in model.named_parameters()}

        def stop(_booked, point, seen=seen, last=last):
            if point is None and next(seen) == last:
                raise Stop

        try:
            unlearned(model, config, loops, on_pass=stop)
        except Stop:
            left.append(model)
            now = {name: weight.data_ptr() for name, weight in model.named_parameters() if name in own}
            assert now == own
            assert not any(weight.requires_grad is False or weight.grad is not None for weight in model.parameters())
        else:
            return left
    return left


def bare(model) -> bool:
    """No adapter anywhere, and no hook on a layer that could have one (transformers hooks whole blocks itself)."""
    hooked = (m._forward_hooks or m._forward_pre_hooks for m in model.modules() if isinstance(m, nn.Linear))
    return not any(hooked) and not any(isinstance(m, Adapter) for m in model.modules())


everywhere = pytest.mark.parametrize(
    ("family", "dtype"), list(itertools.product(("llama", "neox"), (torch.float32, torch.bfloat16))), ids=str
)
