"""A descriptor store as read: opened, told apart from other things, made from arrays, saved."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dejavlad.errors import InputError, StoreError
from dejavlad.extraction import DescriptorStore, Setting, save_store
from dejavlad.geo import Position
from dejavlad.photo import (
    Photo,
    PhotoList,
)
from dejavlad.photo.photo import View


def rows_ND(n: int = 7, d: int = 4) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, d)).astype(np.float32)


def test_from_arrays_is_complete_and_keeps_the_rows() -> None:
    store = DescriptorStore.from_arrays(rows_ND())
    assert store.complete and store.done.all() and len(store) == 7 and store.dims == 4
    assert store.keys == [str(i) for i in range(7)]
    np.testing.assert_array_equal(store.float32(slice(2, 4)), rows_ND()[2:4])
    assert DescriptorStore.from_arrays(rows_ND().astype(np.float64)).rows.dtype == np.float32
    with pytest.raises(InputError, match=r"\[N, D\]"):
        DescriptorStore.from_arrays(np.zeros(3))
    with pytest.raises(InputError, match="7 rows of descriptors but 2 photos"):
        DescriptorStore.from_arrays(rows_ND(), ["a", "b"])


def test_a_saved_store_is_what_it_was(tmp_path: Path) -> None:
    photos = PhotoList(
        [
            Photo("a b.jpg", tmp_path / "root" / "a b.jpg", position=Position(1.5, 2.5, "33N"), heading=10.0),
            Photo("c/d.jpg", tmp_path / "else where" / "d.jpg", crop=(1, 2, 3, 4), time=5.0, group="g"),
            Photo("v.mp4", tmp_path / "root" / "v.mp4", frame=7),
            Photo("p.jpg", tmp_path / "root" / "p.jpg", view=View(45.0, 90.0), tags=("night", "rain")),
        ],
        root=tmp_path / "root",
        name="four",
    )
    made = DescriptorStore.from_arrays(rows_ND(4).astype(np.float16), photos, model="m", fingerprint="f")
    store = save_store(made, tmp_path / "s")
    np.testing.assert_array_equal(store.rows, made.rows)
    assert isinstance(store.rows, np.memmap) and store.rows.dtype == np.float16
    assert list(store.photos) == list(photos) and store.photos.name == "four"
    assert store.photos.root == tmp_path / "root"
    assert store.keys == ["a b.jpg", "c/d.jpg#crop=1,2,3,4", "v.mp4#frame=7", "p.jpg#view=45,90"]
    assert store.manifest.setting == Setting("m", "f", {}, "unknown", 4, "float16")
    with pytest.raises(StoreError, match="already"):
        save_store(made, tmp_path / "s")


def test_a_plain_npy_is_a_store_of_rows_without_names(tmp_path: Path) -> None:
    np.save(tmp_path / "globalfeats.npy", rows_ND())
    store = DescriptorStore.open(tmp_path / "globalfeats.npy")
    assert isinstance(store.rows, np.memmap) and store.complete and store.keys[3] == "3"
    np.testing.assert_array_equal(store.float32(), rows_ND())


def test_what_is_no_store_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is nothing"):
        DescriptorStore.open(tmp_path / "none")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="not a store of descriptors"):
        DescriptorStore.open(tmp_path / "folder")
    (tmp_path / "bad.npy").write_bytes(b"x")
    with pytest.raises(StoreError, match="cannot read the descriptors"):
        DescriptorStore.open(tmp_path / "bad.npy")


@pytest.mark.parametrize("name", ["rows.npy", "sums.npy", "done.npy", "failed.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_a_damaged_store_is_told(tmp_path: Path, name: str, damage: str) -> None:
    store = save_store(DescriptorStore.from_arrays(rows_ND()), tmp_path / "s")
    del store
    file = tmp_path / "s" / name
    data = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(data[: -len(data) // 2 or 1] if damage == "cut" else b"")
    with pytest.raises(StoreError):
        DescriptorStore.open(tmp_path / "s")


def test_a_later_format_and_a_strange_manifest_are_refused(tmp_path: Path) -> None:
    save_store(DescriptorStore.from_arrays(rows_ND()), tmp_path / "s")
    file = tmp_path / "s" / "manifest.json"
    data = json.loads(file.read_text())
    del data["checksum"]
    for change, message in (
        ({"version": 99}, "update dejavlad"),
        ({"format": "other"}, "format is 'other'"),
        ({"photos": {**data["photos"], "bytes": [1]}}, "differ in length"),
        ({"setting": {**data["setting"], "dims": 5}}, "7 rows of 5 float32"),
    ):
        file.write_text(json.dumps({**data, **change}))
        with pytest.raises(StoreError, match=message):
            DescriptorStore.open(tmp_path / "s")


def test_a_setting_must_make_sense() -> None:
    with pytest.raises(InputError, match="float64"):
        Setting("m", "f", {}, "fp32", 4, "float64")
    with pytest.raises(InputError, match="at least one"):
        Setting("m", "f", {}, "fp32", 0)


OLD = Path(__file__).parent.parent / "golden" / "old_formats" / "store"


def test_a_store_of_an_earlier_version_opens_and_gets_checksums_when_it_goes_on(tmp_path: Path) -> None:
    from test_extraction_resume import Tiny

    from dejavlad.extraction import extract

    folder = Path(shutil.copytree(OLD, tmp_path / "s"))
    store = DescriptorStore.open(folder)
    assert store.sums is None and store.complete and store.keys == [f"a{i}" for i in range(7)]
    rows = store.float32()
    photos = PhotoList(
        Photo(
            f"a{i}",
            Path(f"a{i}"),
            position=Position(1.0 * i, 2.0),
            pixels=np.random.default_rng(i).integers(0, 256, (8, 10, 3), dtype=np.uint8),
        )
        for i in range(7)
    )
    assert list(store.photos) == list(photos)
    del store
    model = Tiny()
    store = extract(model, photos, folder, batch_size=2)
    assert model.batches == 0 and store.sums is not None
    np.testing.assert_array_equal(store.float32(), rows)
    fresh = extract(Tiny(), photos, tmp_path / "fresh", batch_size=2)
    for file in ("rows.npy", "sums.npy", "done.npy", "manifest.json"):
        assert (folder / file).read_bytes() == (tmp_path / "fresh" / file).read_bytes()
    np.testing.assert_array_equal(fresh.sums, store.sums)


def test_a_changed_number_is_told_when_rows_are_read(tmp_path: Path) -> None:
    save_store(DescriptorStore.from_arrays(rows_ND()), tmp_path / "s")
    for name, at in (("rows.npy", -1), ("rows.npy", -100), ("sums.npy", -5), ("done.npy", -2)):
        file = tmp_path / "s" / name
        good = file.read_bytes()
        file.write_bytes(good[:at] + bytes([good[at] ^ 2]) + (good[at + 1 :] if at < -1 else b""))
        with pytest.raises(StoreError, match=r"is damaged: .*; delete it and extract again"):
            _ = DescriptorStore.open(tmp_path / "s").rows
        file.write_bytes(good)
    file = tmp_path / "s" / "manifest.json"
    file.write_text(file.read_text().replace('"mtime_ns":[0', '"mtime_ns":[1'))
    with pytest.raises(StoreError, match="its checksum differs"):
        DescriptorStore.open(tmp_path / "s")
