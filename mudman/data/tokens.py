"""Token batches: which texts serve training, evaluation and attack, and how they are cut (docs/method.md).

Texts are shuffled once by the data seed and split 50 % train, 25 % validation, 25 % test (unused). Each text gives at
most one example: its first ``length`` tokens; shorter texts are left out. Training batches unlearn; of the validation
batches the first ones are held out for the losses and the rest serve the attack.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mudman.data import cache
from mudman.data.texts import Texts, open_corpus
from mudman.faults import FieldFault, SpecError
from mudman.specs import BatchSpec, CorpusSpec

_CHUNK = 64  # texts tokenised at once: only as many are read as the budget needs
# Raised when reading, cleaning, splitting or cutting changes: tokens cached before are then left alone.
_RULES = 1


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
    tokenizer_sha256: str
    cache_key: str
    """SHA-256 over everything the batches depend on; names their file in the cache."""

    def fingerprint(self) -> str:
        """SHA-256 over the token ids of all batches, in order."""
        return cache.hash_of((self.training, self.evaluation, self.attack))

    def provenance(self) -> dict[str, str | int | None]:
        """What a result says of its texts: ``texts``, ``revision``, ``licence``, ``tokens_sha256``,
        ``tokenizer_sha256``, ``cache_key``."""
        return {
            "texts": self.texts,
            "revision": self.revision,
            "licence": self.licence,
            "tokens_sha256": self.fingerprint(),
            "tokenizer_sha256": self.tokenizer_sha256,
            "cache_key": self.cache_key,
        }


def token_batches(
    corpus: CorpusSpec, field: str, batch: BatchSpec, seed: int, tokenizer, training: int, attack: int
) -> TokenBatches:
    """``training`` and ``attack`` are numbers of batches needed (0 is allowed).

    Raises ``SpecError`` at ``<field>`` when the corpus is shorter than that, unless it may repeat.
    """
    found = open_corpus(corpus, field)
    tokenizer_sha256 = tokenizer_hash(tokenizer)
    key = cache.key_of(
        {
            "rules": _RULES,
            "corpus": corpus.model_dump(mode="json", exclude={"revision"}),
            "revision": found.revision,
            "tokenizer": tokenizer_sha256,
            "batch": batch.model_dump(mode="json"),
            "seed": seed,
            "training": training,
            "attack": attack,
        }
    )
    cached = cache.load(key)
    if cached is None:
        texts = found.read()
        cached = _batches(texts, corpus, field, batch, seed, tokenizer, training, attack), len(texts.records)
        cache.store(key, *cached)
    tensors, count = cached
    return TokenBatches(
        **tensors,
        texts=count,
        revision=found.revision,
        licence=found.licence,
        tokenizer_sha256=tokenizer_sha256,
        cache_key=key,
    )


def tokenizer_hash(tokenizer) -> str:
    """SHA-256 over what decides which tokens a text becomes: the fast tokenizer's own description, without the padding
    and truncation it was last called with; for others the vocabulary and the settings it was made with."""
    if backend := getattr(tokenizer, "backend_tokenizer", None):
        known = {**json.loads(backend.to_str()), "truncation": None, "padding": None}
    else:
        known = {"vocabulary": tokenizer.get_vocab(), "settings": repr(sorted(tokenizer.init_kwargs.items()))}
    body = {"class": type(tokenizer).__name__, **known}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _batches(
    texts: Texts, corpus: CorpusSpec, field: str, batch: BatchSpec, seed: int, tokenizer, training: int, attack: int
) -> dict[str, Tensor]:
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
    return {"training": training_batches, "evaluation": rest[:held_out], "attack": rest[held_out:]}


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
