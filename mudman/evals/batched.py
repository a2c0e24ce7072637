"""Scoring many short texts at once: batches of similar length, and logits only where they are needed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mudman.modes import in_mode
from mudman.specs.base import Model

TOKENS = 8192
"""Of one batch, padding included. It bounds memory and changes no score beyond rounding."""


@dataclass(frozen=True)
class Padded:
    """Texts of similar length, padded on the right: under causal attention no real token sees the padding."""

    indices: Tensor
    """[batch], of the texts in their own order."""
    tokens: Tensor
    """[batch, length]."""
    mask: Tensor
    """[batch, length], 1 on real tokens."""


def padded_batches(texts: Sequence[Sequence[int]], padding: int, budget: int = TOKENS) -> Iterator[Padded]:
    """Token ids sorted by length, as many to a batch as ``budget`` padded tokens hold (at least one text)."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    batch: list[int] = []
    for index in order:
        if batch and len(texts[index]) * (len(batch) + 1) > budget:
            yield _padded(texts, batch, padding)
            batch = []
        batch.append(index)
    if batch:
        yield _padded(texts, batch, padding)


def _padded(texts: Sequence[Sequence[int]], batch: list[int], padding: int) -> Padded:
    longest = len(texts[batch[-1]])
    rows = [[*texts[i], *[padding] * (longest - len(texts[i]))] for i in batch]
    mask = [[1] * len(texts[i]) + [0] * (longest - len(texts[i])) for i in batch]
    return Padded(torch.tensor(batch), torch.tensor(rows), torch.tensor(mask))


@torch.no_grad()
def logits_at(model: nn.Module, batch: Padded, rows: Tensor, columns: Tensor) -> Tensor:
    """Logits [positions, vocabulary] in the model's dtype, at ``tokens[rows, columns]`` only.

    The output head gets just these hidden states, by a hook in front of it: whatever the architecture does to its
    logits afterwards (capping, scaling) is still done.
    """
    device = next(model.parameters()).device
    rows, columns = rows.to(device), columns.to(device)

    def pick(_head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0][rows, columns].unsqueeze(0), *inputs[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        with in_mode(model, training=False):
            tokens, mask = batch.tokens.to(device), batch.mask.to(device)
            return model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[0]
    finally:
        hook.remove()


def standard_error(scores: Tensor) -> float | None:
    """Of the mean of ``scores`` [n]: sample standard deviation over √n; None of a single one."""
    return (scores.std() / len(scores) ** 0.5).item() if len(scores) > 1 else None


def plain_settings(spec: Model, *without: str) -> dict[str, str | int | float | bool | None]:
    """The settings of an evaluation that stand beside its numbers."""
    return {name: value for name, value in spec.model_dump(mode="json").items() if name not in ("type", *without)}


def padding_token(tokenizer) -> int:
    """Right padding is never attended to: any token the model knows will do. Published: end of text."""
    return tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
