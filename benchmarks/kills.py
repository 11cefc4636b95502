"""Kills whatever writes, at random moments and at every kind of step, and runs it again: is anything lost?

    python benchmarks/kills.py --kills 500 --folder /tmp/kills

Each run is a forked process that ends by SIGKILL: half of them at a random moment, half at a chosen step that
reaches the disk (a sync, a replacement, a removal while clearing up, a commit), at times twice in a row. Then
a reader must see the state before or after, all checksums must hold, and the same run once more must end in
what a run without kills ends in. Needs fork (Linux, macOS).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

import dejavlad as dv
from dejavlad.aggregation import GeM, NetVLAD
from dejavlad.export.certificate import read_certificate
from dejavlad.export.make import ExportSetting, export_model
from dejavlad.extraction import DescriptorStore, Shard, extract, merge_stores, writer
from dejavlad.extraction.patches import PatchStore
from dejavlad.geo import Position
from dejavlad.images import Preprocess
from dejavlad.model import PatchSetting, PlaceModel, Whitening
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.map_folder.rows import build_share
from dejavlad.serve.limits import Limits
from dejavlad.serve.served_map import Models, ServedMap
from dejavlad.serve.uploads import Upload
from dejavlad.serve.writer import MapWriter
from dejavlad.storage import photo_blocks, state

PLAIN = Preprocess(resize="none", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), scale="0-1", channels="rgb")
PATCHES = PatchSetting(sizes=(2,), dims=8)
STEPS = (
    (os, ("fsync", "replace", "unlink", "rmdir")),
    (Path, ("unlink", "rmdir", "mkdir", "replace")),
    (state, ("commit", "sync_folder")),
    (photo_blocks, ("write_block",)),
)


class Cells(nn.Module):
    """A layer of cells of 8 x 8 pixels."""

    channels, stride = 12, 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 8, stride=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[n, 3, H, W] -> [n, 12, H/8, W/8]."""
        return self.conv(images)


@dataclass
class Verb:
    """A command that writes files, with how to start it."""

    name: str
    start: Callable[[Path], None]
    """Makes what is there before."""
    run: Callable[[Path], None]
    """Ends in the same state however often it is cut off."""
    content: Callable[[Path], object]
    """All that a reader sees; raises where something is not whole."""


def main() -> None:
    """Kill each command at many moments, resume it, and compare what it wrote."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    writer.COMMIT_SECONDS = 0.0
    chance = random.Random(given.seed)
    folder: Path = given.folder
    shutil.rmtree(folder, ignore_errors=True)
    scratch = folder / "tmp"
    scratch.mkdir(parents=True)
    tempfile.tempdir = str(scratch)
    try:
        kill_all(given.kills, chance, folder, scratch)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kill_all(wanted: int, chance: random.Random, folder: Path, scratch: Path) -> None:
    """Kill until that has been done so many times; `scratch` takes the system's temporary files."""
    verbs = make_verbs(folder)
    expected, seconds, steps = {}, {}, {}
    for verb in verbs:
        whole = folder / "whole" / verb.name
        whole.mkdir(parents=True)
        verb.start(whole)
        shutil.copytree(whole, folder / "start" / verb.name)
        before = verb.content(whole)
        started = time.monotonic()
        steps[verb.name] = counted(lambda verb=verb, whole=whole: verb.run(whole))
        seconds[verb.name] = time.monotonic() - started
        expected[verb.name] = before, verb.content(whole), bytes_of(whole)
    kills, rounds, reported, finished, seen = 0, 0, 0, Counter(), Counter()
    while kills < wanted:
        verb, cut = verbs[rounds % len(verbs)], folder / "cut"
        rounds += 1
        shutil.copytree(folder / "start" / verb.name, cut)
        for _ in range(chance.choice((1, 1, 2, 3))):
            step = chance.randrange(steps[verb.name] + 1) if chance.random() < 0.5 else None
            killed = run_killed(
                lambda verb=verb, cut=cut: verb.run(cut), step, chance.uniform(0, 1.1 * seconds[verb.name])
            )
            finished[verb.name] += not killed
            kills += killed
            seen[verb.name] += killed
            content = verb.content(cut)
            one_commit = not verb.name.startswith("extract") and "index" not in verb.name
            assert not one_commit or content in expected[verb.name][:2], (verb.name, kills)
        counted(lambda verb=verb, cut=cut: verb.run(cut))
        assert verb.content(cut) == expected[verb.name][1], (verb.name, kills)
        assert bytes_of(cut) == expected[verb.name][2], (
            verb.name,
            kills,
            differing(cut, expected[verb.name][2]),
        )
        for left in (cut, scratch):
            shutil.rmtree(left)
        scratch.mkdir()
        if kills // 25 > reported:
            reported = kills // 25
            print(f"{kills} kills", flush=True)
    for verb in verbs:
        print(
            f"{verb.name:13s} {seen[verb.name]:4d} kills, {steps[verb.name]:3d} steps that can be cut off at"
        )
    print(f"{kills} kills: nothing lost, equal bytes after each")


def bytes_of(folder: Path) -> dict[str, bytes]:
    """What lies there, but for locks, SQLite's order of pages and spent journals, which `content` reads."""
    return {
        path.relative_to(folder).as_posix(): b"" if path.suffix == ".sqlite" else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".lock", ".sqlite-journal")
    }


def differing(folder: Path, expected: dict[str, bytes]) -> list[str]:
    """The files that are not as expected."""
    files = bytes_of(folder)
    return [name for name in {*files, *expected} if files.get(name) != expected.get(name)]


def make_verbs(folder: Path) -> list[Verb]:
    """The commands that write descriptors, on ten made photos in `folder`."""
    rng = np.random.default_rng(0)
    for i in range(10):
        path = folder / "photos" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    (folder / "photos" / "bad.png").write_bytes(b"no photo")
    shutil.copytree(folder / "photos", folder / "elsewhere")
    photos = dv.photos(folder / "photos")
    placed = PhotoList(
        (
            Photo(p.name, p.path, position=Position(float(i), 0.0), tags=("day",))
            for i, p in enumerate(photos)
        ),
        root=photos.root,
    )
    base = dv.load_model("rootsift-vlad", device="cpu")
    model = PlaceModel(base.backbone, GeM(128), base.preprocess, fitted=True, source=base.source)
    torch.manual_seed(0)
    whitening = Whitening(48, 8)
    nn.init.normal_(whitening.weight)
    patching = PlaceModel(Cells(), NetVLAD(12, 4, epsilon="torch"), PLAIN, whitening=whitening, fitted=True)

    def built(sample: PhotoList) -> Callable[[Path], None]:
        return lambda out: void(dv.PlaceMap.build(model, sample, out / "map", batch_size=2))

    def opened(out: Path) -> dv.PlaceMap:
        return dv.PlaceMap(out / "map", model)

    def map_told(out: Path) -> object:
        if not (out / "map" / "map.sqlite").exists():
            return None
        town = opened(out)
        assert town.check()
        return list(town.photos), np.array(town.descriptors).tobytes(), dict(town.failed)

    def remove(out: Path) -> None:
        town = opened(out)
        keys = [key for key in ("1.png", "5.png") if key in town.photos.keys]
        if keys:
            town.remove(keys)

    def removed(out: Path) -> None:
        built(photos)(out)
        opened(out).remove([f"{i}.png" for i in range(0, 10, 2)])

    def move(out: Path) -> None:
        town = opened(out)
        if town.photos.root != folder / "elsewhere":
            town.move(folder / "photos", folder / "elsewhere")

    def described(patches: bool) -> Callable[[Path], None]:
        def run(out: Path) -> None:
            extract(patching, photos, out / "db", batch_size=2, patches=PATCHES if patches else None)

        return run

    def store_told(out: Path) -> object:
        if not (out / "db" / "manifest.json").exists() or (out / "db" / "change.partial").exists():
            return None
        store = DescriptorStore.open(out / "db")
        assert len(store.rows)
        if (out / "db" / "patches" / "photos.jsonl").exists() and (out / "db/patches/manifest.json").exists():
            patches = PatchStore.open(out / "db")
            for key in patches.entries:
                patches.patches(key)
        return None

    def shard(index: int, out: Path) -> None:
        extract(patching, photos, out / f"shard.{index}", batch_size=2, patches=PATCHES, shard=(index, 3))

    def shards(out: Path) -> None:
        for index in (1, 2, 3):
            shard(index, out)

    def merge(out: Path) -> None:
        merge_stores([out / f"shard.{index}" for index in (3, 1, 2)], out / "db")

    def shards_of_map(out: Path) -> None:
        for index in (1, 2):
            build_share(model, photos, out / "map", Shard(index, 2), batch_size=2)

    def indexed(kind: str) -> Callable[[Path], None]:
        return lambda out: void(dv.PlaceMap.build(model, photos, out / "map", batch_size=2, index=kind))

    def indexed_told(out: Path) -> object:
        content = map_told(out)
        if content is not None:
            town = opened(out)
            rows_ND = np.asarray(town.descriptors)
            exact = dv.build_index("flat", rows_ND).search(rows_ND, len(rows_ND))
            assert np.array_equal(town.search(rows_ND, k=len(rows_ND)).indices, exact.indices)
            head = None if town.index is None else town.index.head()
            return *content, None if head is None else head.audit
        return content

    uploads = [Upload(f"{i}.png", (folder / "photos" / f"{i}.png").read_bytes()) for i in (7, 8, 9)]

    def serve_add(out: Path) -> None:
        writer = MapWriter(Limits(), 2)
        served = ServedMap("map", str(out / "map"), Models(), "cpu", "fp32")
        job = writer.add(served, uploads, Position(3.0, 4.0, "32N"))
        while job.state in ("queued", "running"):
            time.sleep(0.01)
        assert job.state == "done", job

    def served_told(out: Path) -> object:
        content = map_told(out)
        assert isinstance(content, tuple)
        return repr(content[0]).replace(str(out), "."), *content[1:]

    def export(out: Path) -> None:
        setting = ExportSetting(size=(48, 64), runtimes=(("onnxruntime", "fp32"),))
        export_model(patching, out / "model.onnx", setting)

    def export_told(out: Path) -> object:
        return read_certificate(out / "model.onnx") if (out / "model.onnx").exists() else None

    def nothing(out: Path) -> None:
        pass

    return [
        Verb("map build", nothing, built(photos), map_told),
        Verb("map add", built(photos[:4]), lambda out: void(opened(out).add(photos, batch_size=2)), map_told),
        Verb("map correct", built(photos), built(placed), map_told),
        Verb("map remove", built(photos), remove, map_told),
        Verb("map compact", removed, lambda out: void(opened(out).compact()), map_told),
        Verb("map move", built(photos), move, map_told),
        Verb("map index", built(photos), indexed("int8"), indexed_told),
        Verb("map index anew", indexed("1bit"), indexed("hnsw"), indexed_told),
        Verb("map and index", nothing, indexed("1bit"), indexed_told),
        Verb("serve add", built(photos[:4]), serve_add, served_told),
        Verb("export", nothing, export, export_told),
        Verb("map of shards", shards_of_map, built(photos), map_told),
        Verb("extract", nothing, described(False), store_told),
        Verb("extract shard", nothing, lambda out: shard(2, out), store_told),
        Verb("store merge", shards, merge, store_told),
        Verb("extract more", described(False), described(True), store_told),
        Verb(
            "extract part",
            lambda out: void(extract(patching, photos[:5], out / "db")),
            described(True),
            store_told,
        ),
    ]


def void(_: object) -> None:
    """Discard a result, so that an expression can stand for a command that returns nothing."""


def hook(at: int | None) -> list[int]:
    """Counts the steps that reach the disk, and ends the process at one of them."""
    count = [0]

    def hooked(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def step(*args: object, **options: object) -> object:
            if count[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)
            count[0] += 1
            return real(*args, **options)

        setattr(owner, name, step)

    for owner, names in STEPS:
        for name in names:
            hooked(owner, name)
    return count


def counted(run: Callable[[], None]) -> int:
    """How many steps a run has; it runs in another process."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        count = hook(None)
        run()
        os.write(write, str(count[0]).encode())
        os._exit(0)
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0
    return int(os.read(read, 100))


def run_killed(run: Callable[[], None], step: int | None, seconds: float) -> bool:
    """Run in another process and kill it at a step, or after some seconds; whether it was killed."""
    child = os.fork()
    if not child:
        try:
            if step is not None:
                hook(step)
            run()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    if step is None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    main()
