"""Extraction ends in the same bytes wherever it was cut off, and computes anew what changed, nothing else."""

import json
import os
import signal
import sys
from pathlib import Path

import cv2
import filelock
import numpy as np
import pytest
import torch

from dejavlad.errors import InputError, StoreBusyError, StoreError, StoreMismatchError
from dejavlad.extraction import DescriptorStore, describe, extract, writer
from dejavlad.images import Preprocess
from dejavlad.photo import Photo, PhotoList
from warm_processes import start

PLAIN = Preprocess(resize="none", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale="0-1", channels="rgb")


class Tiny:
    """A model whose rows also depend, a little, on the whole batch: another plan gives other bytes."""

    preprocess = PLAIN
    precision = "fp32"
    name = "tiny"
    fingerprint = "f" * 64
    descriptor_size = 5

    def __init__(self) -> None:
        self.batches = 0

    def require_fitted(self) -> None:
        pass

    def describe(self, images: torch.Tensor) -> torch.Tensor:
        self.batches += 1
        flat_nP = images.reshape(len(images), -1)
        rows_nD = torch.stack([flat_nP[:, i::5].mean(dim=1) for i in range(5)], dim=1)
        return rows_nD + 1e-3 * rows_nD.mean()


def write(path: Path, seed: int, height: int = 8, width: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    assert cv2.imwrite(str(path), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve photos of two sizes in two folders, equal basenames among them."""
    for i in range(12):
        write(tmp_path / "photos" / "ab"[i % 2] / f"{i // 2}.png", i, 8 + 4 * (i % 3 == 0))
    return tmp_path / "photos"


def listed(root: Path, *names: str) -> PhotoList:
    names = names or tuple(sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png")))
    return PhotoList((Photo(name, root / name) for name in names), root=root, name="twelve")


def contents(store: Path) -> dict[str, bytes]:
    files = {p.relative_to(store).as_posix(): p.read_bytes() for p in store.rglob("*") if p.is_file()}
    files.pop("writer.lock", None)
    return files


def without_checksums(store: Path) -> None:
    """Make a store one of an earlier version."""
    manifest = json.loads((store / "manifest.json").read_text())
    del manifest["checksum"]
    (store / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":")))
    (store / "sums.npy").unlink()


def touch(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_are_the_models_and_the_store_tells_of_its_photos(
    folder: Path, tmp_path: Path, dtype: str
) -> None:
    photos = listed(folder)
    store = extract(Tiny(), photos, tmp_path / "s", batch_size=3, dtype=dtype)
    rows, failed = describe(Tiny(), photos, batch_size=3)
    assert isinstance(store.rows, np.memmap)
    assert store.rows.dtype == dtype
    np.testing.assert_array_equal(store.rows, rows.astype(dtype))
    np.testing.assert_array_equal(store.float32([3, 1]), rows[[3, 1]].astype(dtype).astype(np.float32))
    assert store.complete and store.done.all() and not store.failed and not failed
    assert store.keys == photos.keys
    assert [p.path for p in store.photos] == [p.path for p in photos]
    table = store.manifest.table
    assert table.bytes.tolist() == [p.path.stat().st_size for p in photos]
    assert table.mtime_ns.tolist() == [p.path.stat().st_mtime_ns for p in photos]
    assert {tuple(size) for size in table.sizes.tolist()} == {(8, 10), (12, 10)}
    assert sorted(np.concatenate(store.manifest.batches)) == list(range(12))


def test_workers_do_not_change_a_byte(folder: Path, tmp_path: Path) -> None:
    extract(Tiny(), listed(folder), tmp_path / "a", batch_size=3)
    extract(Tiny(), listed(folder), tmp_path / "b", batch_size=3, workers=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_complete_store_is_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    extract(Tiny(), listed(folder), tmp_path / "s", batch_size=3)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "s").iterdir() if p.name != "writer.lock"}
    reports = []
    model = Tiny()
    extract(model, listed(folder), tmp_path / "s", batch_size=3, on_progress=reports.append)
    assert model.batches == 0
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert (reports[-1].done, reports[-1].total, reports[-1].resumed) == (12, 12, 12)


class Killed(BaseException):
    """Ends a run at once; after it nothing reaches the disk any more."""


@pytest.mark.slow
def test_cut_off_at_every_step_it_resumes_to_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a" / "9.png").write_bytes(b"no image")  # a photo that fails is part of the story
    write(folder / "b" / "9.png", 99)
    truncated = (folder / "b" / "9.png").read_bytes()
    (folder / "b" / "9.png").write_bytes(truncated[: len(truncated) // 2])
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.0)
    extract(Tiny(), listed(folder), tmp_path / "whole", batch_size=3)
    whole = contents(tmp_path / "whole")
    steps_left = -1

    def hooked(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def step(*args: object, **options: object) -> object:
            nonlocal steps_left
            if steps_left == 0:
                raise Killed
            steps_left -= 1
            return real(*args, **options)

        monkeypatch.setattr(owner, name, step)

    hooked(os, "fsync")
    hooked(os, "replace")
    hooked(Tiny, "describe")
    for name in ("unlink", "rmdir", "mkdir"):
        hooked(Path, name)
    killed_at = 0
    while True:
        out = tmp_path / f"cut{killed_at}"
        try:
            steps_left = killed_at
            extract(Tiny(), listed(folder), out, batch_size=3)
            break  # it ran through: every step has been cut off at
        except Killed:
            steps_left = killed_at % 7  # once more in the resumed run
        try:
            extract(Tiny(), listed(folder), out, batch_size=3)
        except Killed:
            steps_left = -1
            extract(Tiny(), listed(folder), out, batch_size=3)
        assert contents(out) == whole, f"killed at step {killed_at}"
        killed_at += 1
    assert killed_at > 20


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_extraction_resume import Tiny, extract, listed, writer
writer.COMMIT_SECONDS = 0.0
def tell(report):
    print(report.what == "describing photos" and report.done - report.resumed, flush=True)
_, _, photos, out, workers = sys.argv
extract(Tiny(), listed(Path(photos)), out, batch_size=1, workers=int(workers), on_progress=tell)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for i in range(150):
        write(photos / f"{i:03}.png", i)
    extract(Tiny(), listed(photos), tmp_path / "whole", batch_size=1)
    rng = np.random.default_rng()
    for workers in ("2", "0"):
        words = Path(__file__).parent, photos, tmp_path / "cut", workers
        moment = rng.integers(1, 30)
        with start(CHILD, *words, stdout=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if line.strip().isdigit() and int(line) >= moment:
                    child.send_signal(signal.SIGKILL)
                    break
            assert child.wait() == -signal.SIGKILL
    assert 2 <= DescriptorStore.open(tmp_path / "cut").done.sum() < 150
    model = Tiny()
    store = extract(model, listed(photos), tmp_path / "cut", batch_size=1)  # no stale lock stands in the way
    assert store.complete and model.batches < 150
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_ctrl_c_keeps_what_is_finished(folder: Path, tmp_path: Path) -> None:
    def stop(report: object) -> None:
        if report.what == "describing photos" and report.done >= 6:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(Tiny(), listed(folder), tmp_path / "s", batch_size=3, on_progress=stop)
    part = DescriptorStore.open(tmp_path / "s")
    kept = int(part.done.sum())
    assert 6 <= kept < 12 and not part.complete
    reports = []
    extract(Tiny(), listed(folder), tmp_path / "s", batch_size=3, on_progress=reports.append)
    assert reports[-1].resumed == kept
    extract(Tiny(), listed(folder), tmp_path / "whole", batch_size=3)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_a_changed_photo_is_computed_anew_with_its_batch_alone(folder: Path, tmp_path: Path) -> None:
    extract(Tiny(), listed(folder), tmp_path / "s", batch_size=3)
    write(folder / "a" / "0.png", 77, 12)
    touch(folder / "a" / "0.png")
    model = Tiny()
    extract(model, listed(folder), tmp_path / "s", batch_size=3)
    assert model.batches == 1
    extract(Tiny(), listed(folder), tmp_path / "fresh", batch_size=3)
    assert contents(tmp_path / "s") == contents(tmp_path / "fresh")


def test_photos_added_removed_and_moved_end_as_a_fresh_run_would(folder: Path, tmp_path: Path) -> None:
    names = listed(folder).keys
    extract(Tiny(), listed(folder), tmp_path / "s", batch_size=2)
    write(folder / "c.png", 123)
    for i, changed in enumerate(
        ([*names, "c.png"], names[:5], [*reversed(names)], names[2:], ["c.png", *names])
    ):
        model = Tiny()
        extract(model, listed(folder, *changed), tmp_path / "s", batch_size=2)
        fresh = Tiny()
        extract(fresh, listed(folder, *changed), tmp_path / f"fresh{i}", batch_size=2)
        assert contents(tmp_path / "s") == contents(tmp_path / f"fresh{i}")
        if i == 0:
            assert model.batches == 1 < fresh.batches


def test_another_batch_size_keeps_what_is_finished(folder: Path, tmp_path: Path) -> None:
    def stop(report: object) -> None:
        if report.what == "describing photos" and report.done >= 6:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(Tiny(), listed(folder), tmp_path / "s", batch_size=6, on_progress=stop)
    before = DescriptorStore.open(tmp_path / "s").float32()
    model = Tiny()
    store = extract(model, listed(folder), tmp_path / "s", batch_size=1)
    kept = before.any(axis=1)
    assert store.done.all() and 0 < model.batches == 12 - kept.sum()
    np.testing.assert_array_equal(store.float32()[kept], before[kept])
    extract(model, listed(folder), tmp_path / "s", batch_size=1)
    assert model.batches == 12 - kept.sum()


def test_failed_photos_are_listed_keep_their_slot_and_are_tried_again(folder: Path, tmp_path: Path) -> None:
    photos = listed(folder)
    good = (folder / "a" / "1.png").read_bytes()
    stat = (folder / "a" / "1.png").stat()
    (folder / "a" / "1.png").write_bytes(good[:-30])  # its header still reads, so the plan stays
    os.utime(folder / "a" / "1.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (folder / "b" / "2.png").unlink()
    store = extract(Tiny(), photos, tmp_path / "s", batch_size=3)
    assert sorted(store.failed) == ["a/1.png", "b/2.png"]
    assert store.complete and store.done.sum() == 10
    assert not store.rows[~store.done].any()
    model = Tiny()
    again = extract(model, photos, tmp_path / "s", batch_size=3)
    assert model.batches == 0 and again.failed == store.failed
    (folder / "a" / "1.png").write_bytes(good)
    assert sorted(extract(Tiny(), photos, tmp_path / "s", batch_size=3).failed) == ["b/2.png"]
    write(folder / "b" / "2.png", 5)
    assert extract(Tiny(), photos, tmp_path / "s", batch_size=3).done.all()
    extract(Tiny(), photos, tmp_path / "fresh", batch_size=3)
    assert contents(tmp_path / "s") == contents(tmp_path / "fresh")


def test_reasons_that_were_lost_are_told_again_by_the_next_run(folder: Path, tmp_path: Path) -> None:
    photos = listed(folder)
    broken = folder / "a" / "1.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    (folder / "b" / "2.png").unlink()
    store = extract(Tiny(), photos, tmp_path / "s", batch_size=3)
    before = contents(tmp_path / "s")
    (tmp_path / "s" / "failed.json").write_text("{}")
    with pytest.raises(StoreError, match=r"failed.json does not name 'a/1.png'"):
        DescriptorStore.open(tmp_path / "s")
    without_checksums(tmp_path / "s")  # stores of earlier versions had none, and may have lost reasons
    lost = DescriptorStore.open(tmp_path / "s").failed
    assert list(lost) == list(store.failed) and all(
        "no longer in failed.json" in why for why in lost.values()
    )
    assert extract(Tiny(), photos, tmp_path / "s", batch_size=3).failed == store.failed
    assert contents(tmp_path / "s") == before


def test_a_photo_too_small_for_the_model_fails_alone(folder: Path, tmp_path: Path) -> None:
    class Picky(Tiny):
        def describe(self, images: torch.Tensor) -> torch.Tensor:
            if images.shape[2] < 2:
                raise InputError("the network needs photos of at least 2 pixels")
            return super().describe(images)

    write(folder / "one.png", 1, 1, 1)
    store = extract(Picky(), listed(folder), tmp_path / "s")
    assert store.failed == {"one.png": "the network needs photos of at least 2 pixels"}
    assert store.done.sum() == 12


def test_nothing_to_describe_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photos"):
        extract(Tiny(), PhotoList([]), tmp_path / "s")
    with pytest.raises(InputError, match=r"none of the 2 photos of twelve.*'x\.png'"):
        extract(Tiny(), listed(folder, "x.png", "y.png"), tmp_path / "s")
    with pytest.raises(InputError, match="none of the 2"):
        describe(Tiny(), listed(folder, "x.png", "y.png"))

    class Unfitted(Tiny):
        def require_fitted(self) -> None:
            raise InputError("not fitted")

    with pytest.raises(InputError, match="not fitted"):
        extract(Unfitted(), listed(folder), tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_rows_that_are_not_finite_are_refused_by_the_photos_name(folder: Path, tmp_path: Path) -> None:
    class Broken(Tiny):
        def describe(self, images: torch.Tensor) -> torch.Tensor:
            rows = super().describe(images)
            rows[-1, 2] = torch.nan
            return rows

    with pytest.raises(InputError, match=r"tiny describes '[ab]/.\.png' by NaN"):
        extract(Broken(), listed(folder), tmp_path / "s")
    assert not DescriptorStore.open(tmp_path / "s").done.any()
    with pytest.raises(InputError, match="NaN"):
        describe(Broken(), listed(folder))


def test_rows_of_another_setting_are_refused_and_named(folder: Path, tmp_path: Path) -> None:
    extract(Tiny(), listed(folder), tmp_path / "s")
    before = contents(tmp_path / "s")
    changes = {
        "fingerprint": "0" * 64,
        "precision": "bf16",
        "descriptor_size": 6,
        "preprocess": Preprocess(
            resize="longest:16", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale="0-1", channels="rgb"
        ),
    }
    named = {"fingerprint": "model", "descriptor_size": "dims", "preprocess": "preprocess.resize"}
    for key, value in changes.items():
        model = Tiny()
        setattr(model, key, value)
        with pytest.raises(StoreMismatchError) as caught:
            extract(model, listed(folder), tmp_path / "s")
        assert list(caught.value.differences) == [named.get(key, key)]
    with pytest.raises(StoreMismatchError, match="dtype: 'float32' there, 'float16' now"):
        extract(Tiny(), listed(folder), tmp_path / "s", dtype="float16")
    assert contents(tmp_path / "s") == before


def test_a_second_writer_is_refused(folder: Path, tmp_path: Path) -> None:
    extract(Tiny(), listed(folder), tmp_path / "s")
    with (
        filelock.FileLock(tmp_path / "s" / "writer.lock"),
        pytest.raises(StoreBusyError, match="another run"),
    ):
        extract(Tiny(), listed(folder), tmp_path / "s")
    extract(Tiny(), listed(folder), tmp_path / "s")


def test_a_full_disk_loses_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract(Tiny(), listed(folder), tmp_path / "whole", batch_size=3)
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.0)
    real, left = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "No space left on device")
        real(handle)

    for left in range(0, 15, 2):
        allowed = left
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StoreError, match=r"No space left on device; what was finished is kept"):
                extract(Tiny(), listed(folder), tmp_path / f"s{allowed}", batch_size=3)
        extract(Tiny(), listed(folder), tmp_path / f"s{allowed}", batch_size=3)
        assert contents(tmp_path / f"s{allowed}") == contents(tmp_path / "whole")


def test_a_read_only_folder_is_told_in_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match=r"cannot write to .*: Read-only file system") as caught:
        extract(Tiny(), listed(folder), tmp_path / "s")
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else_is_refused_and_left_alone(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    with pytest.raises(StoreError, match="not a store of descriptors: it holds"):
        extract(Tiny(), listed(folder), folder)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        extract(Tiny(), listed(folder), tmp_path / "file")
    assert contents(folder) == before


def test_a_network_describes_as_in_evaluation_and_stays_in_its_mode(folder: Path, tmp_path: Path) -> None:
    class Network(Tiny, torch.nn.Module):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            Tiny.__init__(self)
            self.dropout = torch.nn.Dropout(0.5)

        def describe(self, images: torch.Tensor) -> torch.Tensor:
            return self.dropout(super().describe(images))

    network = Network().train()
    store = extract(network, listed(folder), tmp_path / "s")
    np.testing.assert_array_equal(store.float32(), describe(Tiny(), listed(folder))[0])
    assert network.training and network.dropout.training


def test_arrays_are_known_by_their_content(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (6, 7, 3), dtype=np.uint8) for _ in range(6)]
    extract(Tiny(), PhotoList.from_arrays(images), tmp_path / "s", batch_size=2)
    model = Tiny()
    extract(model, PhotoList.from_arrays([im.copy() for im in images]), tmp_path / "s", batch_size=2)
    assert model.batches == 0
    images[3] = 255 - images[3]
    store = extract(model, PhotoList.from_arrays(images), tmp_path / "s", batch_size=2)
    assert model.batches == 1
    assert len(set(store.manifest.table.sha256 or [])) == 6


def test_odd_names_survive(tmp_path: Path) -> None:
    names = ["with space.png", "quo'te\".png", "new\nline.png", "日本/写真.png", "a#b.png"]
    if sys.platform == "win32":
        names = ["with space.png", "日本/写真.png", "a#b.png"]
    for i, name in enumerate(names):
        write(tmp_path / "p" / "tmp.png", i)
        (tmp_path / "p" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "p" / "tmp.png").replace(tmp_path / "p" / name)
    store = extract(Tiny(), listed(tmp_path / "p", *names), tmp_path / "s")
    assert store.keys == names and store.done.all()
    assert [photo.path for photo in store.photos] == [tmp_path / "p" / name for name in names]
