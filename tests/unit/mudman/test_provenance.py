"""What ran, and on what."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

import mudman
from mudman import provenance

PACKAGE = Path(mudman.__file__).parent


def test_the_sources_have_a_hash_that_any_change_changes(tmp_path: Path):
    copied = shutil.copytree(PACKAGE, tmp_path / "mudman", ignore=shutil.ignore_patterns("__pycache__", "packaged"))
    first = provenance._source_hash(copied)
    assert provenance._source_hash(copied) == first
    (copied / "objective.py").write_text((copied / "objective.py").read_text() + "\n")
    second = provenance._source_hash(copied)
    (copied / "objective.py").rename(copied / "objectives.py")
    assert len({first, second, provenance._source_hash(copied)}) == 3
    assert len(provenance.code()["sha256"]) == 64


def test_the_commit_is_of_the_repository_or_of_the_image(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(provenance.COMMIT, raising=False)
    asked = subprocess.run(["git", "-C", PACKAGE.parent, "rev-parse", "HEAD"], capture_output=True, text=True)
    if asked.returncode == 0 and (PACKAGE.parent / ".git").exists():
        assert provenance._commit().removesuffix("+changes") == asked.stdout.strip()
    monkeypatch.setenv(provenance.COMMIT, "0123abc")
    assert provenance._commit() == "0123abc"


def test_the_machine_in_the_words_of_its_kernel(tmp_path: Path):
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Some CPU @ 2 GHz\n")
    assert provenance._processor(told) == "Some CPU @ 2 GHz"
    for number in range(2):
        card = tmp_path / "gpus" / f"0000:0{number}:00.0"
        card.mkdir(parents=True)
        (card / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 1\n")
    assert provenance._cards(tmp_path / "gpus") == "NVIDIA H100 80GB HBM3, NVIDIA H100 80GB HBM3"
    assert provenance._cards(tmp_path / "none") is None


def test_files_are_hashed_as_sha256sum_does(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "notes.md").write_bytes(b"not loaded")
    hashes = provenance.file_hashes(tmp_path, ["*.json", "*.safetensors"])
    assert hashes == {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}
