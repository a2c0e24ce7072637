"""Models from folders: what is loaded, what is refused, and that nothing of theirs is run."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mudman import packaged
from mudman.faults import FieldFault, SpecError
from mudman.models import load_model
from mudman.specs import ModelSpec

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of a packaged model, at ``./model`` below the data root."""
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(tmp_path))
    shutil.copytree(packaged.MODELS["tiny-llama"].path, tmp_path / "model")
    return tmp_path / "model"


def load(dtype: str = "float32"):
    return load_model(ModelSpec(id="./model", dtype=dtype), CPU)


def fault() -> FieldFault:
    with pytest.raises(SpecError) as caught:
        load()
    (fault,) = caught.value.faults
    assert fault.path == "model.id"
    assert fault.remedy
    assert "\n" not in fault.message
    return fault


def change(file, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_folder_with_safetensors_is_loaded(folder):
    loaded = load()
    weights = load_file(folder / "model.safetensors")

    assert loaded.revision == "folder"
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    name, weight = next((n, p) for n, p in loaded.model.named_parameters() if "gate_proj" in n)
    assert torch.equal(weight, weights[name].float())
    assert loaded.tokenizer("def f(x):")["input_ids"]


@pytest.mark.parametrize("name", list(packaged.MODELS))
def test_packaged_models_know_their_texts(name):
    loaded = load_model(ModelSpec(id=name), CPU)
    assert loaded.revision == "packaged"
    assert len(loaded.tokenizer) <= loaded.model.get_input_embeddings().num_embeddings


def test_bfloat16(folder):
    assert {p.dtype for p in load("bfloat16").model.parameters()} == {torch.bfloat16}


def test_weights_that_would_be_unpickled_are_refused(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "holds no weights in safetensors format" in fault().message


def test_a_pickle_beside_safetensors_is_not_read(folder):
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pickled'\ntR.")
    load()


@pytest.mark.parametrize(
    ("missing", "words"),
    [("config.json", "holds no configuration"), ("model.safetensors", "holds no weights"), ("*", "no configuration")],
)
def test_a_folder_that_lacks_a_file_is_refused(missing, words, folder):
    for file in folder.glob(missing):
        file.unlink()
    assert words in fault().message


def test_a_folder_without_a_tokenizer_is_refused(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "the tokenizer of ./model cannot be loaded" in fault().message


def test_a_file_in_place_of_a_folder_is_refused(folder):
    shutil.rmtree(folder)
    folder.write_text("model")
    assert "holds no configuration" in fault().message


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b"{}"),
        ("config.json", b'{"model_type": "no-such-model"}'),
        ("config.json", b'{"model_type": "t5"}'),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 100),
        ("tokenizer.json", b"{"),
        ("tokenizer_config.json", b"\xff"),
    ],
)
def test_damaged_files_are_refused(file, content, folder):
    (folder / file).write_bytes(content)
    assert "cannot be loaded" in fault().message


@pytest.mark.parametrize("change_of", [{"hidden_size": "wide"}, {"hidden_size": 64}, {"num_attention_heads": 7}])
def test_a_configuration_that_does_not_fit_the_weights_is_refused(change_of, folder):
    change(folder / "config.json", **change_of)
    assert "./model cannot be loaded" in fault().message


def test_missing_weights_are_not_replaced_by_random_ones(folder):
    weights = load_file(folder / "model.safetensors")
    removed = next(name for name in weights if "gate_proj" in name)
    save_file(
        {name: w for name, w in weights.items() if name != removed}, folder / "model.safetensors", {"format": "pt"}
    )
    assert f"lack 1 that its architecture needs, such as {removed}" in fault().message


@pytest.mark.parametrize("known", [True, False], ids=["of a known architecture", "of an unknown architecture"])
def test_code_that_comes_with_a_model_never_runs(known, folder, tmp_path):
    trap = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\nclass Mine: pass\nclass Config: pass\n"
    (folder / "mine.py").write_text(trap)
    auto_map = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Mine", "AutoTokenizer": ["mine.Mine", None]}
    change(folder / "config.json", auto_map=auto_map, **({} if known else {"model_type": "mine"}))
    change(folder / "tokenizer_config.json", auto_map=auto_map)
    if known:
        load()
    else:
        assert "without remote code" in fault().remedy
    assert not (tmp_path / "ran").exists()
