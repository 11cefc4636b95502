"""Maps of photos whose names come in two Unicode forms."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import dejavlad as dv
from dejavlad.errors import InputError, UnknownNameError

View = Callable[..., NDArray[np.uint8]]
MakePhoto = Callable[..., Path]


def form(how: str, name: str) -> str:
    return unicodedata.normalize(how, name)


@pytest.fixture(scope="module")
def model() -> dv.PlaceModel:
    return dv.load_model("rootsift-vlad", resize="none", device="cpu")


@pytest.fixture
def town(tmp_path: Path, model: dv.PlaceModel, make_view: View, make_photo: MakePhoto) -> dv.PlaceMap:
    """A map of six photos, their names as macOS writes them."""
    for i in range(6):
        make_photo(tmp_path / "photos" / form("NFD", f"é{i}.PNG"), make_view(i))
    return dv.PlaceMap.build(model, dv.photos(tmp_path / "photos"), tmp_path / "map")


def test_photos_are_removed_however_their_names_are_written(town: dv.PlaceMap) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean"):
        town.remove([form("NFC", "é9.PNG")])
    assert town.remove([form("NFC", "é1.PNG"), f"./{form('NFD', 'é1.PNG')}", form("NFC", "é2.png")]) == 2
    assert sorted(form("NFC", key) for key in town.photos.keys) == [f"é{i}.PNG" for i in (0, 3, 4, 5)]


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS knows one form of a name")
def test_a_collection_that_came_from_another_system_is_known(
    tmp_path: Path, town: dv.PlaceMap, model: dv.PlaceModel, make_view: View, make_photo: MakePhoto
) -> None:
    keys = town.photos.keys
    for path in (tmp_path / "photos").iterdir():
        path.rename(path.with_name(form("NFC", path.name)))
    assert town.add(dv.photos(tmp_path / "photos")) == 0
    assert town.photos.keys == keys
    again = dv.PlaceMap.build(model, dv.photos(tmp_path / "photos"), tmp_path / "map")
    assert again.photos.keys == keys
    make_photo(tmp_path / "photos" / form("NFC", "é3.PNG"), make_view(33))  # changed since
    assert town.add(dv.photos(tmp_path / "photos")) == 1
    assert len(town) == 6 and set(town.photos.keys) == set(keys)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS knows one form of a name")
def test_two_files_that_differ_in_form_alone_are_two_photos(
    tmp_path: Path, town: dv.PlaceMap, make_view: View, make_photo: MakePhoto
) -> None:
    make_photo(tmp_path / "photos" / form("NFC", "é3.PNG"), make_view(33))
    assert town.add(dv.photos(tmp_path / "photos")) == 1
    assert len(town) == 7


def test_a_file_is_in_a_map_once_by_whatever_folder_it_is_given(
    tmp_path: Path, model: dv.PlaceModel, make_view: View, make_photo: MakePhoto
) -> None:
    for i in range(3):
        make_photo(tmp_path / "phone" / "100" / f"{i}.png", make_view(i))
        make_photo(tmp_path / "phone" / "101" / f"{i}.png", make_view(10 + i))
    town = dv.PlaceMap.build(model, dv.photos(tmp_path / "phone" / "100"), tmp_path / "map")
    keys = town.photos.keys
    assert town.add([tmp_path / "phone" / "100" / "1.png"]) == 0
    with pytest.raises(InputError, match="add a folder above both"):
        town.add(dv.photos(tmp_path / "phone" / "101"))
    assert town.add(dv.photos(tmp_path / "phone")) == 3
    assert set(town.photos.keys) == {*keys, "101/0.png", "101/1.png", "101/2.png"}
    assert town.add(dv.photos(tmp_path / "phone" / "101")) == 0  # though the map has photos of these names
    assert len(town) == 6


def test_a_name_that_a_map_does_not_have_is_answered_in_a_line(town: dv.PlaceMap) -> None:
    with pytest.raises(UnknownNameError, match=r"it has 6 names, which `dejavlad map info MAP --json` lists"):
        town.remove(["street/000001.jpg"])


def test_a_map_compacted_between_opening_and_searching_is_searched(
    tmp_path: Path, town: dv.PlaceMap, model: dv.PlaceModel
) -> None:
    reader = dv.PlaceMap.open(tmp_path / "map", device="cpu")
    keys = town.photos.keys
    town.remove(keys[:2])
    assert town.compact() > 0
    answer = reader.locate([town.photos[0].path], verify=None)[0]
    assert answer.matches[0].name == keys[2] and len(reader) == 4
