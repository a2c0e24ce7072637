"""Where the names of a spec lead, and where they must not lead."""

import os

import pytest

from mudman import packaged, presets
from mudman.faults import SpecError
from mudman.registry import corpus_place, model_place, source_faults
from mudman.specs import CorpusSpec, ModelSpec, parse


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / "models" / "mine").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return folder


def place_of(name: str, root):
    return model_place(ModelSpec(id=name), root)


@pytest.mark.parametrize("name", list(packaged.MODELS))
def test_packaged_models_have_a_folder(name):
    place = model_place(ModelSpec(id=name))
    assert place.kind == "packaged"
    assert (place.path / "config.json").is_file()


@pytest.mark.parametrize("name", list(packaged.TEXTS))
def test_packaged_texts_have_a_file(name):
    place = corpus_place(CorpusSpec(corpus=name), "forget")
    assert place.kind == "packaged"
    assert place.path.is_file()


def test_short_names_of_the_hub_need_their_owner():
    with pytest.raises(SpecError, match="such as openai-community/gpt2, also where the hub knows the short name"):
        model_place(ModelSpec(id="gpt2"))
    with pytest.raises(SpecError, match="such as stanfordnlp/imdb"):
        corpus_place(CorpusSpec(corpus="imdb"), "forget")


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM-135M", "org/name", "a/b.c_d-e"])
def test_an_owner_and_a_name_are_a_hub_id(name):
    assert model_place(ModelSpec(id=name)).hub_id == name
    assert corpus_place(CorpusSpec(corpus=name), "forget").hub_id == name


def test_a_named_corpus_of_the_hub_leads_to_its_data_set():
    assert corpus_place(CorpusSpec(corpus="wikitext"), "retain").hub_id == "Salesforce/wikitext"


@pytest.mark.parametrize("name", ["./models/mine", "./models/../models/mine", "{root}/models/mine", "./link-inside"])
def test_folders_below_the_data_root_may_be_named(name, root):
    (root / "link-inside").symlink_to(root / "models" / "mine")
    assert place_of(name.format(root=root), root).path == root / "models" / "mine"


def test_the_data_root_is_the_current_folder_or_what_the_environment_says(root, monkeypatch):
    monkeypatch.delenv("MUDMAN_DATA_ROOT", raising=False)
    monkeypatch.chdir(root)
    assert model_place(ModelSpec(id="./models/mine")).path == root / "models" / "mine"
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(root / "models"))
    assert model_place(ModelSpec(id="./mine")).path == root / "models" / "mine"


def test_the_data_root_may_itself_be_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert place_of("./models/mine", tmp_path / "link").path == root / "models" / "mine"


@pytest.mark.parametrize(
    "name",
    ["../outside", "./../outside", "./models/../../outside", "/etc", "/", "{root}/../outside", "{root}-evil", "~",
     "./escape", "./escape/below", "./models/twice"],
)  # fmt: skip
def test_nothing_outside_the_data_root_may_be_named(name, root, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "outside"))
    (tmp_path / "root-evil").mkdir()
    (root / "escape").symlink_to(tmp_path / "outside")
    (root / "models" / "twice").symlink_to(root / "escape")
    with pytest.raises(SpecError, match="lies outside the data root") as caught:
        place_of(name.format(root=root), root)
    assert caught.value.faults[0].path == "model.id"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./missing", "there is no ./missing in the data root"),
        ("./loop", "cannot be followed"),
        ("~nobody-of-that-name/x", "cannot be followed"),
        ("./" + "x" * 190 + "/" + "y" * 5, "there is no"),
    ],
)
def test_a_path_that_leads_nowhere_says_so(name, words, root):
    (root / "loop").symlink_to("loop")
    with pytest.raises(SpecError, match=words):
        place_of(name, root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_says_so(root):
    (root / "models").chmod(0)
    try:
        with pytest.raises(SpecError):
            place_of("./models/mine", root)
    finally:
        (root / "models").chmod(0o755)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiny-lama", "did you mean 'tiny-llama'"),
        ("tiny-neo", "did you mean 'tiny-neox'"),
        ("gpt2", "take one of tiny-neox, tiny-llama, simulated"),
        ("org/name/extra", "is not known"),
        ("org/..", "is not known"),
        ("org name/x", "is not known"),
        ("-org/name", "is not known"),
    ],
)
def test_an_unknown_name_is_answered_with_close_ones(name, words):
    with pytest.raises(SpecError, match=words):
        model_place(ModelSpec(id=name))


def test_an_unknown_corpus_is_answered_with_close_ones():
    with pytest.raises(SpecError, match=r"retain\.corpus: 'wikpedia' is not known.*did you mean 'wikipedia'"):
        corpus_place(CorpusSpec(corpus="wikpedia"), "retain")


def test_all_names_of_a_spec_are_checked_at_once(root):
    spec = parse(
        presets.load("quickstart", {"model.id": "tiny", "forget.corpus": "../x", "retain.corpus": "./missing"})
    )
    assert [fault.path for fault in source_faults(spec, root)] == ["model.id", "forget.corpus", "retain.corpus"]


def test_a_simulated_study_needs_no_sources():
    assert source_faults(parse(presets.load("quickstart", {"model.id": "simulated", "forget.corpus": "any"}))) == []


@pytest.mark.parametrize("within", ["x.jsonl", "deep/er/x.jsonl", "deep"])
def test_no_link_in_a_folder_leads_outside_the_data_root(within, root, tmp_path):
    (tmp_path / "outside" / "x.jsonl").write_text("{}")
    texts = root / "texts"
    link = texts / within
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside" / ("x.jsonl" if link.suffix else ""))
    with pytest.raises(SpecError, match="holds a link that leads outside the data root") as caught:
        corpus_place(CorpusSpec(corpus="./texts"), "forget", root)
    assert within in str(caught.value)


def test_links_within_the_data_root_are_followed(root):
    """As the hub's cache has them: a snapshot's files are links to blobs beside it."""
    (root / "blobs").mkdir()
    (root / "blobs" / "abc").write_text("{}")
    (root / "models" / "mine" / "config.json").symlink_to("../../blobs/abc")
    assert place_of("./models/mine", root).path == root / "models" / "mine"
