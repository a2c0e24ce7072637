"""Files where a user wants them: there, or the reason in words."""

import pickle
from pathlib import Path

import pytest

from service import files
from service.client import Client
from service.files import NotWritten


def test_what_cannot_be_written_is_named(tmp_path: Path):
    with pytest.raises(NotWritten, match=r"/dev/full cannot be written: No space left on device\. Remedy: "):
        files.write(Path("/dev/full"), b"more than fits")
    text = tmp_path / "text"
    text.write_text("no folder")
    for file in (tmp_path / "missing" / "x.zip", text / "x.zip"):
        with pytest.raises(NotWritten, match=r"x\.zip cannot be written"):
            files.write(file, b"")
        with pytest.raises(NotWritten, match=r"x\.zip cannot be written"), Client("http://127.0.0.1:9") as client:
            client.bundle("st_1", file)  # nobody is asked
        with pytest.raises(NotWritten, match="there is no folder") as refused:
            files.check(file)
        assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


def test_what_is_half_written_is_not_there(tmp_path: Path):
    with pytest.raises(KeyError), files.whole(tmp_path / "x.zip") as kept:
        kept.write(b"half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with files.whole(tmp_path / "x.zip") as kept:
        kept.write(b"whole")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.zip", b"whole")]
