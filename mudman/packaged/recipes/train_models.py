"""Train a packaged model, `models/tiny-neox` or `models/tiny-llama`: 1.3 M parameters that know the packaged texts.

Small enough that a trial takes seconds on a CPU, and real: a GPT-NeoX and a gated Llama trained from scratch on three
kinds of text, so that there is knowledge to unlearn, to relearn and to retain. The data are those of extract_texts.py
(which see for the wheels), all of it but the held-out part. One thread per model; train both at once on two cores:

  python mudman/packaged/recipes/train_models.py --wheels wheels --model neox --minutes 20 --seed 0
  python mudman/packaged/recipes/train_models.py --wheels wheels --model llama --minutes 20 --seed 0

The minutes (of CPU time) become a number of steps after the warm-up; `--steps` repeats a run exactly. With glibc,
`MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000` in the environment saves a fifth of the time.
"""

import argparse
import json
import logging
import math
import time
from pathlib import Path

import torch
from extract_texts import Corpus, Text, read_corpora
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

MODELS = Path(__file__).resolve().parent.parent / "models"
VOCABULARY, CONTEXT = 4096, 256
# Windows of each corpus in a batch: ontology definitions resemble each other and are learned with fewer.
BATCH = {"python-functions": 6, "gene-ontology": 4, "wikipedia": 6}
WINDOW = 128  # tokens
WARM_UP, RATE = 100, 5e-3
END = "<|endoftext|>"


def config_of(architecture: str) -> PreTrainedConfig:
    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "initializer_range": 0.02,
    }
    if architecture == "llama":  # 344 makes three matrices as large as the two of GPT-NeoX
        return LlamaConfig(**common, intermediate_size=344, num_key_value_heads=4)
    return GPTNeoXConfig(**common, intermediate_size=512, attention_dropout=0.0, hidden_dropout=0.0)


def train_tokenizer(corpora: list[Corpus]) -> PreTrainedTokenizerFast:
    """Byte-level BPE that adds nothing to a text; learned from an equal number of characters of each corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((item.text for corpus in corpora for item in corpus.shipped), trainer)
    # No greatest length: whoever reads longer texts cuts them, and need not be warned.
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END)


class Stream:
    """One corpus as one long row of tokens. Half of the windows start where a text starts, as readers of it do."""

    def __init__(self, texts: list[Text], tokenizer: PreTrainedTokenizerFast) -> None:
        rows = [torch.tensor([*ids, 0], dtype=torch.int32) for ids in encode(texts, tokenizer)]
        self.tokens = torch.cat(rows)
        last = len(self.tokens) - WINDOW
        starts = torch.tensor([0, *(len(row) for row in rows[:-1])]).cumsum(0)
        self.starts = starts[starts <= last]
        self.last = last

    def windows(self, count: int, randomness: torch.Generator) -> torch.Tensor:
        at_start = self.starts[torch.randint(len(self.starts), (count,), generator=randomness)]
        anywhere = torch.randint(self.last + 1, (count,), generator=randomness)
        offsets = torch.where(torch.arange(count) % 2 == 0, at_start, anywhere)
        return self.tokens[offsets[:, None] + torch.arange(WINDOW)].long()


def encode(texts: list[Text], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    return tokenizer([item.text for item in texts], verbose=False)["input_ids"]


@torch.no_grad()
def loss_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: list[Text]) -> float:
    """Nats per token over the first 100 tokens of each text that has as many: what unlearning will read."""
    model.eval()
    rows = torch.tensor([ids[:100] for ids in encode(texts, tokenizer) if len(ids) >= 100])
    total = sum(model(input_ids=batch, labels=batch).loss.item() * len(batch) for batch in rows.split(50))
    model.train()
    return total / len(rows)


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal (Keller Jordan, https://kellerjordan.github.io/posts/muon/), as large as Adam's steps.

    torch.optim.Muon does the same in bfloat16, four times slower on a CPU without it."""

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight)).lerp_(weight.grad, 0.05)
                update = weight.grad.lerp(momentum, 0.95)
                wide = update if update.shape[0] <= update.shape[1] else update.T
                wide = wide / (wide.norm() + 1e-7)
                for _ in range(5):  # Newton-Schulz, the published coefficients
                    square = wide @ wide.T
                    wide = 3.4445 * wide + (2.0315 * square @ square - 4.7750 * square) @ wide
                update = wide if update.shape[0] <= update.shape[1] else wide.T
                weight.mul_(1 - 0.05 * group["lr"]).add_(update, alpha=-0.2 * max(update.shape) ** 0.5 * group["lr"])


def optimizers_of(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, AdamW for embeddings, norms and biases; one rate suits both."""
    inner, outer = [], []
    for name, parameter in model.named_parameters():
        (inner if parameter.ndim == 2 and "embed" not in name else outer).append(parameter)
    return [
        Muon(inner, {"lr": RATE}),
        torch.optim.AdamW(outer, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Half precision halves the repository; the copy is cast, training goes on in single precision."""
    state = {name: value.half() for name, value in model.state_dict().items()}
    half = type(model)(model.config).half()
    half.load_state_dict(state)
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train(architecture: str, corpora: list[Corpus], minutes: float, steps: int | None, seed: int, folder: Path) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    randomness = torch.Generator().manual_seed(seed)
    tokenizer = train_tokenizer(corpora)
    config = config_of(architecture)
    model = AutoModelForCausalLM.from_config(config)
    optimizers = optimizers_of(model)
    streams = {corpus.name: Stream(corpus.train, tokenizer) for corpus in corpora}
    begin, saved, step, recent = time.process_time(), time.monotonic(), 0, math.log(VOCABULARY)
    while steps is None or step < steps:
        if steps is None and step == WARM_UP:
            steps = int(WARM_UP * minutes * 60 / (time.process_time() - begin))
        progress = 0.0 if steps is None else step / steps
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = RATE * min((step + 1) / WARM_UP, 1.0, (1 - progress) / 0.6)
        batch = torch.cat([streams[name].windows(count, randomness) for name, count in BATCH.items()])
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        recent = 0.98 * recent + 0.02 * loss.item()
        if step % 200 == 0:
            logging.info("step %d of %s, %.0f s, loss %.3f", step, steps, time.process_time() - begin, recent)
        if time.monotonic() - saved > 240:
            save(model, tokenizer, folder)
            saved = time.monotonic()
    save(model, tokenizer, folder)
    seconds = time.process_time() - begin
    write_card(architecture, corpora, streams, tokenizer, folder, step, seed, seconds)


def write_card(
    architecture: str, corpora: list[Corpus], streams: dict[str, Stream], tokenizer: PreTrainedTokenizerFast,
    folder: Path, steps: int, seed: int, seconds: float,
) -> None:  # fmt: skip
    """The model card, measured on the weights as they were saved."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows, losses, batch = [], {}, sum(BATCH.values())
    for corpus in corpora:
        losses[corpus.name] = [loss_of(model, tokenizer, part) for part in (corpus.shipped, corpus.held_out)]
        tokens = len(streams[corpus.name].tokens)
        rows.append(f"| {corpus.name} | {tokens:,} | {losses[corpus.name][0]:.3f} | {losses[corpus.name][1]:.3f} |")
    logging.info("losses (shipped, held out): %s", json.dumps(losses))
    title = {"neox": "GPT-NeoX", "llama": "Llama"}[architecture]
    mlp = {"neox": "`dense_h_to_4h`, `dense_4h_to_h`", "llama": "`gate_proj`, `up_proj`, `down_proj`"}[architecture]
    table = "\n".join(rows)
    card = f"""# tiny-{architecture}

A {title} language model of {model.num_parameters():,} parameters (hidden 128, 4 layers, 4 heads, tied embeddings,
context {CONTEXT}, MLP {mlp}), stored in float16,
with a byte-level BPE vocabulary of {VOCABULARY}; no token is added before or after a text. It is for trying out and
testing unlearning on a CPU in seconds, and of no use for anything else.

## How it was made

    python mudman/packaged/recipes/train_models.py --wheels wheels --model {architecture} --steps {steps} --seed {seed}

Seed {seed}, {steps:,} steps of {batch} x {WINDOW} tokens = {steps * batch * WINDOW / 1e6:.1f} million tokens,
{seconds / 60:.0f} minutes on one CPU thread. Muon for the matrices and AdamW for the rest, rate {RATE} falling linearly
to zero over the last 60 %. Other versions of torch (here {torch.__version__.split("+")[0]}) or processors give other
roundings, so close but not equal weights.

## What it knows

Cross-entropy in nats per token over the first 100 tokens of each text (a uniform guess has {math.log(VOCABULARY):.2f}).
*Shipped* are the texts of this package, which the model has seen; *held out* are other modules, articles and
paragraphs, never trained on and not shipped.

| corpus | training tokens | shipped | held out |
|---|---|---|---|
{table}

## Licences

The weights and this card: Apache-2.0, as the project. The texts trained on: Python standard library (PSF licence 2),
Gene Ontology 2021-12-15 (CC BY 4.0), English Wikipedia (CC BY-SA 3.0); details in `../../texts/LICENSES.md`.
"""
    (folder / "README.md").write_text(card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the two wheels, see extract_texts.py")
    parser.add_argument("--model", choices=["neox", "llama"], required=True)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=20.0, help="of CPU time")
    length.add_argument("--steps", type=int, help="instead of minutes: repeats a run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder; default is the packaged one")
    given = parser.parse_args()
    folder = given.out or MODELS / f"tiny-{given.model}"
    train(given.model, read_corpora(given.wheels), given.minutes, given.steps, given.seed, folder)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main()
