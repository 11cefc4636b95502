"""Stores of every kind are looked through: whole, damaged, not finished, of other programs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import dejavlad as dv
from dejavlad.errors import StoreError
from dejavlad.extraction import extract, write_bin
from dejavlad.pipelines.stores import check_store, store_info
from extraction.test_extraction_patches import SETTING, made
from extraction.test_extraction_resume import Tiny, listed, without_checksums, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(6):
        write(tmp_path / "photos" / f"{i}.png", i)
    return tmp_path / "photos"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_descriptors(folder: Path, tmp_path: Path) -> None:
    store = extract(Tiny(), listed(folder), tmp_path / "s", batch_size=2)
    checked = check_store(tmp_path / "s")
    assert (checked.kind, checked.photos, checked.checksums, checked.complete) == (
        "descriptors",
        6,
        True,
        True,
    )
    info = store_info(tmp_path / "s")
    assert (info["described"], info["failed"], info["left"], info["dims"]) == (6, 0, 0, 5)
    write_bin(store, tmp_path / "s.bin")
    rows = np.array(store.rows)
    np.save(tmp_path / "s.npy", rows)
    for name in (f"{tmp_path / 's.bin'}:5", str(tmp_path / "s.npy")):
        checked = check_store(name)
        assert (checked.photos, checked.checksums) == (6, False)
    rows[4, 2] = np.nan
    np.save(tmp_path / "s.npy", rows)
    with pytest.raises(StoreError, match="row 4 is not finite"):
        check_store(tmp_path / "s.npy")
    del store
    shutil.copytree(tmp_path / "s", tmp_path / "old")
    without_checksums(tmp_path / "old")
    assert str(check_store(tmp_path / "old")).endswith("it has no checksums to compare with")
    flip(tmp_path / "s" / "rows.npy", -1)
    with pytest.raises(StoreError, match=r"the row of '5\.png' is not what was written"):
        check_store(tmp_path / "s")
    with pytest.raises(StoreError, match="there is nothing"):
        check_store(tmp_path / "nowhere")


def test_shards_and_stores_that_are_not_finished(folder: Path, tmp_path: Path) -> None:
    extract(Tiny(), listed(folder), tmp_path / "1", batch_size=2, shard=(1, 2))
    assert check_store(tmp_path / "1").kind == "shard 1/2, descriptors,"
    done = np.load(tmp_path / "1" / "done.npy")
    done[0] = 0
    np.save(tmp_path / "1" / "done.npy", done)
    assert str(check_store(tmp_path / "1")).endswith("it is not finished: run the same again")
    assert store_info(tmp_path / "1")["left"] == 1


def test_patches(street: Path, tmp_path: Path) -> None:
    extract(made(), dv.photos(street / "database")[:4], tmp_path / "s", patches=SETTING, patch_dtype="int8")
    assert check_store(tmp_path / "s").kind == "descriptors and patches"
    assert check_store(tmp_path / "s" / "patches").photos == 4
    assert store_info(tmp_path / "s")["patch_dtype"] == "int8"
    assert store_info(tmp_path / "s" / "patches")["kind"] == "patches"
    flip(tmp_path / "s" / "patches" / "patches.bin", 5)
    for path in (tmp_path / "s", tmp_path / "s" / "patches"):
        with pytest.raises(StoreError, match=r"the patches of '00\.png' are not what was written"):
            check_store(path)
