"""The two phases of a trial as functions on a transformers model: ``unlearn`` and ``relearn``.

Both change the model in place and return it with a record. Budgets are counted in passes: one forward or one backward
over one batch, booked as the published procedure books them. The model runs in training
mode, as published: dropout is active where its configuration has it; the losses of curves are taken without.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mudman import results
from mudman.evals.loss import mean_loss
from mudman.faults import SpecError
from mudman.lora import attach
from mudman.losses import cross_entropy
from mudman.methods import METHODS
from mudman.modes import in_mode
from mudman.original import OriginalStates
from mudman.passes import Passes
from mudman.results import Curve, Point
from mudman.sizes import is_large
from mudman.specs import AttackSpec, MethodSpec, NoUnlearning, parse_as, resolve, whole_loops
from mudman.specs.base import CHECK_EVERY
from mudman.trace import Trace


@dataclass(frozen=True)
class Evaluation:
    """Token batches [batch, length] held out for the losses of a curve."""

    forget: Sequence[Tensor]
    retain: Sequence[Tensor]

    def point(self, model: nn.Module, passes: int) -> Point:
        return Point(
            passes=passes, forget_loss=mean_loss(model, self.forget), retain_loss=mean_loss(model, self.retain)
        )


@dataclass(frozen=True)
class Record:
    """What a phase did."""

    loops: int
    passes_booked: int
    """Passes by the published accounting."""
    passes_made: int
    """Forwards and backwards that really ran, evaluations apart."""
    curve: Curve
    """Losses at each check: on the evaluation batches (then the first point is before the phase), else on the batches
    that were trained on at that moment."""
    intervened: tuple[str, ...]
    """Names of the parameters that the phase may change."""
    diverged: bool
    """A loss or a weight is no finite number."""
    stopped_at_pass: int | None
    """Booked passes at which a check ended the phase; None when it ran to its end."""
    zero_norm_loops: int = 0
    """Loops whose unlearning gradient vanished: they had nothing to add (momentum may still have moved the weights)."""
    paused_passes: int = 0
    """Booked passes of loops in which unlearning paused."""
    trace: results.Trace | None = None
    """Per loop, where it was asked for."""


class Phase(NamedTuple):
    """The changed model and the record of what was done."""

    model: nn.Module
    record: Record


def unlearn(
    model: nn.Module,
    forget: Iterable[Tensor],
    retain: Iterable[Tensor],
    method: MethodSpec | Mapping[str, Any],
    passes: int,
    *,
    evaluation: Evaluation | None = None,
    start: Point | None = None,
    check_every: int = CHECK_EVERY,
    stop_when: Callable[[Point], bool] | None = None,
    pause_when: Callable[[Point], bool] | None = None,
    on_pass: Callable[[int, Point | None], None] | None = None,
    trace: bool = False,
    original: OriginalStates | None = None,
) -> Phase:
    """Unlearn ``forget`` while keeping ``retain`` (arXiv 2506.12484, Algorithm 1).

    :param model: a transformers causal language model; changed in place.
    :param forget: token batches, LongTensor [batch, length]; batch i serves loop i, over again when they end.
    :param retain: likewise.
    :param method: a method's spec, or the mapping a study spec holds under ``method``; numbers only, no ranges.
    :param passes: budget; a multiple of the method's passes per loop.
    :param evaluation: held-out batches for the curve.
    :param start: losses on them of the model as it is now, where they are known: they are not taken again.
    :param check_every: passes between two points of the curve.
    :param stop_when: asked at each check; True ends the phase there.
    :param pause_when: asked at each check; while it says True, only the retain step goes on and passes are booked.
    :param trace: keep gradient norms, agreeing signs and the like of every loop in the record.
    :param original: hidden states of this model from earlier runs that began with the same weights; added to.
    :param on_pass: called with the booked passes after every pass (and with the point at every check); may raise.
    :raises SpecError: a bad method, budget or batch; all faults at once.
    """
    spec = resolve(method if not isinstance(method, Mapping) else parse_as(MethodSpec, dict(method), "method"), {})
    _check_count("passes", passes, 0)
    _check_count("check_every", check_every, 1)
    if faults := whole_loops("passes", passes, spec.passes_per_loop(), "this method"):
        raise SpecError(faults)
    if isinstance(spec, NoUnlearning):
        points = [_first(model, evaluation, start)] if evaluation else []
        return Phase(model, Record(0, 0, 0, Curve.of(points), (), False, None))

    schedule = _Schedule(
        model, passes, spec.passes_per_loop(), check_every, evaluation, start, stop_when, on_pass, pause_when
    )
    counted = Passes(model, schedule.passed, original=original)
    traced = Trace() if trace else None
    running = METHODS[spec.type](model, spec, counted, traced)
    with _trainable(model, running.weights):
        streams = _batches(forget, "forget", model), _batches(retain, "retain", model)
        for loop in range(schedule.loops):
            if traced is not None:
                traced.begin()
            losses = running.step(*streams, paused=schedule.paused)
            if loop == schedule.loops - 1:
                running.finish()
            if schedule.loop_done(losses):
                break
    record = schedule.record(counted, running.intervened, running.weights, int(running.zero_norms))
    return Phase(model, replace(record, trace=traced and traced.result()))


def relearn(
    model: nn.Module,
    forget: Iterable[Tensor],
    attack: AttackSpec | Mapping[str, Any],
    retain: Iterable[Tensor] | None = None,
    *,
    evaluation: Evaluation | None = None,
    start: Point | None = None,
    on_pass: Callable[[int, Point | None], None] | None = None,
) -> Phase:
    """Attack: train on ``forget`` with plain SGD at a constant rate: all parameters, or low-rank adapters (``lora``) on
    all linear layers but the head, which are left in the model (``mudman.lora.detach_all`` takes them out).

    :param model: a transformers causal language model; changed in place.
    :param forget: token batches, LongTensor [batch, length], in the order of use, over again when they end.
    :param attack: ``AttackSpec`` or the mapping a study spec holds under ``attack``.
    :param retain: when given, each forget step is followed by a step on a retain batch (four passes a loop).
    :param evaluation: held-out batches for the curve.
    :param start, on_pass: as in ``unlearn``.
    :raises SpecError: a bad attack or batch.
    """
    spec = attack if isinstance(attack, AttackSpec) else parse_as(AttackSpec, dict(attack), "attack")
    if spec.retain and retain is None:
        raise SpecError.at(
            "attack.retain",
            "asks for retain steps, and no retain batches are given",
            "pass retain=…, or set attack.retain to false",
        )
    if retain is not None and not spec.retain and "retain" in spec.model_fields_set:
        raise SpecError.at("attack.retain", "is false, and retain batches are given", "leave one of the two out")
    spec = spec.model_copy(update={"retain": retain is not None})
    if faults := whole_loops("attack.passes", spec.passes, spec.passes_per_loop(), "this attack"):
        raise SpecError(faults)

    schedule = _Schedule(model, spec.passes, spec.passes_per_loop(), spec.check_every, evaluation, start, None, on_pass)
    counted = Passes(model, schedule.passed, spends_at_once=True)
    names, weights = zip(*_attacked(model, spec).items(), strict=True)
    large = is_large(sum(weight.nbytes for weight in weights))

    def step(tokens: Tensor) -> Tensor:
        loss = cross_entropy(counted.forward(tokens).logits, tokens)
        if large:
            counted.consume_gradients(loss, weights, descend)
        else:
            gradients = counted.gradients(loss, weights)
            torch._foreach_add_([weight.data for weight in weights], gradients, alpha=-spec.rate)
        return loss.detach()

    def descend(index: int, gradient: Tensor) -> None:
        weights[index].data.add_(gradient, alpha=-spec.rate)

    with _trainable(model, weights):
        retain_batches = itertools.repeat(None) if retain is None else _batches(retain, "retain", model)
        batches = zip(_batches(forget, "forget", model), retain_batches, strict=False)
        for forget_batch, retain_batch in itertools.islice(batches, schedule.loops):
            forget_loss = step(forget_batch)
            retain_loss = step(retain_batch) if retain_batch is not None else None
            if schedule.loop_done((forget_loss, retain_loss)):
                break
    return Phase(model, schedule.record(counted, names, weights))


def _attacked(model: nn.Module, spec: AttackSpec) -> dict[str, nn.Parameter]:
    """What the attack trains, by name; adapters are attached here, drawn by torch's seed."""
    if spec.lora is None:
        return dict(model.named_parameters())
    head = model.get_output_embeddings()
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head]
    seed = int(torch.randint(2**32, ()))
    trained = {id(tensor) for tensor in attach(model, linear, spec.lora, seed, "attack.lora").parameters}
    return {name: tensor for name, tensor in model.named_parameters() if id(tensor) in trained}


def _first(model: nn.Module, evaluation: Evaluation, known: Point | None) -> Point:
    return evaluation.point(model, 0) if known is None else known.model_copy(update={"passes": 0})


class _Schedule:
    """When a phase is checked, what its curve says, and when it ends early."""

    def __init__(self, model, passes, per_loop, check_every, evaluation, start, stop_when, on_pass, pause_when=None):
        self.loops, self.per_loop, self.check_every = passes // per_loop, per_loop, check_every
        self.model, self.evaluation, self.stop_when, self.on_pass = model, evaluation, stop_when, on_pass
        self.pause_when = pause_when
        self.loop, self.in_loop = 0, 0
        self.paused, self.paused_passes = False, 0
        self.points: list[Point] = []
        self.diverged, self.stopped = False, False
        if evaluation is not None:
            self.points.append(_first(model, evaluation, start))

    @property
    def booked(self) -> int:
        return self.loop * self.per_loop

    def passed(self) -> None:
        """After every pass. A loop never shows more passes than it books, however many it makes."""
        self.in_loop = min(self.in_loop + 1, self.per_loop)
        if self.on_pass is not None:
            self.on_pass(self.booked + self.in_loop, None)

    def loop_done(self, losses: tuple[Tensor, Tensor | None]) -> bool:
        """Check when the booked passes have crossed a multiple of ``check_every``, and at the end. True: stop here."""
        before = self.booked
        self.paused_passes += self.per_loop * self.paused
        self.loop, self.in_loop = self.loop + 1, 0
        if self.booked // self.check_every == before // self.check_every and self.loop < self.loops:
            return False
        point = self._point(losses)
        self.points.append(point)
        given = losses if self.evaluation is None else (point.forget_loss, point.retain_loss)
        seen = zip(given, (point.forget_loss, point.retain_loss), strict=True)
        self.diverged = any(loss is None for given, loss in seen if given is not None or self.evaluation)
        over = self.stop_when is not None and not self.diverged and self.stop_when(point)
        self.stopped = self.diverged or over
        self.paused = self.pause_when is not None and not self.stopped and self.pause_when(point)
        if self.on_pass is not None:
            self.on_pass(self.booked, point)
        return self.stopped

    def _point(self, losses: tuple[Tensor, Tensor | None]) -> Point:
        if self.evaluation is not None:
            return self.evaluation.point(self.model, self.booked)
        forget, retain = (None if loss is None else loss.item() for loss in losses)
        return Point(passes=self.booked, forget_loss=forget, retain_loss=retain)

    @torch.no_grad()
    def record(self, counted: Passes, names: Sequence[str], weights: Sequence[Tensor], zero_norms: int = 0) -> Record:
        finite = all(math.isfinite(norm) for norm in torch.stack(torch._foreach_norm(list(weights))).tolist())
        return Record(
            loops=self.loop,
            passes_booked=self.booked,
            passes_made=counted.made,
            curve=Curve.of(self.points),
            intervened=tuple(names),
            diverged=self.diverged or not finite,
            stopped_at_pass=self.booked if self.stopped else None,
            zero_norm_loops=zero_norms,
            paused_passes=self.paused_passes,
        )


@contextmanager
def _trainable(model: nn.Module, weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Training mode, with gradients for ``weights`` alone; afterwards all is as the caller had it."""
    parameters = list(model.parameters())
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    model.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    try:
        with torch.enable_grad(), in_mode(model, training=True):
            yield
    finally:
        for parameter, flag, gradient in before:
            parameter.requires_grad_(flag)
            parameter.grad = gradient


def _check_count(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise SpecError.at(name, f"{value!r} is no whole number of at least {least}", f"give a number from {least} on")


def _batches(batches: Iterable[Tensor], name: str, model: nn.Module) -> Iterator[Tensor]:
    """Endless token batches on the model's device. Raises ``SpecError`` for an empty iterable or a malformed batch."""
    device, known, count = next(model.parameters()).device, _vocabulary(model), 0
    try:
        stream = itertools.cycle(batches)
    except TypeError:
        raise SpecError.at(name, f"is {_describe(batches)}", "give a list, or another iterable, of batches") from None
    for count, tokens in enumerate(stream, start=1):
        if not isinstance(tokens, Tensor) or tokens.dtype != torch.long or tokens.ndim != 2 or _too_small(tokens):
            raise SpecError.at(
                name,
                f"batch {count - 1} is {_describe(tokens)}",
                "give LongTensors of shape [batch, length], batch at least 1 and length at least 2",
            )
        if tokens.device.type == "cpu" or count == 1:  # elsewhere each look would wait for the device
            _check_tokens(tokens, known, f"batch {count - 1}", name)
        yield tokens.to(device)
    raise SpecError.at(name, "holds no batch", "give at least one token batch")


def _too_small(tokens: Tensor) -> bool:
    return tokens.shape[0] < 1 or tokens.shape[1] < 2


def _vocabulary(model: nn.Module) -> int | None:
    """Tokens that the model knows; None where it does not say."""
    try:
        return model.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError):
        return None


def _check_tokens(tokens: Tensor, known: int | None, which: str, name: str) -> None:
    """An unknown token would be an IndexError on the CPU, and poison the whole process on a GPU."""
    lowest, highest = (int(end) for end in tokens.aminmax())
    if lowest < 0 or (known is not None and highest >= known):
        raise SpecError.at(
            name,
            f"{which} holds token {lowest if lowest < 0 else highest}, and the model knows "
            + ("none below 0" if lowest < 0 else f"{known} tokens"),
            "use the tokenizer that belongs to the model, and a padding token that it knows",
        )


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {list(value.shape)}"
    return f"of type {type(value).__name__}"
