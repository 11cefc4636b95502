"""A map without its model does what one with its model does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import dejavlad as dv
from dejavlad.errors import CheckpointError, StoreError
from dejavlad.places.stored_map import StoredMap, open_stored

NAMES = ["01.png", "04.png", "07.png"]


@pytest.fixture
def towns(street: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A map twice: of 12 photos, with local features and an index."""
    model = dv.load_model("squeezenet1_0-gem", weights="random:0", device="cpu", resize="64x64")
    first, second = tmp_path / "first.map", tmp_path / "second.map"
    dv.PlaceMap.build(model, dv.photos(street / "database"), first, local="sift", index="int8")
    shutil.copytree(first, second)
    return first, second


def test_removing_and_compacting(towns: tuple[Path, Path], street: Path) -> None:
    stored, opened = open_stored(towns[0]), dv.PlaceMap.open(towns[1], device="cpu")
    assert type(stored) is StoredMap
    assert stored.remove(NAMES) == opened.remove(NAMES) == 3
    assert stored.compact() == opened.compact() > 0
    assert stored.check() and opened.check() and len(stored) == len(opened) == 9
    again = dv.PlaceMap.open(towns[0], device="cpu")
    assert again.photos.keys == opened.photos.keys
    np.testing.assert_array_equal(again.descriptors, opened.descriptors)
    assert again.index is not None and opened.index is not None
    assert again.index.head() == opened.index.head() is not None
    assert again.features.rows() == opened.features.rows()
    queries = dv.photos(street / "queries")[:3]
    figures = [[answer.to_dict() for answer in town.locate(queries)] for town in (again, opened)]
    assert figures[0] == figures[1]


def test_moving_and_figures(towns: tuple[Path, Path], street: Path, tmp_path: Path) -> None:
    shutil.copytree(street / "database", tmp_path / "moved")
    stored, opened = open_stored(towns[0]), dv.PlaceMap.open(towns[1], device="cpu")
    moved = [town.move(street / "database", tmp_path / "moved") for town in (stored, opened)]
    assert moved[0] == moved[1] and moved[0].photos == 12
    figures = [town.info().to_dict(names=True) for town in (stored, opened)]
    assert [figure.pop("folder") for figure in figures] == [str(town) for town in towns]
    assert figures[0] == figures[1]
    assert stored.photos[0].path == opened.photos[0].path == (tmp_path / "moved" / "00.png").resolve()


def test_weights_are_checked_too(towns: tuple[Path, Path]) -> None:
    weights = towns[0] / "model" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="not the file that was saved"):
        open_stored(towns[0]).check()
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"has no weights\.safetensors"):
        open_stored(towns[0])


def test_no_map_and_an_unfinished_map(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no map at .*make one with"):
        open_stored(tmp_path / "nothing")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "model.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StoreError, match="never finished"):
        open_stored(tmp_path / "begun")
