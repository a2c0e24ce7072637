"""Circuit breakers (arXiv 2406.04313) as compared in arXiv 2506.12484: representations of what is to be forgotten turn
away from the original model's, those of the rest stay.

Every loop makes two steps, one for each. At the first one the model still is the original and the cosine at its
maximum, where the gradient is nothing but rounding; the normalisation makes a full step of that, as published. Where
the gradient is exactly 0 the model stays. The original is never copied whole: its weights are swapped in, or the
adapters off. (Booked as published, five passes; the second forward of the original makes it six.)
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mudman.components import global_norm, normalize_
from mudman.faults import SpecError
from mudman.lora import attach
from mudman.losses import cross_entropy, representation_distance
from mudman.methods.base import Losses, Unlearning
from mudman.passes import Passes
from mudman.specs.methods import CircuitBreakersSpec
from mudman.swap import swapped
from mudman.trace import Trace, agreeing, harmful

_SEED = 0xC1BC


class CircuitBreakers(Unlearning):
    """With ``lora``, adapters on the target modules are trained instead of their weights, and stay in the model."""

    STATE = ("loop", "zero_norms", "original", "adapter_values")

    def __init__(self, model: nn.Module, spec: CircuitBreakersSpec, passes: Passes, trace: Trace | None = None):
        """Raises ``SpecError`` for a layer that the model has not, or modules that no adapter fits."""
        super().__init__(model, spec, passes, trace)
        layers = model.config.get_text_config().num_hidden_layers
        self.layer = layers // 2 if spec.layer is None else spec.layer
        if self.layer > layers:
            raise SpecError.at(
                "method.layer",
                f"{self.layer} is beyond the {layers} layers of this model",
                f"take 0 (embeddings) to {layers}",
            )
        self.adapters, self.original = None, None
        if spec.lora is None:
            self.original = [weight.clone() for weight in self.base]
        else:
            modules = [name.removesuffix(".weight") for name in self.intervened]
            self.adapters = attach(model, modules, spec.lora, _SEED, "method.lora")
            self.weights = self.adapters.parameters
            self.base = [weight.data for weight in self.weights]
            names = {id(parameter): name for name, parameter in model.named_parameters()}
            self.intervened = tuple(names[id(weight)] for weight in self.weights)

    @property
    def adapter_values(self) -> list[Tensor] | None:
        return None if self.adapters is None else self.base

    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One loop; the forget loss is the model's own after the retain step."""
        self.loop += 1
        forget_batch, retain_batch = next(forget), next(retain)
        with self._own_dropout():
            retain_loss = self._retain_step(retain_batch)
            forget_loss = None if paused else self._forget_step(forget_batch)
        return forget_loss, retain_loss

    def _retain_step(self, tokens: Tensor) -> Tensor:
        output = self.passes.forward(tokens, hidden_states=True)
        distance = representation_distance(output.hidden_states, self._original_states(tokens), squared=False)
        gradients = self.passes.gradients(distance, self.weights)
        torch._foreach_add_(self.base, gradients, alpha=-self.spec.retaining_rate)
        loss = cross_entropy(output.logits.detach(), tokens)
        if self.trace is not None:
            self.trace.record(retain_loss=loss, retain_norm=global_norm(gradients))
            self.retain_gradients = gradients
        return loss

    def _forget_step(self, tokens: Tensor) -> Tensor:
        output = self.passes.forward(tokens, hidden_states=True)
        similarity = breaking_loss(output.hidden_states[self.layer], self._original_states(tokens)[self.layer])
        gradients = self.passes.gradients(similarity, self.weights)
        norm = global_norm(gradients)
        self.zero_norms += norm == 0
        normalize_(gradients, "global_pre_mask", "rms", norm)
        torch._foreach_add_(self.base, gradients, alpha=-self.spec.unlearning_rate)
        loss = cross_entropy(output.logits.detach(), tokens)
        if self.trace is not None:
            update_norm = global_norm(gradients) * self.spec.unlearning_rate
            self.trace.record(forget_loss=loss, gradient_norm=norm, update_norm=update_norm)
            self.trace.record(agreeing=agreeing(gradients, self.retain_gradients), kept=torch.ones_like(norm))
            self.trace.record(harmful=harmful(gradients, self.retain_gradients))
        return loss

    def _original_states(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return self.passes.original_states(tokens, self._as_original())

    def _as_original(self) -> AbstractContextManager:
        return swapped(self.weights, self.original) if self.adapters is None else self.adapters.off()

    @contextmanager
    def _own_dropout(self) -> Iterator[None]:
        """Adapters' dropout drawn from the loop's own seed, so that a continued run draws what the whole run draws."""
        if self.spec.lora is None or not self.spec.lora.dropout:
            yield
            return
        device = self.base[0].device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(_SEED + self.loop)
            yield


def breaking_loss(hidden: Tensor, original: Tensor) -> Tensor:
    """Mean over tokens of max(0, cosine) between hidden states [batch, length, width], in float32; in [0, 1].

    States of norm 0 have cosine and gradient 0.
    """
    return F.cosine_similarity(hidden.float(), original.float(), dim=-1).relu().mean()
