"""Corpora from folders, and how they are split and cut into token batches."""

import errno
import gzip
import json

import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Value
from studies import sentences, write_lines
from transformers import AutoTokenizer

from mudman import packaged
from mudman.data.texts import open_corpus
from mudman.data.tokens import token_batches
from mudman.faults import SpecError
from mudman.hub import hub_faults
from mudman.specs import BatchSpec, CorpusSpec

TEXTS = sentences(40)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(tmp_path))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(packaged.MODELS["tiny-llama"].path, local_files_only=True)


def read(**corpus) -> list[str]:
    return list(open_corpus(CorpusSpec(**corpus), "forget").read().records)


def fault_of(**corpus):
    with pytest.raises(SpecError) as caught:
        open_corpus(CorpusSpec(**corpus), "forget").read()
    (fault,) = caught.value.faults
    return fault


def _write_jsonl(folder):
    write_lines(folder / "a.jsonl", TEXTS)


def _write_jsonl_gz(folder):
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(write_lines(folder / "x", TEXTS).read_bytes()))
    (folder / "x").unlink()


def _write_parquet(folder):
    Dataset.from_dict({"text": TEXTS}).to_parquet(folder / "a.parquet")


def _write_csv(folder):
    (folder / "a.csv").write_text("id,text\n" + "".join(f"{i},{text}\n" for i, text in enumerate(TEXTS)))


def _write_txt(folder):
    (folder / "a.txt").write_text("\n\n".join(TEXTS))


def _write_arrow(folder):
    Dataset.from_dict({"text": TEXTS}).save_to_disk(folder)


def _write_arrow_splits(folder):
    DatasetDict({"train": Dataset.from_dict({"text": TEXTS})}).save_to_disk(folder)


@pytest.mark.parametrize(
    "write", [_write_jsonl, _write_jsonl_gz, _write_parquet, _write_csv, _write_txt, _write_arrow, _write_arrow_splits]
)
def test_every_usual_kind_of_folder_is_read(write, root):
    (root / "texts").mkdir()
    write(root / "texts")

    texts = open_corpus(CorpusSpec(corpus="./texts"), "forget").read()
    assert list(texts.records) == TEXTS
    assert texts.revision.startswith("sha256:")


def test_a_single_file_is_read(root):
    write_lines(root / "texts.jsonl", TEXTS)
    write_lines(root / "other.jsonl", ["other"])
    assert read(corpus="./texts.jsonl") == TEXTS


@pytest.mark.parametrize("corpus", ["./prose", "./prose/a.txt"])
def test_plain_text_gives_its_paragraphs(corpus, root):
    (root / "prose").mkdir()
    (root / "prose" / "a.txt").write_text("One sentence\non two lines.\n\nAnother.\r\n\r\n\n\nThe last.")
    assert [text.strip() for text in read(corpus=corpus)] == ["One sentence\non two lines.", "Another.", "The last."]


def test_changed_files_are_read_anew(root):
    write_lines(root / "texts.jsonl", TEXTS)
    assert read(corpus="./texts.jsonl") == TEXTS
    write_lines(root / "texts.jsonl", TEXTS[:7])
    assert read(corpus="./texts.jsonl") == TEXTS[:7]


def test_column_and_split_may_be_chosen(root):
    write_lines(root / "texts" / "train.jsonl", TEXTS, "code")
    write_lines(root / "texts" / "validation.jsonl", TEXTS[:5], "code")
    assert read(corpus="./texts", column="code") == TEXTS
    assert read(corpus="./texts", column="code", split="validation") == TEXTS[:5]


@pytest.mark.parametrize("name", list(packaged.TEXTS))
def test_packaged_texts_are_read_with_their_licence(name):
    texts = open_corpus(CorpusSpec(corpus=name), "retain").read()
    assert len(texts.records) == 2000
    assert texts.revision.startswith("sha256:")
    assert texts.licence


class TestFaults:
    def test_wrong_column(self, root):
        write_lines(root / "texts.jsonl", TEXTS, "code")
        fault = fault_of(corpus="./texts.jsonl")
        assert (fault.path, fault.remedy) == ("forget.column", "one of code")

    def test_wrong_column_of_a_packaged_text(self):
        fault = fault_of(corpus="python-functions", column="code")
        assert fault.path == "forget.column"
        assert "text" in fault.remedy

    @pytest.mark.parametrize("corpus", ["./texts.jsonl", "./saved", "python-functions"])
    def test_wrong_split(self, corpus, root):
        write_lines(root / "texts.jsonl", TEXTS)
        Dataset.from_dict({"text": TEXTS}).save_to_disk(root / "saved")
        fault = fault_of(corpus=corpus, split="dev")
        assert (fault.path, fault.remedy) == ("forget.split", "one of train")

    @pytest.mark.parametrize("values", [[1, 2], [["a"], ["b"]], [{"a": "b"}]])
    def test_a_column_that_holds_no_text(self, values, root):
        Dataset.from_dict({"text": values}).save_to_disk(root / "saved")
        assert "does not hold text" in fault_of(corpus="./saved").message

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("texts/a.jsonl", b""),
            ("texts/a.jsonl", b'{"text": "unfinished'),
            ("texts/a.jsonl", b"\xff\xfe\x00"),
            ("texts/a.parquet", b"no parquet"),
            ("texts/a.csv", b""),
            ("texts/a.txt", b"\xff\xfe\xff"),
            ("texts/a.bin", b"abc"),
            ("texts/script.py", b"raise SystemExit('this ran')"),
            ("texts/.keep", b""),
            ("texts/state.json", b"{"),
        ],
    )
    def test_files_that_cannot_be_read(self, name, content, root):
        (root / "texts").mkdir()
        (root / name).write_bytes(content)
        fault = fault_of(corpus="./texts")
        assert fault.path == "forget.corpus"
        assert "Traceback" not in fault.message
        assert "\n" not in fault.message

    @pytest.mark.parametrize(
        "error",
        [OSError(errno.ENOSPC, "x"), OSError(errno.EDQUOT, "x"), RuntimeError("No space left on device (os error 28)")],
    )
    def test_a_full_disk_is_called_so(self, error):
        words = r"model\.id: org/m cannot be stored: the disk .* is full.*HF_HOME"
        with pytest.raises(SpecError, match=words), hub_faults("model", "id", "org/m", None):
            raise RuntimeError("while loading") from error
        with pytest.raises(OSError, match="denied"), hub_faults("model", "id", "org/m", None):
            raise OSError(errno.EACCES, "denied")

    def test_no_record(self, root):
        Dataset.from_dict({"text": []}, features=Features(text=Value("string"))).save_to_disk(root / "saved")
        write_lines(root / "texts.jsonl", [])
        assert fault_of(corpus="./saved").message == "./saved holds no text"
        assert fault_of(corpus="./texts.jsonl").message == "./texts.jsonl holds no text"


def batches(corpus: str, seed: int, tokenizer, training=3, attack=3, size=2, length=16, evaluation=1, **more):
    batch = BatchSpec(size=size, length=length, evaluation=evaluation)
    return token_batches(CorpusSpec(corpus=corpus, **more), "forget", batch, seed, tokenizer, training, attack)


def rows(tensor: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(row) for row in tensor.flatten(0, 1).tolist()}


class TestBatches:
    def test_have_exactly_the_length_and_number_asked_for(self, tokenizer):
        tokens = batches("wikipedia", 1, tokenizer, training=4, attack=3, size=5, length=24, evaluation=2)
        assert tokens.training.shape == (4, 5, 24)
        assert tokens.evaluation.shape == (2, 5, 24)
        assert tokens.attack.shape == (3, 5, 24)
        assert tokens.training.dtype == torch.long

    def test_are_the_first_tokens_of_texts(self, root, tokenizer):
        write_lines(root / "texts.jsonl", TEXTS)
        starts = {tuple(tokenizer(text)["input_ids"][:16]) for text in TEXTS}
        tokens = batches("./texts.jsonl", 1, tokenizer)
        assert rows(tokens.training) | rows(tokens.evaluation) | rows(tokens.attack) <= starts

    def test_train_and_validation_never_meet(self, root, tokenizer):
        # 400 different texts, all of them used: 200 for training, 100 for evaluation and attack.
        write_lines(root / "texts.jsonl", [f"{i} " + text for i, text in enumerate(sentences(400))])
        tokens = batches("./texts.jsonl", 3, tokenizer, training=100, attack=45, evaluation=5)
        sets = [rows(tokens.training), rows(tokens.evaluation), rows(tokens.attack)]
        assert [len(s) for s in sets] == [200, 10, 90]
        assert len(set.union(*sets)) == 300

    def test_follow_the_data_seed(self, tokenizer):
        first, again, other = (batches("wikipedia", seed, tokenizer) for seed in (1, 1, 2))
        assert torch.equal(first.training, again.training)
        assert first.fingerprint() == again.fingerprint()
        assert first.fingerprint() != other.fingerprint()

    def test_of_a_larger_budget_begin_with_those_of_a_smaller(self, tokenizer):
        small, large = (batches("wikipedia", 1, tokenizer, training=n, attack=n) for n in (2, 6))
        assert torch.equal(small.training, large.training[:2])
        assert torch.equal(small.evaluation, large.evaluation)
        assert torch.equal(small.attack, large.attack[:2])

    def test_leave_short_and_missing_texts_out(self, root, tokenizer):
        path = root / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in [None, "", "short", *sentences(37)] * 10))
        tokens = batches("./texts.jsonl", 1, tokenizer, training=80, attack=30)
        assert tokens.training.shape == (80, 2, 16)
        assert tokens.texts == 400

    def test_the_fingerprint_tells_every_token(self, tokenizer):
        tokens = batches("wikipedia", 1, tokenizer)
        before = tokens.fingerprint()
        tokens.attack[-1, -1, -1] += 1
        assert tokens.fingerprint() != before


class TestTooShort:
    def test_training_texts(self, root, tokenizer):
        write_lines(root / "texts.jsonl", TEXTS)
        with pytest.raises(SpecError) as caught:
            batches("./texts.jsonl", 1, tokenizer, training=11)
        (fault,) = caught.value.faults
        assert fault.path == "forget.corpus"
        assert "of its 40 texts the training split gives 10 batches of 2 sequences with 16 tokens" in fault.message
        assert "needs 11" in fault.message
        assert "forget.repeat: true" in fault.remedy

    def test_validation_texts(self, root, tokenizer):
        write_lines(root / "texts.jsonl", TEXTS)
        with pytest.raises(SpecError, match=r"validation split gives 5 batches .* needs 7"):
            batches("./texts.jsonl", 1, tokenizer, training=2, attack=6)

    def test_repeating_is_allowed_on_demand(self, root, tokenizer):
        write_lines(root / "texts.jsonl", TEXTS)
        tokens = batches("./texts.jsonl", 1, tokenizer, training=500, attack=500, repeat=True)
        assert (len(tokens.training), len(tokens.evaluation), len(tokens.attack)) == (10, 1, 4)

    def test_repeating_nothing_stays_a_fault(self, root, tokenizer):
        write_lines(root / "texts.jsonl", ["short"] * 40)
        with pytest.raises(SpecError, match="training split gives 0 batches"):
            batches("./texts.jsonl", 1, tokenizer, repeat=True)

    def test_repeating_never_attacks_with_the_evaluation_batches(self, root, tokenizer):
        write_lines(root / "texts.jsonl", TEXTS)
        with pytest.raises(SpecError, match=r"validation split gives 5 batches .* needs"):
            batches("./texts.jsonl", 1, tokenizer, training=2, attack=1, evaluation=5, repeat=True)
