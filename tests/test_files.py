"""Files are written whole or not at all, and a disk that is full is told with the file's path."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from dejavlad.files import naming, replacing, write_whole
from dejavlad.model import tensors


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.txt", "one")
    with pytest.raises(KeyError), replacing(path) as file:
        file.write(b"half of tw")
        raise KeyError
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_names_its_file(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No space left") as raised,
        naming(tmp_path / "a"),
        open("/dev/full", "wb", buffering=0) as file,
    ):
        file.write(b"a")
    assert raised.value.filename == str(tmp_path / "a") and raised.value.errno == errno.ENOSPC


def test_replacing_names_its_file(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OSError("5 requested and 2 written")):
        with pytest.raises(OSError) as raised, replacing(tmp_path / "a"):
            raise error
        assert str(tmp_path / "a") in str(raised.value) and not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError) as raised, naming(tmp_path / "a"):
        raise FileNotFoundError(errno.ENOENT, "not there", "b")
    assert raised.value.filename == "b"


def test_tensors_name_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(OSError, match=r"No space left.*weights\.safetensors") as raised:
        tensors.write_tensors(tmp_path / "weights.safetensors", {"a": torch.zeros(1)})
    assert str(tmp_path) in str(raised.value) and not list(tmp_path.iterdir())
