"""Patches on disk: small, whole wherever a run is cut off, and never mixed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import dejavlad as dv
from dejavlad.aggregation import GeM, NetVLAD
from dejavlad.errors import InputError, StoreBusyError, StoreError, StoreMismatchError
from dejavlad.extraction import DescriptorStore, extract
from dejavlad.extraction.patches import (
    CODECS,
    Cached,
    FreshPatches,
    PatchStore,
    PatchWriter,
    learn_codec,
    read_patchfeats,
    write_patchfeats,
)
from dejavlad.extraction.patches.store import Entry
from dejavlad.images import Preprocess
from dejavlad.model import PatchSetting, PlaceModel, Whitening
from dejavlad.photo import PhotoList

PLAIN = Preprocess(resize="none", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), scale="0-1", channels="rgb")
SETTING = PatchSetting(sizes=(2, 5), dims=24)
OLD = Path(__file__).parent.parent / "golden" / "old_formats" / "patches"


class Eighth(nn.Module):
    """Cells of 8 x 8 pixels."""

    channels, stride = 12, 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 8, stride=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images)


def made(seed: int = 0, dims: int = 32) -> PlaceModel:
    torch.manual_seed(seed)
    whitening = Whitening(48, dims)
    nn.init.normal_(whitening.weight)
    layer = NetVLAD(12, 4, epsilon="torch")
    return PlaceModel(Eighth(), layer, PLAIN, whitening=whitening, fitted=True)


@pytest.fixture
def photos(street: Path) -> PhotoList:
    return dv.photos(street / "database")


def rows(count: int, dims: int, seed: int = 0) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).normal(size=(count, dims)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def same(a: list[dv.patches.PatchSet], b: list[dv.patches.PatchSet], apart: float = 0.0) -> None:
    assert [(patch_set.grid, patch_set.size, patch_set.step) for patch_set in a] == [
        (patch_set.grid, patch_set.size, patch_set.step) for patch_set in b
    ]
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x.centres, y.centres, rtol=0, atol=0)
        torch.testing.assert_close(x.descriptors.float(), y.descriptors.float(), rtol=0, atol=apart)


@pytest.mark.parametrize(
    ("name", "dims", "apart"), [("float32", 40, 0), ("float16", 40, 5e-4), ("int8", 128, 4e-3)]
)
def test_codecs_give_back_what_they_took(name: str, dims: int, apart: float) -> None:
    codec, given = CODECS[name](), rows(300, dims)
    data = codec.encode(given, (20, 15))
    assert len(data) == codec.bytes_of(300, dims)
    back = codec.decode(np.frombuffer(data, np.uint8), (20, 15), dims).float().numpy()
    np.testing.assert_allclose(back, given, atol=apart)


def test_int8_takes_little_more_than_a_quarter() -> None:
    for dims in (128, 512, 4096):
        assert CODECS["int8"]().bytes_of(936, dims) <= 0.27 * CODECS["float32"]().bytes_of(936, dims)


def test_int8_of_a_blank_patch_is_blank() -> None:
    data = CODECS["int8"]().encode(np.zeros((2, 8), np.float32), (2, 1))
    assert not CODECS["int8"]().decode(np.frombuffer(data, np.uint8), (2, 1), 8).any()


def overlapping(grid: tuple[int, int], size: int, dims: int = 64) -> NDArray[np.float32]:
    """Sums over squares of cells, of unit length: what patches of one photo have in common."""
    h, w = (side + size - 1 for side in grid)
    sums = np.pad(rows(h * w, dims).reshape(h, w, dims), ((1, 0), (1, 0), (0, 0))).cumsum(0).cumsum(1)
    boxes = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    boxes = boxes.reshape(-1, dims)
    return np.asarray(boxes / np.linalg.norm(boxes, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("grid", [(24, 40), (1, 40), (24, 1), (1, 1)])
def test_int8_takes_from_the_neighbours_what_they_tell(grid: tuple[int, int]) -> None:
    """Errors are those of what is left, and do not add up along the grid; never above those of the patch."""
    given, codec = overlapping(grid, 5), CODECS["int8"]()
    back = codec.decode(np.frombuffer(codec.encode(given, grid), np.uint8), grid, 64).numpy()
    wrong = np.linalg.norm(back - given, axis=1).reshape(grid)
    alone = np.sqrt(64 / 12) * np.abs(given).max(axis=1).reshape(grid) / 127  # of rounding each by itself
    assert (wrong <= 1.3 * alone).all()
    for axis, parts in enumerate(grid):
        if parts > 1:
            assert wrong.mean() < 0.8 * alone.mean()
            inner = wrong.take(range(1, parts), axis)
            half = np.array_split(inner.mean(axis=1 - axis), 2)
            assert half[1].mean() < 1.5 * half[0].mean()
    if min(grid) > 1:
        assert wrong.mean() < 0.5 * alone.mean()  # four cells are left of 25


def test_int8_of_patches_with_nothing_in_common_rounds_each_by_itself() -> None:
    given, codec = rows(300, 64), CODECS["int8"]()
    back = codec.decode(np.frombuffer(codec.encode(given, (20, 15)), np.uint8), (20, 15), 64).numpy()
    np.testing.assert_array_less(np.abs(back - given).max(axis=1), 0.501 / 127 * np.abs(given).max(axis=1))


@pytest.mark.parametrize("dims", [16, 21])
def test_product_quantisation_keeps_who_is_near(dims: int) -> None:
    """Points around few centres: what is written is nearer to itself than to any other centre's points."""
    centres = rows(20, dims)
    given = centres[np.arange(600) % 20] + 0.02 * rows(600, dims, 1)
    codec = CODECS["pq"](learn_codec(given))
    data = codec.encode(given, (20, 30))
    assert len(data) == 600 * -(-dims // 8) == codec.bytes_of(600, dims)
    back = codec.decode(np.frombuffer(data, np.uint8), (20, 30), dims).numpy()
    assert ((back @ centres.T).argmax(axis=1) == np.arange(600) % 20).all()
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-5)


def test_product_quantisation_needs_patches_to_learn_from() -> None:
    with pytest.raises(InputError, match="at least 256 patches; there are 255"):
        learn_codec(rows(255, 8))


@pytest.mark.parametrize(("dtype", "apart"), [("float32", 0), ("float16", 5e-4), ("int8", 4e-3)])
def test_extract_writes_the_patches_that_the_model_makes(
    dtype: str, apart: float, photos: PhotoList, tmp_path: Path
) -> None:
    model = made()
    store = extract(model, photos, tmp_path / "db", patches=SETTING, patch_dtype=dtype)
    plain = extract(model, photos, tmp_path / "plain")
    np.testing.assert_array_equal(store.rows, plain.rows)
    patches = PatchStore.open(tmp_path / "db")
    assert len(patches) == len(photos)
    expected = model.encode_patches(photos, sizes=(2, 5), dims=24)
    for photo, patch_sets in zip(photos, expected, strict=True):
        same(patches.patches(photo.key), patch_sets, apart or 1e-6)
    assert [patch_set.grid for patch_set in expected[0]] == [(11, 15), (8, 12)]
    assert expected[0][0].centres[0].tolist() == [7.5, 7.5] and expected[0][0].step == 8


def test_product_quantised_store(photos: PhotoList, tmp_path: Path) -> None:
    model = made()
    extract(model, photos, tmp_path / "db", patches=SETTING, patch_dtype="pq")
    patches = PatchStore.open(tmp_path / "db")
    assert patches.bytes == len(photos) * (165 + 96) * 3
    exact = model.encode_patches(photos[0], sizes=(2, 5), dims=24)[0]
    similarity = [
        (a.descriptors * b.descriptors).sum(dim=1).mean()
        for a, b in zip(patches.patches(photos[0].key), exact, strict=True)
    ]
    assert min(similarity) > 0.8


def test_again_makes_nothing_anew(photos: PhotoList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    extract(model, photos, tmp_path / "db", patches=SETTING)
    before = {p.name: p.read_bytes() for p in (tmp_path / "db" / "patches").iterdir()}
    monkeypatch.setattr(model, "features", lambda _: pytest.fail("described again"))
    extract(model, photos, tmp_path / "db", patches=SETTING)
    assert {p.name: p.read_bytes() for p in (tmp_path / "db" / "patches").iterdir()} == before


def test_patches_are_added_to_a_store_without(photos: PhotoList, tmp_path: Path) -> None:
    model = made()
    extract(model, photos, tmp_path / "db")
    rows_before = DescriptorStore.open(tmp_path / "db").float32()
    with pytest.raises(StoreError, match=r"no patches in .*--patches"):
        PatchStore.open(tmp_path / "db")
    extract(model, photos, tmp_path / "db", patches=SETTING)
    assert len(PatchStore.open(tmp_path / "db")) == len(photos)
    np.testing.assert_array_equal(DescriptorStore.open(tmp_path / "db").rows, rows_before)


@pytest.mark.parametrize("stop", [1, 3, 8])
def test_cut_off_anywhere_it_goes_on(stop: int, photos: PhotoList, tmp_path: Path) -> None:
    model = made()
    extract(model, photos, tmp_path / "whole", patches=SETTING, batch_size=2)

    class Stopped(Exception):
        pass

    def stopping(progress: dv.progress.Progress) -> None:
        if progress.what == "describing photos" and progress.done >= stop:
            raise Stopped

    with pytest.raises(Stopped):
        extract(model, photos, tmp_path / "db", patches=SETTING, batch_size=2, on_progress=stopping)
    extract(model, photos, tmp_path / "db", patches=SETTING, batch_size=2)
    for name in ("patches.bin", "photos.jsonl", "manifest.json"):
        assert (tmp_path / "db/patches" / name).read_bytes() == (
            tmp_path / "whole/patches" / name
        ).read_bytes()


def test_a_store_cut_short_is_told_and_mended(photos: PhotoList, tmp_path: Path) -> None:
    model = made()
    extract(model, photos, tmp_path / "db", patches=SETTING)
    data = tmp_path / "db" / "patches" / "patches.bin"
    whole = data.read_bytes()
    data.write_bytes(whole[:-100])
    with pytest.raises(StoreError, match=r"cut short: the patches of '11.png'.*run the same"):
        PatchStore.open(tmp_path / "db")
    extract(model, photos, tmp_path / "db", patches=SETTING)
    assert data.read_bytes() == whole
    lines = tmp_path / "db" / "patches" / "photos.jsonl"
    text = lines.read_text()
    lines.write_text(text[:-20])  # the last line is cut off: its patches do not count, and are made again
    assert len(PatchStore.open(tmp_path / "db")) == len(photos) - 1
    extract(model, photos, tmp_path / "db", patches=SETTING)
    assert lines.read_text() == text and data.read_bytes() == whole


@pytest.mark.slow
def test_a_photo_that_changed_is_described_anew_and_waste_is_dropped(
    photos: PhotoList,
    tmp_path: Path,
    make_photo: Callable[..., Path],
    make_view: Callable[..., NDArray[np.uint8]],
) -> None:
    model = made()
    extract(model, photos, tmp_path / "db", patches=SETTING)
    size = (tmp_path / "db/patches/patches.bin").stat().st_size
    for turn in range(3):
        for i, photo in enumerate(photos):
            make_photo(photo.path, make_view(100 * turn + i, height=96 + 8 * turn))
        extract(model, photos, tmp_path / "db", patches=SETTING)
    patches = PatchStore.open(tmp_path / "db")
    for photo in photos:
        same(patches.patches(photo.key), model.encode_patches(photo, sizes=(2, 5), dims=24)[0], 5e-4)
    assert (tmp_path / "db/patches/patches.bin").stat().st_size < 3.2 * size
    assert not list((tmp_path / "db/patches").glob("*.partial"))


@pytest.mark.parametrize("moved", [False, True])
def test_packing_cut_off(moved: bool, photos: PhotoList, tmp_path: Path) -> None:
    """Between the new bytes' move and their lines' it is finished; before, it has not begun."""
    model = made()
    extract(model, photos, tmp_path / "db", patches=SETTING)
    folder = tmp_path / "db" / "patches"
    data, lines = (folder / "patches.bin").read_bytes(), (folder / "photos.jsonl").read_text()
    shifted = [json.loads(line) for line in lines.splitlines()]
    for entry in shifted:
        entry["offset"] += 64
        del entry["checksum"]
    packed = "".join(Entry.from_line(json.dumps(entry)).to_line() for entry in shifted)
    (folder / "packed.jsonl.partial").write_text(packed)
    if moved:
        (folder / "patches.bin").write_bytes(bytes(64) + data)
    else:
        (folder / "packed.bin.partial").write_bytes(bytes(64) + data)
    extract(model, photos, tmp_path / "db", patches=SETTING)
    assert not list(folder.glob("*.partial"))
    assert (folder / "photos.jsonl").read_text() == (packed if moved else lines)
    same(
        PatchStore.open(folder).patches("03.png"),
        model.encode_patches(photos[3], sizes=(2, 5), dims=24)[0],
        5e-4,
    )


def test_patches_made_otherwise_do_not_mix(photos: PhotoList, tmp_path: Path) -> None:
    extract(made(), photos, tmp_path / "db", patches=SETTING)
    with pytest.raises(StoreMismatchError, match=r"sizes: \(2, 5\) there, \(3,\) now"):
        extract(made(), photos, tmp_path / "db", patches=PatchSetting(sizes=(3,), dims=24))
    with pytest.raises(StoreMismatchError, match="dtype: 'float16' there, 'int8' now"):
        extract(made(), photos, tmp_path / "db", patches=SETTING, patch_dtype="int8")
    extract(made(1), photos, tmp_path / "other", patches=SETTING, patch_dtype="int8")
    first, other = PatchStore.open(tmp_path / "db"), PatchStore.open(tmp_path / "other")
    with pytest.raises(StoreMismatchError, match="model"):
        first.manifest.check_comparable(other.manifest, first.path)
    extract(made(), photos, tmp_path / "same", patches=SETTING, patch_dtype="int8")
    first.manifest.check_comparable(PatchStore.open(tmp_path / "same").manifest, first.path)


def test_one_writer(photos: PhotoList, tmp_path: Path) -> None:
    extract(made(), photos, tmp_path / "db", patches=SETTING)
    manifest = PatchStore.open(tmp_path / "db").manifest
    with PatchWriter(tmp_path / "db" / "patches", manifest), pytest.raises(StoreBusyError):
        PatchWriter(tmp_path / "db" / "patches", manifest).__enter__()


def test_foreign_files_and_formats_are_refused(photos: PhotoList, tmp_path: Path) -> None:
    extract(made(), photos, tmp_path / "db", patches=SETTING)
    folder = tmp_path / "db" / "patches"
    (folder / "diary.txt").write_text("dear")
    with pytest.raises(StoreError, match=r"holds 'diary.txt'"):
        extract(made(), photos, tmp_path / "db", patches=SETTING)
    fields = json.loads((folder / "manifest.json").read_text())
    del fields["checksum"]
    (folder / "manifest.json").write_text(json.dumps({**fields, "version": 9}))
    with pytest.raises(StoreError, match="later dejavlad"):
        PatchStore.open(folder)
    (folder / "manifest.json").write_text(json.dumps({**fields, "version": 1}))
    assert len(PatchStore.open(folder)) == len(photos)
    (folder / "manifest.json").write_text(json.dumps({**fields, "version": 1, "dtype": "int8"}))
    with pytest.raises(StoreError, match=r"earlier dejavlad, .* extract again"):
        PatchStore.open(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        PatchStore.open(folder)


def test_photos_too_small_for_a_patch_keep_their_descriptor(
    photos: PhotoList,
    tmp_path: Path,
    make_photo: Callable[..., Path],
    make_view: Callable[..., NDArray[np.uint8]],
) -> None:
    make_photo(photos[4].path, make_view(4, height=24, width=32))
    store = extract(made(), photos, tmp_path / "db", patches=SETTING)
    patches = PatchStore.open(tmp_path / "db")
    assert store.done.all() and photos[4].key not in patches and photos[3].key in patches
    assert patches.patches(photos[4].key) == []
    assert "no patch of 5x5" in patches.entries[photos[4].key].failed
    with pytest.raises(InputError, match="no patches of 'who'"):
        patches.patches("who")


def test_models_without_clusters_or_dimensions(photos: PhotoList, tmp_path: Path) -> None:
    gem = PlaceModel(Eighth(), GeM(12), PLAIN)
    with pytest.raises(InputError, match="gem"):
        extract(gem, photos, tmp_path / "db", patches=PatchSetting())
    with pytest.raises(InputError, match=r"patches of 33 dimensions.*whitening to 32"):
        extract(made(), photos, tmp_path / "db", patches=PatchSetting(dims=33))
    with pytest.raises(InputError, match="cannot be stored as 'int4'; valid: float32"):
        extract(made(), photos, tmp_path / "db", patches=SETTING, patch_dtype="int4")
    with pytest.raises(InputError, match="one stride for each size"):
        PatchSetting(sizes=(2, 5), strides=(1,))


def test_fresh_patches_within_a_budget(photos: PhotoList) -> None:
    model, calls = made(), []

    def counted(row: int) -> list[dv.patches.PatchSet]:
        calls.append(row)
        return FreshPatches(model, photos, SETTING)(row)

    patch_sets = counted(0)
    nbytes = sum(patch_set.descriptors.nbytes + patch_set.centres.nbytes for patch_set in patch_sets)
    cached = Cached(counted, budget=2 * nbytes)
    for row in (0, 1, 0, 2, 0, 1):
        same(list(cached(row)), model.encode_patches(photos[row], sizes=(2, 5), dims=24)[0], 1e-6)
    assert calls == [0, 0, 1, 2, 1]  # row 1 was dropped for row 2, row 0 never


def test_files_of_the_original_and_back(photos: PhotoList, tmp_path: Path) -> None:
    class Sixteenth(Eighth):
        stride = 16

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 12, 16, stride=16)

    model = made()
    model.backbone = Sixteenth()
    store = extract(model, photos, tmp_path / "db", patches=SETTING, patch_dtype="float32")
    patches = PatchStore.open(tmp_path / "db")
    write_patchfeats(store, patches, tmp_path / "feats")
    columns_DP = np.load(tmp_path / "feats" / "patchfeats_psize2_03.npy")
    assert (
        columns_DP.shape == (24, 5 * 7) and columns_DP.dtype == np.float32 and columns_DP.flags.c_contiguous
    )
    np.testing.assert_array_equal(columns_DP.T, patches.patches("03.png")[0].descriptors)
    np.testing.assert_array_equal(np.load(tmp_path / "feats" / "globalfeats.npy"), store.rows)
    back, feats = read_patchfeats(tmp_path / "feats", photo=(96, 128))
    np.testing.assert_array_equal(back.rows, store.rows)
    assert back.keys == store.keys
    same(feats(3), patches.patches("03.png"))
    with pytest.raises(StoreError, match=r"\[24, 35\]; a photo of 480x640 has 1131 patches of 2x2"):
        read_patchfeats(tmp_path / "feats")[1](0)
    with pytest.raises(StoreError, match=r"no 'patchfeats_psize3_00.npy'"):
        read_patchfeats(tmp_path / "feats", [3])
    (tmp_path / "feats" / "images.txt").unlink()
    with pytest.raises(StoreError, match=r"does not tell its photos.*images.txt"):
        read_patchfeats(tmp_path / "feats")


def test_one_stem_twice_is_refused(street: Path, tmp_path: Path) -> None:
    photos = dv.photos(street)
    model = made()
    store = extract(model, photos, tmp_path / "db", patches=SETTING)
    with pytest.raises(InputError, match="one stem"):
        write_patchfeats(store, PatchStore.open(tmp_path / "db"), tmp_path / "feats")
    assert not (tmp_path / "feats").exists()


def test_a_changed_number_of_patches_is_told(photos: PhotoList, tmp_path: Path) -> None:
    extract(made(), photos, tmp_path / "db", patches=SETTING)
    folder = tmp_path / "db" / "patches"
    data = (folder / "patches.bin").read_bytes()
    (folder / "patches.bin").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    store = PatchStore.open(folder)
    with pytest.raises(StoreError, match=r"the patches of '00\.png' are not what was written; delete that"):
        store.patches("00.png")
    assert store.patches("01.png")
    (folder / "patches.bin").write_bytes(data)
    for name, old, new in (
        ("photos.jsonl", '"offset":0', '"offset":8'),
        ("manifest.json", '"stride":8', '"stride":9'),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))
        with pytest.raises(StoreError, match=r"damaged: it was changed since"):
            PatchStore.open(folder)
        (folder / name).write_text(text)


def test_patches_of_an_earlier_version_open_and_go_on(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(OLD, tmp_path / "old"))
    before = PatchStore.open(folder)
    assert sorted(before.entries) == ["p0", "p1", "p2"] and before.manifest.sizes == (2,)
    (patch_set,) = before.patches("p1")
    assert patch_set.grid == (5, 7) and torch.allclose(
        patch_set.descriptors.float().norm(dim=1), torch.ones(35), atol=1e-3
    )
    with PatchWriter(folder / "patches", before.manifest) as writer:
        assert writer.has("p1", before.entries["p1"].identity)
        writer.put("p9", (1, 2, ""), [patch_set])
    after = PatchStore.open(folder)
    same(after.patches("p9"), [patch_set])
    same(after.patches("p1"), [patch_set])
