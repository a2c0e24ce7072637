"""The place for artifacts: a folder, and a bucket of a server that speaks S3 (moto's)."""

import os

import pytest

from mudman.artifacts import Artifacts, ArtifactsUnavailable, NoArtifacts, here, location
from mudman.checkpoints import described
from mudman.presets import load
from mudman.results import Outcome
from mudman.specs import parse
from workers.actor import _result
from workers.orders import Order, versions


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path) -> Artifacts:
    place = str(tmp_path / "kept") if request.param == "folder" else request.getfixturevalue("bucket")
    return Artifacts(place)


def test_what_is_put_is_read(store, tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "weights").write_bytes(content)
    store.put("st_a/0-1/model.safetensors", tmp_path / "weights")
    store.put_bytes("st_a/0-1/README.md", b"card")
    store.put_bytes("st_b/0-1/README.md", b"other")
    assert b"".join(store.read("st_a/0-1/model.safetensors")) == content
    assert b"".join(store.read("st_a/0-1/model.safetensors", 2_999_990)) == content[-10:]
    assert b"".join(store.read("st_a/0-1/model.safetensors", 5, 10)) == content[5:10]
    assert store.size("st_a/0-1/model.safetensors") == 3_000_000
    assert sorted(store.keys("st_a")) == ["st_a/0-1/README.md", "st_a/0-1/model.safetensors"]
    store.remove("st_a")
    store.remove("st_a")
    assert store.keys("st_a") == []
    assert b"".join(store.read("st_b/0-1/README.md")) == b"other"
    store.remove("st_b")


def test_what_is_not_there(store):
    with pytest.raises(ArtifactsUnavailable, match=r"does not give st_x/0-1/card.*Remedy"):
        store.read("st_x/0-1/card")
    with pytest.raises(ArtifactsUnavailable):
        store.size("st_x/0-1/card")


def test_places_that_cannot_be(tmp_path, monkeypatch):
    with pytest.raises(NoArtifacts, match="MUDMAN_ARTIFACTS"):
        Artifacts(None)
    with pytest.raises(ArtifactsUnavailable, match=r"s3://bucket/prefix"):
        Artifacts("ftp://somewhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactsUnavailable, match="cannot be opened"):
        Artifacts(str(tmp_path / "file"))
    monkeypatch.chdir(tmp_path)
    assert location("kept") == str(tmp_path / "kept")
    assert location("s3://a/b") == "s3://a/b"
    assert location(" ") is None
    monkeypatch.setenv("MUDMAN_ARTIFACTS", "kept")
    here().put_bytes("a/b", b"1")
    assert (tmp_path / "kept/a/b").read_bytes() == b"1"


def _order() -> Order:
    """To keep the weights of a real trial, a short one."""
    small = {"budget.unlearn_passes": 20, "attack.passes": 8, "attack.check_every": 4, "batch.size": 2}
    spec = parse(load("quickstart", small))
    chosen = {name: searched.middle() for name, searched in spec.search_space().items()}
    one = {"ordinal": 5, "value": 3.0, "hyperparameters": chosen}
    repeats = {"study": "st_parent", "configurations": [one], "seeds": [{"data": 7, "trial": 8}], "keep": True}
    document = spec.model_dump(mode="json") | {"repeats": repeats}
    document["budget"]["trials"] = 1
    return Order(
        study_id="st_child", ordinal=0, attempt=2, spec=parse(document), hyperparameters=chosen, versions=versions()
    )


def test_a_node_keeps_what_it_attacked(store, monkeypatch, tmp_path):
    """A real trial, as its order comes to an actor; its place is in the node's environment, not in the order."""
    order = _order()
    monkeypatch.setenv("MUDMAN_ARTIFACTS", store.place)
    result = _result(order, lambda progress: None)
    kept = result.checkpoint
    assert (result.outcome, kept.ordinal, kept.agreement, kept.key) == (Outcome.VALID, 5, "unknown", "st_child/0-2")
    assert sorted(store.keys("st_child")) == sorted(f"st_child/0-2/{file.name}" for file in kept.files)
    for file in kept.files:
        (tmp_path / file.name).write_bytes(b"".join(store.read(f"{kept.key}/{file.name}")))
        assert described(tmp_path / file.name) == file
    assert "seeds: data 7, trial 8" in (tmp_path / "README.md").read_text()
    store.remove("st_child")


def test_a_store_that_takes_nothing_is_known_before_the_trial(monkeypatch, tmp_path):
    order = _order()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MUDMAN_ARTIFACTS", str(tmp_path / "file"))
    with pytest.raises(ArtifactsUnavailable):
        _result(order, lambda progress: pytest.fail("it has begun"))
