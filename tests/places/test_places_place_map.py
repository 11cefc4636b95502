"""Maps: built, changed, read by many, cut off anywhere, and honest about places that they do not hold."""

import contextlib
import hashlib
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np
import pytest
from numpy.typing import NDArray

import dejavlad as dv
from dejavlad.errors import InputError, StoreBusyError, StoreError, StoreMismatchError, UnknownNameError
from dejavlad.geo import Position
from dejavlad.photo import Photo, PhotoList
from warm_processes import Process, start

View = Callable[..., NDArray[np.uint8]]


@pytest.fixture(scope="module")
def model() -> dv.PlaceModel:
    return dv.load_model("rootsift-vlad", resize="none", device="cpu")


def digests(folder: Path) -> dict[str, str]:
    """What lies in a folder, locks aside; of a state its tables, whose place in the file may differ."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".sqlite":
            with contextlib.closing(sqlite3.connect(path)) as connection:
                data = "\n".join(connection.iterdump()).encode()
        elif not path.is_file() or path.suffix == ".lock":
            continue
        else:
            data = path.read_bytes()
        sums[path.relative_to(folder).as_posix()] = hashlib.sha256(data).hexdigest()
    return sums


@pytest.mark.slow
def test_finds_places_from_files_and_arrays(
    street: Path, tmp_path: Path, model: dv.PlaceModel, make_view: View
) -> None:
    town = dv.PlaceMap.build(model, dv.photos(street / "database"), tmp_path / "map")
    assert len(town) == 12
    assert not town.failed
    from_files = town.locate(dv.photos(street / "queries"), k=3, verify="none")
    from_arrays = town.locate([make_view(place, 5) for place in range(12)], k=3, verify=None)
    for place, (a, b) in enumerate(zip(from_files, from_arrays, strict=True)):
        assert a.matches[0].name == b.matches[0].name == f"{place:02d}.png"
        assert len(a.matches) == 3
        assert a.matches[0].distance == pytest.approx(b.matches[0].distance, abs=1e-5)
        assert a.matches[0].score == pytest.approx(1 - a.matches[0].distance ** 2 / 2, abs=1e-6)
        assert [m.distance for m in a.matches] == sorted(m.distance for m in a.matches)
        assert not a.known  # of so few places, no answer is sure without geometry
    verified = town.locate([street / "queries" / "01.png", make_view(1, 5)], verify="sift")
    assert all(answer.known and answer.matches[0].name == "01.png" for answer in verified)
    assert all("points agree with 01.png" in answer.reason for answer in verified)


def test_places_that_are_not_in_the_map_are_unknown(
    street: Path, tmp_path: Path, model: dv.PlaceModel, make_view: View
) -> None:
    town = dv.PlaceMap.build(model, dv.photos(street / "database"), tmp_path / "map")
    answers = town.locate([make_view(place, 5) for place in range(100, 120)], verify="none")
    assert np.mean([answer.known for answer in answers]) <= 0.3
    assert all(answer.position is None for answer in answers if not answer.known)


def test_a_map_of_arrays_is_opened_again(tmp_path: Path, model: dv.PlaceModel, make_view: View) -> None:
    photos = PhotoList(
        Photo(f"p{i}", Path(f"p{i}"), position=Position(100.0 * i, 0), pixels=make_view(i)) for i in range(6)
    )
    dv.PlaceMap.build(model, photos, tmp_path / "map")
    town = dv.PlaceMap.open(tmp_path / "map", device="cpu")
    (answer,) = town.locate([make_view(4, 3)], verify="sift")
    assert answer.matches[0].name == "p4"
    assert answer.matches[0].position == Position(400.0, 0)
    assert not answer.known  # six places are too few to be sure without geometry
    assert "not verified: p4 of the map could not be compared: it was given as an array" in answer.reason
    assert answer.position is None and answer.to_dict()["uncertainty_m"] is None
    assert town.add([make_view(9)]) == 1
    assert len(dv.PlaceMap.open(tmp_path / "map", device="cpu")) == 7


def test_add_remove_and_readers(
    street: Path, tmp_path: Path, model: dv.PlaceModel, make_view: View, make_photo: Callable[..., Path]
) -> None:
    photos = dv.photos(street / "database")
    town = dv.PlaceMap.build(model, photos[:8], tmp_path / "map")
    reader = dv.PlaceMap.open(tmp_path / "map", device="cpu")
    assert town.add(photos) == 4  # eight are there already
    assert len(town) == 12
    assert len(reader) == 8
    reader.refresh()
    assert len(reader) == 12
    np.testing.assert_array_equal(reader.descriptors, town.descriptors)

    assert town.remove(["03.png", "05.png"]) == 2
    assert "03.png" not in town.photos.keys
    (answer,) = town.locate([make_view(3, 5)], verify="none")
    assert answer.matches[0].name != "03.png"
    with pytest.raises(UnknownNameError, match=r"99\.png"):
        town.remove(["04.png", "99.png"])
    assert len(town) == 10

    assert town.add(photos) == 2  # back again
    assert town.locate([make_view(3, 5)], verify="none")[0].matches[0].name == "03.png"
    make_photo(street / "database" / "07.png", make_view(77))
    assert town.add(dv.photos(street / "database")) == 1  # changed since
    assert town.locate([make_view(77, 5)], verify="none")[0].matches[0].name == "07.png"
    assert len(town) == 12


def test_namesakes_of_another_folder_are_refused(
    street: Path, tmp_path: Path, model: dv.PlaceModel, make_view: View, make_photo: Callable[..., Path]
) -> None:
    town = dv.PlaceMap.build(model, dv.photos(street / "database"), tmp_path / "map")
    make_photo(tmp_path / "other" / "03.png", make_view(50))
    before = digests(tmp_path / "map")
    with pytest.raises(InputError, match=r"holds '03\.png' of .* already"):
        town.add(dv.photos(tmp_path / "other"))
    assert digests(tmp_path / "map") == before


def test_equal_basenames_in_two_folders_are_two_photos(
    tmp_path: Path, model: dv.PlaceModel, make_view: View, make_photo: Callable[..., Path]
) -> None:
    for i, folder in enumerate(("a", "b", "c")):
        make_photo(tmp_path / "photos" / folder / "1.png", make_view(i))
    town = dv.PlaceMap.build(model, dv.photos(tmp_path / "photos"), tmp_path / "map")
    assert town.photos.keys == ["a/1.png", "b/1.png", "c/1.png"]
    assert [
        a.matches[0].name for a in town.locate([make_view(i, 4) for i in range(3)], verify="none")
    ] == town.photos.keys


def test_one_bad_photo_is_left_out_and_told(street: Path, tmp_path: Path, model: dv.PlaceModel) -> None:
    (street / "database" / "bad.jpg").write_text("no photo")
    town = dv.PlaceMap.build(model, dv.photos(street / "database"), tmp_path / "map")
    assert len(town) == 12
    assert list(town.failed) == ["bad.jpg"]
    answers = town.locate([street / "queries" / "01.png", street / "database" / "bad.jpg"], verify="none")
    assert answers[0].matches[0].name == "01.png"
    assert "no image" in str(answers[1])
    assert answers[1].to_dict()["matches"] == []


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiny_maps(tmp_path: Path, model: dv.PlaceModel, make_view: View, count: int) -> None:
    town = dv.PlaceMap.build(model, [make_view(i) for i in range(count)], tmp_path / "map")
    (answer,) = town.locate([make_view(0, 3)], verify="none")
    assert len(answer.matches) == count
    assert answer.matches[0].name == "0"
    assert not answer.known and answer.confidence < 0.5


def test_what_cannot_be(street: Path, tmp_path: Path, model: dv.PlaceModel, make_view: View) -> None:
    with pytest.raises(InputError, match="at least one photo"):
        dv.PlaceMap.build(model, [], tmp_path / "map")
    with pytest.raises(StoreError, match="there is no map"):
        dv.PlaceMap.open(tmp_path / "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("do not lose me")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        dv.PlaceMap.build(model, [make_view(0)], tmp_path / "full")
    photos = dv.photos(street / "database")
    town = dv.PlaceMap.build(model, photos, tmp_path / "map")
    with pytest.raises(StoreMismatchError, match="photos"):
        dv.PlaceMap.build(model, photos[:5], tmp_path / "map")
    with pytest.raises(StoreMismatchError, match="seed"):
        dv.PlaceMap.build(model, photos, tmp_path / "map", seed=1)
    with pytest.raises(InputError, match="at least 1 place"):
        town.locate([make_view(0)], k=0)
    with pytest.raises(InputError, match="list of photos"):
        town.locate(make_view(0))  # type: ignore[arg-type]
    town.remove(town.photos.keys)
    with pytest.raises(InputError, match="is empty"):
        town.locate([make_view(0)])


def test_a_second_writer_is_refused(street: Path, tmp_path: Path, model: dv.PlaceModel) -> None:
    town = dv.PlaceMap.build(model, dv.photos(street / "database"), tmp_path / "map")
    with filelock.FileLock(tmp_path / "map" / "writer.lock"), pytest.raises(StoreBusyError):
        town.remove(["01.png"])
    town.remove(["01.png"])


def test_damage_is_told(street: Path, tmp_path: Path, model: dv.PlaceModel) -> None:
    dv.PlaceMap.build(model, dv.photos(street / "database"), tmp_path / "map")
    rows = tmp_path / "map" / "rows.bin"
    rows.write_bytes(rows.read_bytes()[:1000])
    with pytest.raises(StoreError, match="cut short"):
        dv.PlaceMap.open(tmp_path / "map")
    (tmp_path / "map" / "map.sqlite").write_text("{" * 1000)
    with pytest.raises(StoreError, match=r"map\.sqlite' is damaged: .*; build the map again"):
        dv.PlaceMap.open(tmp_path / "map")


BUILD = """
import sys
import dejavlad as dv
from dejavlad.extraction import writer
writer.COMMIT_SECONDS = 0.0  # each batch, not each second
model = dv.load_model(sys.argv[3], device="cpu")
report = lambda progress: print(progress.what, progress.done, flush=True)
dv.PlaceMap.build(model, dv.photos(sys.argv[1]), sys.argv[2], batch_size=1, on_progress=report)
"""


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_bytes(
    street: Path, tmp_path: Path, model: dv.PlaceModel
) -> None:
    fitted = dv.fit(model, dv.photos(street / "database"), whiten=False)  # once, not in each of six processes
    dv.save_model(fitted, tmp_path / "model")

    def build(out: Path) -> Process:
        return start(BUILD, street / "database", out, tmp_path / "model", stdout=True)

    with build(tmp_path / "whole") as whole:
        assert len([*whole.stdout]) > 12
    chance = random.Random(0)
    for moment in (0, 4, 2, 5):
        with build(tmp_path / "cut") as run:
            for _ in range(moment):
                assert run.stdout.readline()
            time.sleep(chance.uniform(0, 0.01))
            run.kill()
    for pause in (0.0, 0.002, 0.005):  # once all are described: while the map takes them in
        with build(tmp_path / "cut") as run:
            for line in run.stdout:
                if line == "describing photos 12\n":
                    break
            time.sleep(pause)
            run.kill()
    with build(tmp_path / "cut") as run:
        reports = [*run.stdout]
    assert run.returncode == 0 and len(reports) < 10  # what was described before is not described again
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
