"""Token batches on disk: what a hit gives, what makes another entry, and what becomes of a file that is not sound."""

from multiprocessing import get_context

import pytest
import torch
from safetensors.torch import load_file
from studies import sentences, write_lines
from transformers import AutoTokenizer

from mudman import packaged
from mudman.data import cache
from mudman.data.tokens import TokenBatches, token_batches, tokenizer_hash
from mudman.faults import SpecError
from mudman.specs import BatchSpec, CorpusSpec

PARTS = ("training", "evaluation", "attack")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache's folder, and ``./texts.jsonl`` below the data root."""
    monkeypatch.setenv("MUDMAN_CACHE", str(tmp_path / "tokens-here"))
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(tmp_path))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    write_lines(tmp_path / "texts.jsonl", sentences(60))
    return tmp_path / "tokens-here" / "tokens"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(packaged.MODELS["tiny-llama"].path, local_files_only=True)


def make(tokenizer, seed=1, training=3, attack=2, size=2, length=12, evaluation=1, **corpus) -> TokenBatches:
    spec = CorpusSpec(**{"corpus": "./texts.jsonl", **corpus})
    batch = BatchSpec(size=size, length=length, evaluation=evaluation)
    return token_batches(spec, "forget", batch, seed, tokenizer, training, attack)


def same(a: TokenBatches, b: TokenBatches) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in PARTS) and a.provenance() == b.provenance()


def test_a_hit_equals_a_miss(folder, tokenizer):
    made, kept = make(tokenizer), make(tokenizer)
    assert same(made, kept)
    assert [part.dtype for part in (kept.training, kept.evaluation, kept.attack)] == [torch.long] * 3
    assert [file.name for file in folder.iterdir()] == [f"{made.cache_key}.safetensors"]


def test_a_hit_is_what_the_file_holds(folder, tokenizer):
    made = make(tokenizer)
    altered = {part: getattr(made, part) + 1 for part in PARTS}
    cache.store(made.cache_key, altered, texts=7)
    found = make(tokenizer)
    assert torch.equal(found.training, made.training + 1)
    assert found.texts == 7


def test_parts_that_are_not_needed_may_be_empty(folder, tokenizer):
    made, kept = make(tokenizer, training=0, attack=0), make(tokenizer, training=0, attack=0)
    assert same(made, kept)
    assert kept.training.shape == kept.attack.shape == (0, 2, 12)


def test_a_named_form_is_cached_too(folder, tokenizer, tmp_path):
    write_lines(tmp_path / "code.jsonl", [f"# {i}\nx = {text!r}" for i, text in enumerate(sentences(60))], "code")
    form = {"corpus": "./code.jsonl", "form": "codesearchnet-python"}
    made = make(tokenizer, **form)
    assert same(made, make(tokenizer, **form))
    assert tokenizer.decode(made.training[0, 0]).strip().startswith("x = ")


@pytest.mark.parametrize(
    "change",
    [{"seed": 2}, {"training": 4}, {"attack": 1}, {"size": 1}, {"length": 11}, {"evaluation": 2}, {"repeat": True},
     {"split": "train"}, {"corpus": "python-functions"}],
    ids=str,
)  # fmt: skip
def test_every_setting_makes_another_entry(change, folder, tokenizer):
    assert make(tokenizer, **change).cache_key != make(tokenizer).cache_key


def test_other_contents_make_another_entry(folder, tokenizer, tmp_path):
    before = make(tokenizer)
    write_lines(tmp_path / "texts.jsonl", [f"changed {text}" for text in sentences(60)])
    after = make(tokenizer)
    assert before.revision != after.revision
    assert before.cache_key != after.cache_key
    assert not torch.equal(before.training, after.training)


class TestTokenizer:
    def test_is_known_by_what_it_does_not_by_how_it_was_called(self, tokenizer):
        before = tokenizer_hash(tokenizer)
        tokenizer(["some text", "more"], truncation=True, max_length=3, padding=tokenizer.pad_token is not None)
        assert tokenizer_hash(tokenizer) == before

    def test_with_another_vocabulary_makes_another_entry(self, folder, tokenizer):
        other = AutoTokenizer.from_pretrained(packaged.MODELS["tiny-llama"].path, local_files_only=True)
        assert make(other).cache_key == make(tokenizer).cache_key
        other.add_tokens(["w1"])
        assert make(other).cache_key != make(tokenizer).cache_key

    def test_that_starts_texts_with_a_token_makes_another_entry(self, tokenizer):
        from tokenizers.processors import TemplateProcessing

        other = AutoTokenizer.from_pretrained(packaged.MODELS["tiny-llama"].path, local_files_only=True)
        start = other.convert_ids_to_tokens(0)
        other.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start} $A", special_tokens=[(start, 0)])
        assert tokenizer_hash(other) != tokenizer_hash(tokenizer)


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _turn_last_bit(content: bytes) -> bytes:
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


@pytest.mark.parametrize(
    "damage",
    [_cut, _turn_last_bit, lambda content: b"", lambda content: b"\xff" * 100, lambda content: b"{}"],
    ids=["cut", "one bit", "empty", "noise", "text"],
)
def test_a_damaged_file_is_made_again_and_said(damage, folder, tokenizer, caplog):
    made = make(tokenizer)
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))

    assert same(make(tokenizer), made)
    (record,) = caplog.records
    assert "made again" in record.message
    assert str(file) in record.message
    caplog.clear()
    assert same(make(tokenizer), made)
    assert not caplog.records
    assert torch.equal(load_file(file)["training"], made.training)


def test_without_a_usable_folder_everything_works(folder, tokenizer, tmp_path, monkeypatch, caplog):
    made = make(tokenizer)
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv("MUDMAN_CACHE", str(tmp_path / "a-file"))
    assert same(make(tokenizer), made)
    assert "cannot be cached" in caplog.text


def test_the_folder_is_the_users_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("MUDMAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "mudman"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "mudman"


def test_a_user_without_a_home_has_no_cache(folder, tokenizer, monkeypatch):
    made = make(tokenizer)
    monkeypatch.delenv("MUDMAN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does where there is no home
    assert cache.cache_folder() is None
    assert same(make(tokenizer), made)


def test_what_is_refused_is_not_kept(folder, tokenizer):
    with pytest.raises(SpecError, match="too short"):
        make(tokenizer, training=1000)
    assert not folder.exists()


def write_and_read(_: int) -> int:
    """How often the entry was sound, of 200 times."""
    kept = {name: torch.arange(4000).view(-1, 4, 10) for name in PARTS}
    sound = 0
    for _ in range(200):
        cache.store("shared", kept, 3)
        found = cache.load("shared")
        sound += found is not None and torch.equal(found[0]["training"], kept["training"]) and found[1] == 3
    return sound


def test_two_processes_may_share_the_folder(folder):
    with get_context("fork").Pool(2) as pool:  # they start with torch imported
        assert pool.map_async(write_and_read, range(2), chunksize=1).get(60) == [200, 200]
    assert [file.name for file in folder.iterdir()] == ["shared.safetensors"]
