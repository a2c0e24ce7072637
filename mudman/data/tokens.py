"""Token batches: which texts serve training, evaluation and attack, and how they are cut (docs/method.md).

Texts are shuffled once by the data seed and split 50 % train, 25 % validation, 25 % test (unused). Each text gives at
most one example: its first ``length`` tokens; shorter texts are left out. Training batches unlearn; of the validation
batches the first ones are held out for the losses and the rest serve the attack.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mudman.data.texts import read_texts
from mudman.faults import FieldFault, SpecError
from mudman.specs import BatchSpec, CorpusSpec

_CHUNK = 64  # texts tokenised at once: only as many are read as the budget needs


@dataclass(frozen=True)
class TokenBatches:
    """LongTensors [batches, size, length] on the CPU."""

    training: Tensor
    evaluation: Tensor
    attack: Tensor
    texts: int
    """Texts in the corpus."""
    revision: str
    licence: str | None

    def fingerprint(self) -> str:
        """SHA-256 over the token ids of all batches, in order."""
        digest = hashlib.sha256()
        for tensor in (self.training, self.evaluation, self.attack):
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()


def token_batches(
    corpus: CorpusSpec, field: str, batch: BatchSpec, seed: int, tokenizer, training: int, attack: int
) -> TokenBatches:
    """``training`` and ``attack`` are numbers of batches needed (0 is allowed).

    Raises ``SpecError`` at ``<field>`` when the corpus is shorter than that, unless it may repeat.
    """
    texts = read_texts(corpus, field)
    order = np.random.default_rng(seed).permutation(len(texts.records))
    half, three_quarters = len(order) // 2, len(order) * 3 // 4
    train, validation = order[:half], order[half:three_quarters]

    def batches(indices: Sequence[int], wanted: int, least: int, what: str) -> Tensor:
        examples = _examples(texts.records, indices, tokenizer, batch.length, wanted * batch.size)
        found = len(examples) // batch.size
        if found < (least if corpus.repeat else wanted):
            raise SpecError([_too_short(corpus, field, batch, len(texts.records), what, found, wanted)])
        kept = examples[: min(found, wanted) * batch.size]
        return torch.tensor(kept, dtype=torch.long).view(-1, batch.size, batch.length)

    training_batches = batches(train, training, min(training, 1), "training")
    held_out = batch.evaluation
    rest = batches(validation, held_out + attack, held_out + min(attack, 1), "validation")
    return TokenBatches(
        training_batches, rest[:held_out], rest[held_out:], len(texts.records), texts.revision, texts.licence
    )


def _examples(records: Sequence[str], indices: Sequence[int], tokenizer, length: int, wanted: int) -> list[list[int]]:
    examples: list[list[int]] = []
    for chunk in _chunks(indices):
        if len(examples) >= wanted:
            break
        encoded = tokenizer([records[int(i)] or " " for i in chunk], truncation=True, max_length=length)["input_ids"]
        examples += [ids for ids in encoded if len(ids) == length]
    return examples[:wanted]


def _chunks(indices: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), _CHUNK):
        yield indices[start : start + _CHUNK]


def _too_short(
    corpus: CorpusSpec, field: str, batch: BatchSpec, texts: int, what: str, found: int, wanted: int
) -> FieldFault:
    plain = "; a .txt file gives one text per paragraph" if corpus.corpus.startswith((".", "/", "~")) else ""
    return FieldFault(
        f"{field}.corpus",
        f"{corpus.corpus} is too short: of its {texts} texts the {what} split gives {found} batches of {batch.size} "
        f"sequences with {batch.length} tokens, and the budget needs {wanted}",
        f"lower the passes, batch.size or batch.length (shorter texts are left out{plain}), take a larger corpus, "
        f"or set {field}.repeat: true",
    )
