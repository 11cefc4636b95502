"""Shards of an extraction: merged, they are in every byte what one process writes; all else is refused."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import dejavlad as dv
from dejavlad.errors import InputError, StoreError, StoreMismatchError
from dejavlad.extraction import DescriptorStore, Shard, extract, merge_stores, writer
from dejavlad.extraction.merge import MERGING
from dejavlad.photo import PhotoList
from extraction.test_extraction_patches import SETTING, made
from extraction.test_extraction_resume import Tiny, contents, listed, touch, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fourteen photos of two sizes, two of them damaged: one at its head, one behind it."""
    for i in range(14):
        write(tmp_path / "photos" / "ab"[i % 2] / f"{i // 2}.png", i, 8 + 4 * (i % 3 == 0))
    (tmp_path / "photos" / "a" / "3.png").write_bytes(b"no photo")
    whole = (tmp_path / "photos" / "b" / "1.png").read_bytes()
    (tmp_path / "photos" / "b" / "1.png").write_bytes(whole[:60])
    return tmp_path / "photos"


def shards(
    photos: PhotoList, out: Path, count: int, model: Tiny | None = None, **options: object
) -> list[Path]:
    folders = [out / f"{i}-{count}" for i in range(1, count + 1)]
    for i, path in enumerate(folders, 1):
        extract(model or Tiny(), photos, path, shard=(i, count), **{"batch_size": 3, **options})  # type: ignore[arg-type]
    return folders


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("count", [1, 2, 3, 7])  # the last: more shards than batches
def test_merged_shards_are_what_one_process_writes(
    folder: Path, tmp_path: Path, count: int, dtype: str
) -> None:
    photos = listed(folder)
    model = Tiny()
    extract(model, photos, tmp_path / "whole", batch_size=3, dtype=dtype)
    many = Tiny()
    paths = shards(photos, tmp_path, count, many, dtype=dtype)
    assert many.batches == model.batches  # no batch is described twice
    random.Random(0).shuffle(paths)
    reports: list[dv.progress.Progress] = []
    store = merge_stores(paths, tmp_path / "merged", on_progress=reports.append)
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")
    assert store.complete and set(store.failed) == {"a/3.png", "b/1.png"}
    assert (reports[-1].what, reports[-1].done, reports[-1].total) == (MERGING, 14, 14)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "merged").iterdir() if p.name != "writer.lock"}
    merge_stores(paths, tmp_path / "merged")  # once more is nothing
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_shards_of_a_list_that_was_named_in_two_ways_are_merged(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    lines = [f"../photos/{path.relative_to(folder).as_posix()}" for path in sorted(folder.rglob("*.png"))]
    (lists / "all.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(lists)
    paths = [tmp_path / "1", tmp_path / "2"]
    for i, name in enumerate((lists / "all.txt", Path("all.txt"))):
        extract(Tiny(), dv.photos(name), paths[i], shard=(i + 1, 2), batch_size=3)
    assert len(merge_stores(paths, tmp_path / "merged").failed) == 2


def test_a_shard_is_a_store_of_its_own_photos_and_no_whole_one(folder: Path, tmp_path: Path) -> None:
    photos = listed(folder)
    paths = shards(photos, tmp_path, 3)
    opened = [DescriptorStore.open(path, shards=True) for path in paths]
    assert [store.shard for store in opened] == [Shard(1, 3), Shard(2, 3), Shard(3, 3)]
    assert sorted(key for store in opened for key in store.keys) == sorted(photos.keys)
    with pytest.raises(StoreError, match="is shard 2/3 of a store: merge all 3 first"):
        DescriptorStore.open(paths[1])
    model = Tiny()
    for path, shard in ((paths[0], None), (paths[0], "2/3"), (paths[0], "1/2")):
        with pytest.raises(StoreMismatchError, match=r"share of the photos: 'shard 1/3' there"):
            extract(model, photos, path, batch_size=3, shard=shard)
    extract(model, photos, tmp_path / "whole", batch_size=3)
    model.batches = 0
    with pytest.raises(StoreMismatchError, match="'a whole store' there, 'shard 1/3' now"):
        extract(model, photos, tmp_path / "whole", batch_size=3, shard=(1, 3))
    extract(model, photos, paths[0], batch_size=3, shard="1/3")
    assert model.batches == 0  # all there


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/2/3", (0, 2), (3, 2)])
def test_shards_that_are_none_are_refused(folder: Path, tmp_path: Path, shard: object) -> None:
    with pytest.raises(InputError, match="give I/N"):
        extract(Tiny(), listed(folder), tmp_path / "s", shard=shard)  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()


def test_missing_repeated_foreign_and_unfinished_shards_are_all_named(folder: Path, tmp_path: Path) -> None:
    photos = listed(folder)
    paths = shards(photos, tmp_path, 4)
    shutil.copytree(paths[1], tmp_path / "again")
    other = shards(photos[:9], tmp_path / "other", 4)
    extract(Tiny(), photos, tmp_path / "whole", batch_size=3)
    done = np.load(paths[0] / "done.npy")
    done[0] = 0
    np.save(paths[0] / "done.npy", done)
    with pytest.raises(StoreError) as caught:
        merge_stores([paths[0], paths[1], tmp_path / "again", tmp_path / "whole", other[2]], tmp_path / "out")
    message = str(caught.value)
    for part in (
        "'whole' is a whole store, not a shard",
        "shard 2/4 is given twice",
        "shard 1/4 in",
        "is not finished, 1 photos are left",
        "is shard 3/4 of another extraction: a list of 9 photos, not 14",
        "shards 3, 4 are missing of 4: `dejavlad extract tiny PHOTOS --shard 3/4 --out STORE`",
    ):
        assert part.replace("'whole'", repr(str(tmp_path / "whole"))) in message, (part, message)
    assert "\n" not in message
    assert not (tmp_path / "out").exists()
    with pytest.raises(StoreError, match="give the shards to merge"):
        merge_stores([], tmp_path / "out")
    with pytest.raises(StoreError, match="is one of the shards"):
        merge_stores(paths, paths[0])
    with pytest.raises(StoreError, match="there is nothing"):
        merge_stores([tmp_path / "nowhere"], tmp_path / "out")


class Other(Tiny):
    fingerprint = "e" * 64


def test_what_makes_a_shard_foreign_is_told(folder: Path, tmp_path: Path) -> None:
    photos = listed(folder)
    first = shards(photos, tmp_path, 3)[:2]

    def refused(path: Path, match: str) -> None:
        with pytest.raises(StoreError, match=match):
            merge_stores([*first, path], tmp_path / "out")
        shutil.rmtree(path)

    out = tmp_path / "third"
    extract(Other(), photos, out, batch_size=3, shard=(3, 3))
    refused(out, r"3/3 of another extraction: model 'tiny \(eeeeeeeeeeee\)', not 'tiny \(ffffffffffff\)'")
    extract(Tiny(), photos, out, batch_size=2, shard=(3, 3))
    refused(out, "--batch-size 2, not 3")
    extract(Tiny(), photos, out, batch_size=3, shard=(3, 4))
    refused(out, "3/4 of another extraction: of 4 shards, unlike .* of 3")
    extract(Tiny(), photos, out, batch_size=3, shard=(3, 3), dtype="float16")
    refused(out, "dtype 'float16', not 'float32'")
    extract(Tiny(), photos[:13], out, batch_size=3, shard=(3, 3))
    refused(out, "a list of 13 photos, not 14, 'b/6.png' is in one alone")
    extract(Tiny(), photos.take(range(13, -1, -1)), out, batch_size=3, shard=(3, 3))
    refused(out, "in another order")
    touch(folder / "a" / "0.png")
    extract(Tiny(), photos, out, batch_size=3, shard=(3, 3))
    refused(out, r"1 photos have another size or time, e.g. 'a/0.png'.*cp -a")
    assert not (tmp_path / "out").exists()


def test_what_lies_at_out_is_not_written_over(folder: Path, tmp_path: Path) -> None:
    photos = listed(folder)
    paths = shards(photos, tmp_path, 2)
    extract(Tiny(), photos[:5], tmp_path / "out", batch_size=3)
    before = contents(tmp_path / "out")
    with pytest.raises(StoreMismatchError, match="another list or model"):
        merge_stores(paths, tmp_path / "out")
    with pytest.raises(StoreMismatchError, match="share of the photos"):
        merge_stores(paths, shards(photos, tmp_path / "other", 2)[0])
    assert contents(tmp_path / "out") == before


def test_a_row_that_is_not_what_was_written_ends_the_merge(folder: Path, tmp_path: Path) -> None:
    paths = shards(listed(folder), tmp_path, 2)
    data = bytearray((paths[1] / "rows.npy").read_bytes())
    data[-3] ^= 1
    (paths[1] / "rows.npy").write_bytes(data)
    with pytest.raises(StoreError, match=r"rows.npy' is damaged: the row of .*; delete that shard"):
        merge_stores(paths, tmp_path / "out")
    assert not DescriptorStore.open(tmp_path / "out").complete


def test_a_shard_goes_on_after_its_list_has_changed(folder: Path, tmp_path: Path) -> None:
    paths = shards(listed(folder), tmp_path, 2)
    write(folder / "c" / "new.png", 99)
    write(folder / "a" / "3.png", 98)  # it can be read now
    photos = listed(folder)
    assert shards(photos, tmp_path, 2) == paths
    extract(Tiny(), photos, tmp_path / "whole", batch_size=3)
    merge_stores(paths, tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")


def test_a_list_without_any_photo_that_can_be_described(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(3):
        (tmp_path / "photos" / f"{i}.png").write_bytes(b"no photo")
    paths = shards(listed(tmp_path / "photos"), tmp_path, 2)
    with pytest.raises(InputError, match="none of the 3 photos"):
        merge_stores(paths, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "int8", "pq"])
def test_patches_are_merged_too(street: Path, tmp_path: Path, dtype: str) -> None:
    photos, model = dv.photos(street / "database"), made()
    options = {"batch_size": 2, "patches": SETTING, "patch_dtype": dtype}
    extract(model, photos, tmp_path / "whole", **options)  # type: ignore[arg-type]
    paths = [tmp_path / str(i) for i in (1, 2, 3)]
    for i, path in enumerate(paths, 1):
        extract(model, photos, path, shard=(i, 3), **options)  # type: ignore[arg-type]
    merge_stores(paths, tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")
    shutil.rmtree(paths[1] / "patches")
    with pytest.raises(StoreError, match="shards 2/3 have no patches; run them again with --patches"):
        merge_stores(paths, tmp_path / "again")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_merge_killed_at_any_step_goes_on(
    street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, model = dv.photos(street / "database"), made()
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.0)
    extract(model, photos, tmp_path / "whole", batch_size=2, patches=SETTING)
    paths = [tmp_path / "1", tmp_path / "2"]
    for i, path in enumerate(paths, 1):
        extract(model, photos, path, batch_size=2, patches=SETTING, shard=(i, 2))
    out, step, killed = tmp_path / "merged", 0, True
    real = os.fsync
    while killed:
        shutil.rmtree(out, ignore_errors=True)
        child = os.fork()
        if not child:
            steps = iter(range(10**6))

            def fsync(handle: int, steps=steps, step=step) -> None:  # type: ignore[no-untyped-def]
                if next(steps) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                real(handle)

            os.fsync = fsync
            merge_stores(paths, out)
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if killed and (out / "manifest.json").exists() and not (out / "change.partial").exists():
            whole = contents(out) == contents(tmp_path / "whole")  # killed behind the last write
            assert DescriptorStore.open(out).complete == whole
        merge_stores(paths, out)
        assert contents(out) == contents(tmp_path / "whole")
        step += 1
    assert step > 8
