"""Pickles that would never end are refused before they are begun."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from dejavlad.backbones.pickles import HugePickleError, check_pickles
from dejavlad.backbones.weights import read_weights
from dejavlad.convert import import_model
from dejavlad.errors import CheckpointError


def bomb(levels: int) -> bytes:
    """A dict whose key is a tuple of itself, twice on each level; on the last it is put in."""
    nested = b"(" + b"t" + b"".join(b"q%cq%c" % (i, i) + b"h%c\x86" % i for i in range(levels))
    return b"\x80\x02}" + nested + b"K\x01s."


def write(path: Path, data: bytes, *, zipped: bool) -> Path:
    if not zipped:
        path.write_bytes(data)
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("read", [read_weights, import_model])
def test_nested_keys_are_refused_at_once(read, zipped: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "bomb.pth", bomb(60), zipped=zipped)
    with pytest.raises(HugePickleError):
        check_pickles(path)
    with pytest.raises(CheckpointError, match="nests values in themselves"):
        read(path)


def test_the_bomb_is_a_pickle() -> None:
    (key,) = pickle.loads(bomb(3))
    assert key == ((((), ()), ((), ())), (((), ()), ((), ())))


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True])
def test_checkpoints_pass(old: bool, tmp_path: Path) -> None:
    network = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(200)))
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    checkpoint = {"state_dict": network.state_dict(), "optimizer": optimiser.state_dict(), "epoch": 3}
    torch.save(checkpoint, tmp_path / "net.pth", _use_new_zipfile_serialization=not old)
    check_pickles(tmp_path / "net.pth")
    assert len(read_weights(tmp_path / "net.pth")) == 400
