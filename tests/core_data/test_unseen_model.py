"""A model, a tokenizer and texts that the project has never seen, from folders below the data root."""

import pytest
import torch
from studies import sentences, small, write_lines
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

import mudman
from mudman.faults import SpecError
from mudman.preparation import prepare
from mudman.results import Outcome

FORGET = [f"f{i} " + text for i, text in enumerate(sentences(200))]
RETAIN = [" ".join(reversed(text.split())) + f" r{i}" for i, text in enumerate(sentences(200))]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Of another architecture than the packaged ones: grouped-query attention with normalised queries and keys."""
    folder = tmp_path_factory.mktemp("root")
    tokenizer = Tokenizer(models.WordLevel(unk_token="[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(FORGET + RETAIN, trainers.WordLevelTrainer(special_tokens=["[unk]"], vocab_size=300))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[unk]").save_pretrained(folder / "model")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder / "model")
    write_lines(folder / "forget" / "train.jsonl", FORGET, "body")
    (folder / "retain").mkdir()
    (folder / "retain" / "texts.txt").write_text("\n\n".join(RETAIN))
    return folder


@pytest.fixture
def study(root, monkeypatch):
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(root))
    return {
        "model.id": "./model",
        "forget": {"corpus": "./forget", "column": "body"},
        "retain": {"corpus": "./retain/texts.txt"},
        "constraint.retain_loss_increase": 5,
        "batch": {"size": 4, "length": 24},
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_trial_runs(study, dtype):
    result = mudman.run_trial(small({**study, "model.dtype": dtype}), {"unlearning_rate": 0.01})

    assert result.outcome is Outcome.VALID, result.fault
    assert result.forget_loss_unlearned > result.unlearning.forget_loss[0]


def test_the_study_is_prepared(study):
    preparation = prepare(small(study))

    assert preparation.model_revision == "folder"
    assert preparation.intervened_parameters == 2 * 32 * 48
    assert {name: corpus["texts"] for name, corpus in preparation.corpora.items()} == {"forget": 200, "retain": 200}


def test_a_tokenizer_of_another_model_is_refused(study, root):
    config = Qwen3Config(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(root / "narrow")
    for file in (root / "model").glob("tokenizer*"):
        (root / "narrow" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(SpecError, match=r"model\.id: its tokenizer gives token \d+, and the model knows 50 tokens"):
        prepare(small({**study, "model.id": "./narrow"}))
