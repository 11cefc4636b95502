"""What a map holds: corrected, moved, checked, taken over from format 1, and whole wherever it is cut off."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import dejavlad as dv
from dejavlad.aggregation import GeM
from dejavlad.cli import main
from dejavlad.errors import InputError, StoreError
from dejavlad.extraction import writer
from dejavlad.geo import Position
from dejavlad.model import PlaceModel, save_model
from dejavlad.photo import Photo, PhotoList
from dejavlad.storage import photo_blocks, state

View = Callable[..., NDArray[np.uint8]]
OLD = Path(__file__).parent.parent / "golden" / "old_formats" / "map"


@pytest.fixture(scope="module")
def model() -> PlaceModel:
    """The model of the old map: small and quick."""
    torch.set_num_threads(1)
    base = dv.load_model("rootsift-vlad", resize="none", device="cpu")
    return PlaceModel(base.backbone, GeM(128), base.preprocess, fitted=True, source=base.source)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A map of format 1: p0, p1, p3, p4 (no position), p5; p2 removed; an add of p6 to p8 cut off."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def shown(view: View, *numbers: int) -> PhotoList:
    """Photos as those of the old map."""
    return PhotoList(
        Photo(
            f"p{i}",
            Path(f"p{i}"),
            position=Position(100.0 * i, 5.5, "33N") if i != 4 else None,
            heading=10.0 * i,
            time=1.5 * i,
            group="g",
            pixels=view(i),
        )
        for i in numbers
    )


def contents(folder: Path) -> tuple[list[Photo], NDArray[np.float32], dict[str, str]]:
    """All that a map says."""
    town = dv.PlaceMap.open(folder, device="cpu")
    return list(town.photos), np.array(town.descriptors), dict(town.failed)


def same(a: Path, b: Path) -> None:
    (photos_a, rows_a, failed_a), (photos_b, rows_b, failed_b) = contents(a), contents(b)
    assert photos_a == photos_b and failed_a == failed_b
    np.testing.assert_array_equal(rows_a, rows_b)


# Corrections


def with_positions(photos: PhotoList, shift: float = 0.0) -> PhotoList:
    return PhotoList(
        (
            Photo(p.name, p.path, position=Position(i + shift, 0.0, "33N"), heading=1.0, tags=("night",))
            for i, p in enumerate(photos)
        ),
        root=photos.root,
    )


def test_building_again_takes_corrected_facts_and_describes_nothing(
    street: Path, tmp_path: Path, model: PlaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = dv.photos(street / "database")
    dv.PlaceMap.build(model, with_positions(photos), tmp_path / "map")
    rows = (tmp_path / "map/rows.bin").read_bytes()
    monkeypatch.setattr(PlaceModel, "describe", lambda *_: pytest.fail("described again"))
    town = dv.PlaceMap.build(model, with_positions(photos, 7.0), tmp_path / "map")
    assert town.updated == 12
    assert [p.position for p in town.photos] == [Position(i + 7.0, 0.0, "33N") for i in range(12)]
    assert {p.tags for p in town.photos} == {("night",)}
    assert dv.PlaceMap.build(model, with_positions(photos, 7.0), tmp_path / "map").updated == 0
    town = dv.PlaceMap.build(model, photos, tmp_path / "map")  # its source tells no positions any more
    assert town.updated == 12 and town.photos.positions == [None] * 12
    assert town.info().with_position == 0
    assert (tmp_path / "map/rows.bin").read_bytes() == rows


@pytest.mark.slow
def test_adding_positions_to_a_map_without_them(street: Path, tmp_path: Path, model: PlaceModel) -> None:
    photos = dv.photos(street / "database")
    town = dv.PlaceMap.build(model, photos, tmp_path / "map")
    assert town.info().with_position == 0
    assert town.add(with_positions(photos[:5])) == 0
    assert town.updated == 5 and town.info().with_position == 5
    assert town.locate([street / "queries/03.png"])[0].position == Position(3.0, 0.0, "33N")
    assert town.add(photos) == 0  # what a list does not tell stays
    assert town.updated == 0 and town.info().with_position == 5
    assert [p.heading for p in town.photos[:6]] == [1.0] * 5 + [None]


def test_the_command_corrects_swapped_positions(
    street: Path, tmp_path: Path, model: PlaceModel, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(model, tmp_path / "small")
    names = sorted(p.name for p in (street / "database").iterdir())
    right, swapped = tmp_path / "right.csv", tmp_path / "swapped.csv"
    right.write_text("name,lat,lon\n" + "".join(f"{n},52.5{i:02},13.4\n" for i, n in enumerate(names)))
    swapped.write_text("name,lat,lon\n" + "".join(f"{n},13.4,52.5{i:02}\n" for i, n in enumerate(names)))
    build = [
        "map",
        "build",
        str(tmp_path / "small"),
        str(street / "database"),
        "--out",
        str(tmp_path / "map"),
    ]
    build += ["--device", "cpu"]
    assert main([*build, "--positions", str(swapped)]) == 0
    assert main([*build, "--positions", str(right)]) == 0
    assert "12 photos that were there have other positions" in capsys.readouterr().out
    town = dv.PlaceMap.open(tmp_path / "map", device="cpu")
    assert main(["map", "check", str(tmp_path / "map")]) == 0
    assert "12 photos, all as they were written" in capsys.readouterr().out
    assert town.photos[3].position == dv.photos(street / "database", positions=right)[3].position


def test_photos_that_fail_again_are_no_error(street: Path, tmp_path: Path, model: PlaceModel) -> None:
    (street / "database/bad.jpg").write_text("no photo")
    photos = dv.photos(street / "database")
    for _ in range(2):
        town = dv.PlaceMap.build(model, photos, tmp_path / "map")
        assert len(town) == 12 and list(town.failed) == ["bad.jpg"]
    with pytest.raises(InputError, match="could not be described"):
        dv.PlaceMap.build(model, photos[-1:], tmp_path / "other")


# Moves


def test_a_folder_that_moved_is_described_no_more(
    street: Path, tmp_path: Path, model: PlaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = dv.PlaceMap.build(model, dv.photos(street / "database"), tmp_path / "map")
    before = np.array(town.descriptors)
    shutil.copytree(street / "database", tmp_path / "archive", copy_function=shutil.copy)  # other times
    shutil.rmtree(street / "database")
    with pytest.raises(InputError, match="dejavlad map move"):
        town.add(dv.photos(tmp_path / "archive"))
    moved = town.move(street / "database", tmp_path / "archive")
    assert (moved.photos, moved.missing, moved.changed) == (12, (), ())
    monkeypatch.setattr(PlaceModel, "describe", lambda *_: pytest.fail("described again"))
    assert town.add(dv.photos(tmp_path / "archive")) == 0
    assert [p.path for p in town.photos] == [p.path for p in dv.photos(tmp_path / "archive")]
    assert town.photos.root == tmp_path / "archive"
    np.testing.assert_array_equal(town.descriptors, before)
    assert town.check()


@pytest.mark.slow
def test_one_photo_moves_within_its_folder(street: Path, tmp_path: Path, model: PlaceModel) -> None:
    town = dv.PlaceMap.build(model, dv.photos(street / "database"), tmp_path / "map")
    (street / "database/sub").mkdir()
    (street / "database/03.png").rename(street / "database/sub/03.png")
    assert town.move(street / "database/03.png", street / "database/sub/03.png").photos == 1
    assert sorted(town.photos.keys) == sorted(dv.photos(street / "database").keys)
    assert town.add(dv.photos(street / "database")) == 0
    assert town.locate([street / "queries/03.png"])[0].matches[0].path == street / "database/sub/03.png"
    (street / "database/04.png").unlink()
    with pytest.raises(InputError, match=r"would become '05\.png', which the map holds"):
        town.move(street / "database/04.png", street / "database/05.png")
    with pytest.raises(InputError, match="no photo of the map lies in"):
        town.move(tmp_path / "nowhere", street)
    with pytest.raises(InputError, match=r"none of the 12 photos is there, e\.g\."):
        town.move(street / "database", tmp_path / "nowhere")
    assert town.check() and len(town) == 12


def test_what_is_missing_or_other_after_a_move_is_told(
    street: Path, tmp_path: Path, model: PlaceModel, capsys: pytest.CaptureFixture[str]
) -> None:
    town = dv.PlaceMap.build(model, dv.photos(street / "database"), tmp_path / "map")
    (street / "database").rename(tmp_path / "new")
    (tmp_path / "new/02.png").unlink()
    shutil.copy(tmp_path / "new/00.png", tmp_path / "new/07.png")
    assert main(["map", "move", str(town.folder), str(street / "database"), str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    assert "12 photos lie in" in out and "1 of them are not there, e.g. 02.png" in out
    assert "1 of them have another size there" in out and "07.png" in out
    town.refresh()
    assert town.add(dv.photos(tmp_path / "new")) == 1


# Leftovers and kills


@pytest.mark.slow
@pytest.mark.parametrize("form", ["old", "new"])
def test_any_leftover_of_an_add_is_taken_up_or_thrown_away(
    old: Path, tmp_path: Path, model: PlaceModel, make_view: View, form: str
) -> None:
    """Every half-cleared state: each file of it there, or gone, or cut short."""
    more = shown(make_view, 6, 7, 8)
    if form == "new":
        dv.PlaceMap.open(old, device="cpu").remove(["p3"])
        dv.PlaceMap.open(old, device="cpu").add(shown(make_view, 3))
        cut_off(old, more)
    whole = Path(shutil.copytree(old, tmp_path / "whole"))
    assert dv.PlaceMap.open(whole, device="cpu").add(more, batch_size=1) == 3
    names = sorted(p.name for p in (old / "extracting").iterdir() if p.name != "writer.lock")
    fates = [*itertools.product(("there", "gone"), repeat=len(names))]
    fates += [("cut",) * (i + 1) for i in range(len(names))]
    for number, fate in enumerate(fates):
        folder = Path(shutil.copytree(old, tmp_path / f"cut{number}"))
        for name, what in zip(names, fate, strict=False):
            path = folder / "extracting" / name
            if what == "gone":
                path.unlink()
            elif what == "cut":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert dv.PlaceMap.open(folder, device="cpu").add(more, batch_size=1) == 3, fate
        same(folder, whole)
        assert not (folder / "extracting").exists()


def cut_off(folder: Path, photos: PhotoList) -> None:
    def stop(report: dv.progress.Progress) -> None:
        if report.what == "describing photos" and report.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dv.PlaceMap.open(folder, device="cpu").add(photos, batch_size=1, on_progress=stop)


class Killed(BaseException):
    """Ends a run at once; after it nothing reaches the disk any more."""


@contextlib.contextmanager
def killed_at(steps: int, patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Ends whatever is done inside at its n-th step that could reach the disk."""
    left = [steps]

    def hook(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def step(*args: object, **options: object) -> object:
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return real(*args, **options)

        patch.setattr(owner, name, step)

    with patch.context() as patch:
        for owner, names in (
            (os, ("fsync", "replace", "unlink", "rmdir", "truncate")),
            (Path, ("unlink", "rmdir", "mkdir", "replace", "touch")),
            (state, ("commit", "sync_folder")),
            (photo_blocks, ("write_block",)),
        ):
            for name in names:
                hook(owner, name)
        yield left


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "form"),
    [("add", "new"), ("remove", "old"), ("correct", "new"), ("convert", "old")],
)
def test_killed_at_every_step_a_map_is_whole_and_ends_the_same(
    verb: str,
    form: str,
    old: Path,
    tmp_path: Path,
    model: PlaceModel,
    make_view: View,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(photo_blocks, "BLOCK", 4)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # processes are killed here, not the machine
    monkeypatch.setattr(PlaceModel, "describe", lambda _, images: images.flatten(1)[:, :128])
    if form == "new":
        dv.PlaceMap.open(old, device="cpu").add(shown(make_view, 6), batch_size=1)

    def change(folder: Path) -> None:
        town = dv.PlaceMap(folder, model)
        if verb == "add":
            town.add(shown(make_view, 7, 8, 9), batch_size=2)
        elif verb == "remove":
            with contextlib.suppress(InputError):  # a commit that was finished is one
                town.remove(["p1", "p5"])
        elif verb == "correct":
            town.add(PhotoList(Photo("p1", Path("p1"), heading=77.0, pixels=make_view(1)) for _ in "1"))
        else:
            town.add(shown(make_view, 0))

    whole = Path(shutil.copytree(old, tmp_path / "whole"))
    change(whole)
    before = set(contents(old)[0]), set(contents(whole)[0])
    rows = (whole / "rows.bin").read_bytes()
    for steps in itertools.count():
        folder = Path(shutil.copytree(old, tmp_path / "cut", dirs_exist_ok=False))
        with killed_at(steps, monkeypatch) as left:
            try:
                change(folder)
                ran_through = True
            except Killed:
                ran_through = False
        assert set(contents(folder)[0]) in before, f"killed at step {steps}"  # a reader sees one or the other
        with killed_at(steps % 5, monkeypatch), contextlib.suppress(Killed):
            change(folder)
        change(folder)
        same(folder, whole)
        assert (folder / "rows.bin").read_bytes() == rows, f"killed at step {steps}"
        assert dv.PlaceMap.open(folder, device="cpu").check()
        assert not [p for p in folder.iterdir() if p.name.endswith((".partial", "-journal"))]
        assert verb in ("remove", "convert") or not (folder / "extracting").exists()
        shutil.rmtree(folder)
        if ran_through:
            assert left[0] >= 0 and steps > 2
            break


# Format 1


def test_a_map_of_format_1_is_read_as_it_is(old: Path, make_view: View) -> None:
    before = {p: p.read_bytes() for p in old.rglob("*") if p.is_file()}
    town = dv.PlaceMap.open(old, device="cpu")
    assert town.photos.keys == ["p0", "p1", "p3", "p4", "p5"]
    for photo, i in zip(town.photos, (0, 1, 3, 4, 5), strict=True):
        assert photo == Photo(**{**_plain(shown(make_view, i)[0]), "pixels": None})
    rows = np.frombuffer((old / "rows.bin").read_bytes(), np.float32).reshape(6, 128)
    np.testing.assert_array_equal(town.descriptors, rows[[0, 1, 3, 4, 5]])
    (answer,) = town.locate([make_view(5)])
    assert answer.matches[0].name == "p5" and answer.matches[0].position == Position(500.0, 5.5, "33N")
    assert (town.info().photos, town.info().with_position) == (5, 4)
    assert not town.check()
    assert {p: p.read_bytes() for p in old.rglob("*") if p.is_file()} == before


def _plain(photo: Photo) -> dict[str, object]:
    return {name: getattr(photo, name) for name in photo.__dataclass_fields__}


def test_the_first_change_gives_it_the_new_form(old: Path, tmp_path: Path, make_view: View) -> None:
    photos, rows, _ = contents(old)
    town = dv.PlaceMap.open(old, device="cpu")
    assert town.remove(["p4"]) == 1
    assert not (old / "map.json").exists() and (old / "map.sqlite").exists()
    photos_now, rows_now, _ = contents(old)
    assert photos_now == [p for p in photos if p.name != "p4"]
    np.testing.assert_array_equal(rows_now, rows[[0, 1, 2, 4]])
    assert town.check()
    assert town.add(shown(make_view, 6, 7, 8), batch_size=1) == 3


# Damage


def test_changed_rows_are_told_when_they_are_read(old: Path, make_view: View) -> None:
    dv.PlaceMap.open(old, device="cpu").add(shown(make_view, 6))
    rows = old / "rows.bin"
    good = rows.read_bytes()
    uses: list[Callable[[dv.PlaceMap], object]] = [
        lambda town: town.check(),
        lambda town: town.locate([make_view(0)]),
        lambda town: town.descriptors,
        lambda town: town.descriptors_of(np.array([0])),
    ]
    for at in (0, 700, 1536, len(good) - 1):
        rows.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        for use in uses:
            with pytest.raises(StoreError, match="rows 0 to 6 are not what was written; build the map again"):
                use(dv.PlaceMap.open(old, device="cpu"))
    rows.write_bytes(good)
    assert dv.PlaceMap.open(old, device="cpu").check()


@pytest.mark.slow
def test_a_changed_byte_of_the_state_is_no_other_answer(old: Path, make_view: View) -> None:
    """Of each page of the state: an error, or the same answers as before."""
    town = dv.PlaceMap.open(old, device="cpu")
    town.add(shown(make_view, 6))
    path = old / "map.sqlite"
    good, expected = path.read_bytes(), town.locate([make_view(5)])
    photos, failed = list(town.photos), dict(town.failed)
    chance = np.random.default_rng(0)
    seen = 0
    used = np.flatnonzero(np.frombuffer(good, np.uint8))
    for at in chance.choice(used, 120, replace=False).tolist():
        path.write_bytes(good[:at] + bytes([good[at] ^ int(chance.integers(1, 256))]) + good[at + 1 :])
        try:
            town = dv.PlaceMap(old, town.model)
            assert town.locate([make_view(5)]) == expected
            assert list(town.photos) == photos and dict(town.failed) == failed
        except StoreError as error:
            assert "\n" not in str(error)
            seen += 1
    assert seen > 20


def test_a_number_changed_by_hand_is_told(old: Path, make_view: View) -> None:
    dv.PlaceMap.open(old, device="cpu").add(shown(make_view, 6))
    for change in (
        "UPDATE meta SET value = replace(value, '\"photos\": 6', '\"photos\": 5') WHERE name = 'map'",
        "UPDATE chunks SET crc = crc + 1",
        "UPDATE chunks SET rows = rows - 1",
        "UPDATE blocks SET texts = replace(texts, 'p5', 'p6')",
        "UPDATE blocks SET number = number + 1",
        "UPDATE keys SET place = place + 1 WHERE key = x'7031'",
        "DELETE FROM keys WHERE key = x'7031'",
        "DELETE FROM blocks",
        "DELETE FROM chunks",
    ):
        folder = Path(shutil.copytree(old, old.with_name("changed")))
        with contextlib.closing(sqlite3.connect(folder / "map.sqlite")) as connection:
            assert connection.execute(change).rowcount >= 1, change
            connection.commit()
        with pytest.raises(StoreError, match="damaged"):
            dv.PlaceMap.open(folder, device="cpu").check()
        shutil.rmtree(folder)


def test_a_later_format_is_refused(old: Path, make_view: View) -> None:
    town = dv.PlaceMap.open(old, device="cpu")
    town.add(shown(make_view, 6))
    with contextlib.closing(sqlite3.connect(old / "map.sqlite")) as connection:
        state.put_values(connection, {"version": 99})
        connection.commit()
    with pytest.raises(StoreError, match=r"later dejavlad .*update dejavlad"):
        dv.PlaceMap.open(old, device="cpu")


# Readers


@pytest.mark.slow
def test_a_reader_stays_at_its_moment_while_a_writer_goes_on(old: Path, make_view: View) -> None:
    town = dv.PlaceMap.open(old, device="cpu")
    town.add(shown(make_view, 6))
    reader = dv.PlaceMap.open(old, device="cpu")  # has read nothing yet but the head
    town.remove(["p0", "p5"])
    town.add(shown(make_view, 7, 8))
    assert len(reader) == 6 and reader.photos.keys == ["p0", "p1", "p3", "p4", "p5", "p6"]
    assert reader.locate([make_view(5)])[0].matches[0].name == "p5"
    assert town.locate([make_view(5)])[0].matches[0].name != "p5"
    reader.refresh()
    assert reader.photos.keys == town.photos.keys == ["p1", "p3", "p4", "p6", "p7", "p8"]


def test_names_of_any_bytes_and_facts_of_all_kinds_survive(
    tmp_path: Path, model: PlaceModel, make_view: View
) -> None:
    photos = PhotoList(
        [
            Photo("bad\udcff.png", Path("bad\udcff.png"), pixels=make_view(0), tags=("a", "b"), time=-1.5),
            Photo("日本", Path("日本"), frame=3, pixels=make_view(1), position=Position(1e-9, -5.0)),
            Photo("c", Path("c"), crop=(0, 0, 90, 90), pixels=make_view(2), heading=359.999),
        ]
    )
    dv.PlaceMap.build(model, photos, tmp_path / "map")
    town = dv.PlaceMap.open(tmp_path / "map", device="cpu")
    assert list(town.photos) == list(photos)
    assert town.remove(["bad\udcff.png"]) == 1


@pytest.mark.slow
def test_building_goes_on_after_a_kill_while_its_model_was_kept(
    tmp_path: Path, model: PlaceModel, make_view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = shown(make_view, 0, 1)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(PlaceModel, "describe", lambda _, images: images.flatten(1)[:, :128])
    for steps in itertools.count(1, 5):
        with killed_at(steps, monkeypatch):
            try:
                dv.PlaceMap.build(model, photos, tmp_path / f"map{steps}")
                break
            except Killed:
                pass
        assert len(dv.PlaceMap.build(model, photos, tmp_path / f"map{steps}")) == 2
        assert not [p for p in (tmp_path / f"map{steps}").iterdir() if "partial" in p.name]
    assert steps > 10
    for name in (".model.partial", ".model.before"):
        (tmp_path / "map1" / name).mkdir()
    assert len(dv.PlaceMap.build(model, photos, tmp_path / "map1")) == 2
