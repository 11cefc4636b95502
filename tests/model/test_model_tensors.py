"""Tensors as files: whole or not at all, however full the disk."""

import sys

import pytest
import torch
from safetensors.torch import load_file

from dejavlad.model.tensors import write_tensors


def test_they_are_read_again_and_others_may_read_them(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": torch.arange(3)})
    write_tensors(path, {"x": torch.arange(4)}, metadata={"told": "it"})
    assert load_file(path)["x"].tolist() == [0, 1, 2, 3]
    assert [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]
    beside = tmp_path / "plain"
    beside.touch()
    assert path.stat().st_mode == beside.stat().st_mode


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    left = tmp_path / ".a.safetensors.partial"
    left.mkdir()
    (left / ".tmpAbCdEf").write_bytes(b"half")
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
    assert [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of file sizes to set")
def test_a_file_that_cannot_grow_leaves_what_was_there(tmp_path):
    import resource

    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": torch.zeros(2)})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="large"):
            write_tensors(path, {"x": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]
