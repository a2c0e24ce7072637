"""Forward and backward passes, each counted, with a look for a stop order after each."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mudman.head import has_plain_head, unformed
from mudman.original import OriginalStates


class Passes:
    """Runs the passes of one phase on one model.

    ``made`` counts the forwards and backwards that really ran. ``on_pass`` is called after each one; it may raise to
    end the phase there.
    """

    def __init__(
        self,
        model: nn.Module,
        on_pass: Callable[[], None] | None = None,
        *,
        spends_at_once: bool = False,
        original: OriginalStates | None = None,
    ):
        """``original``: of earlier trials with the same model.

        ``spends_at_once``: gradients are taken once from each forward, before any weight has changed. Otherwise a
        head that is trained itself forms its logits whole: a later backward goes through its weight of that moment."""
        self.model = model
        self.made = 0
        self._plain_head, self._spends_at_once = has_plain_head(model), spends_at_once
        self._on_pass, self._original = on_pass, original

    def forward(self, tokens: Tensor, hidden_states: bool = False, weights: Mapping[str, Tensor] | None = None):
        """The model's output on ``tokens`` [batch, length]: an object with ``logits`` (and ``hidden_states``).

        ``weights``: tensors, by parameter name, that stand in for the model's own and get their gradients; second
        derivatives may be taken through them, so logits are then formed.
        """
        inputs = {"input_ids": tokens, "use_cache": False}
        inputs |= {"output_hidden_states": True} if hidden_states else {}
        if weights is not None:
            output = functional_call(self.model, dict(weights), (), inputs)
        else:
            with unformed(self.model) if self._fuses() else nullcontext():
                output = self.model(**inputs)
        self._count()
        return output

    def original_states(self, tokens: Tensor, as_original: AbstractContextManager) -> tuple[Tensor, ...]:
        """Hidden states of all layers, without gradients; inside ``as_original`` the model is the original. No pass is
        made, and none counted, where they are known from an earlier trial."""

        def form() -> tuple[Tensor, ...]:
            with torch.no_grad(), as_original:
                return self.forward(tokens, hidden_states=True).hidden_states

        return form() if self._original is None else self._original.of(tokens, form)

    def gradients(
        self, loss: Tensor, weights: Sequence[Tensor], keep_graph: bool = False, create_graph: bool = False
    ) -> list[Tensor]:
        """∇ loss for each weight, in order; weights that the loss does not reach get zeros.

        ``create_graph``: the gradients can be differentiated in turn.
        """
        gradients = (
            [torch.zeros_like(weight) for weight in weights]
            if not loss.requires_grad
            else torch.autograd.grad(
                loss,
                weights,
                retain_graph=keep_graph or create_graph,
                create_graph=create_graph,
                allow_unused=True,
                materialize_grads=True,
            )
        )
        self._count()
        return list(gradients)

    def consume_gradients(
        self, loss: Tensor, weights: Sequence[nn.Parameter], consume: Callable[[int, Tensor], None]
    ) -> None:
        """One backward that hands each weight's gradient to ``consume(index, gradient)`` as soon as it is formed.

        No two gradients live at once. By then the backward needs that weight no more, so ``consume`` may change it in
        place (through ``.data``).
        """

        def hook(index: int):
            def take(weight: nn.Parameter) -> None:
                consume(index, weight.grad)
                weight.grad = None

            return take

        handles = [weight.register_post_accumulate_grad_hook(hook(i)) for i, weight in enumerate(weights)]
        try:
            loss.backward(inputs=list(weights))
        finally:
            for handle in handles:
                handle.remove()
        self._count()

    def _fuses(self) -> bool:
        if not self._plain_head or not has_plain_head(self.model):
            return False
        return self._spends_at_once or not self.model.get_output_embeddings().weight.requires_grad

    def _count(self) -> None:
        self.made += 1
        if self._on_pass is not None:
            self._on_pass()
