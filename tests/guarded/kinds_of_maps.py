"""Further kinds of files: what maps keep beside their rows, shards, exports, maps in a database."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kinds import KINDS as PLAIN_KINDS
from kinds import digest, model, photos, photos_of_tests, photos_that_fail, store, told_photos
from mutations import Kind

import dejavlad as dv
from dejavlad.extraction import Shard, merge_stores
from dejavlad.extraction.patches import PatchStore
from dejavlad.model import PatchSetting
from dejavlad.places.map_folder.rows import build_share

QUERIES = 4


@cache
def query_rows() -> Any:
    """float32 [Q, D] at unit length."""
    rows = np.random.default_rng(2).normal(size=(QUERIES, model().descriptor_size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def answers(opened: dv.PlaceMap, folder: Path, verify: str | None = None) -> Any:
    """All that a reader sees of a map."""
    ranking = opened.search(query_rows(), k=4)
    (answer,) = opened.locate([folder / "photos" / "03.png"], k=3, verify=verify)
    return (
        told_photos(opened.photos, folder),
        repr(opened.failed),
        digest(opened.descriptors, ranking.indices, ranking.distances),
        repr([repr(match).replace(str(folder), "") for match in answer.matches]),
        repr((answer.confidence, answer.known, answer.reason)),
    )


def make_indexed(folder: Path, kind: str) -> None:
    listed = dv.photos(photos_that_fail(folder / "photos"))
    dv.PlaceMap.build(model(), listed, folder / "map", index=kind)
    (folder / "kind").write_text(kind)


def indexed(folder: Path) -> Any:
    return answers(dv.PlaceMap.open(folder / "map"), folder)


def indexed_again(folder: Path) -> Any:
    """The next run, which looks at all of the index, and makes it anew where it is asked for."""
    built = dv.PlaceMap.build(model(), dv.photos(folder / "photos"), folder / "map")
    assert built.index is not None
    assert built.index.head() is not None or not built.index.folder.exists()
    wanted = "hnsw" if "hnsw" in (folder / "kind").read_text() else "int8"
    built = dv.PlaceMap.build(model(), dv.photos(folder / "photos"), folder / "map", index=wanted)
    assert built.index is not None
    head = built.index.head()
    assert head is not None
    return answers(built, folder), repr((head.wanted, head.kind, head.rows, head.audit))


def make_compacted(folder: Path) -> None:
    """A map without three of its photos, whose rows are in a second file."""
    for i in range(3):
        photos_of_tests.write(folder / "photos" / f"gone{i}.png", photos_of_tests.view(20 + i, 0, 32, 40))
    built = dv.PlaceMap.build(model(), dv.photos(photos(folder / "photos")), folder / "map")
    built.remove([f"gone{i}.png" for i in range(3)])
    built.compact()
    assert (folder / "map" / "rows.2.bin").exists()


def make_features(folder: Path) -> None:
    for place in range(5):
        photos_of_tests.write(folder / "photos" / f"{place:02d}.png", photos_of_tests.view(place, 0, 96, 128))
    dv.PlaceMap.build(model(), dv.photos(folder / "photos"), folder / "map", local="sift")


def features(folder: Path) -> Any:
    return answers(dv.PlaceMap.open(folder / "map"), folder, "sift")


def make_shards(folder: Path) -> None:
    listed = dv.photos(photos_that_fail(folder / "photos"))
    for index in (1, 2):
        dv.extract(
            model(),
            listed,
            folder / f"shard.{index}",
            batch_size=2,
            patches=PatchSetting(sizes=(1,)),
            shard=(index, 2),
        )


def shards(folder: Path) -> Any:
    merge_stores([folder / f"shard.{index}" for index in (1, 2)], folder / "store")
    patches = PatchStore.open(folder / "store")
    sets = [patch_set for key in sorted(patches.entries) for patch_set in patches.patches(key)]
    return store(folder), digest(*(patch_set.descriptors.float().numpy() for patch_set in sets))


def make_map_shards(folder: Path) -> None:
    listed = dv.photos(photos_that_fail(folder / "photos"))
    for index in (1, 2):
        build_share(model(), listed, folder / "map", Shard(index, 2))


def map_shards(folder: Path) -> Any:
    return answers(dv.PlaceMap.build(model(), dv.photos(folder / "photos"), folder / "map"), folder)


def make_export(folder: Path) -> None:
    from dejavlad.export.make import ExportSetting, export_model

    folder.mkdir()
    setting = ExportSetting(size=(32, 40), runtimes=(("onnxruntime", "fp32"),))
    export_model(model(), folder / "model.onnx", setting)


def make_export_folder(folder: Path) -> None:
    from dejavlad.export.exported_model import open_export

    make_export(folder)
    open_export(folder / "model.onnx", runtime="onnxruntime").save_export(folder / "model")
    for path in folder.glob("model.onnx*"):
        path.unlink()


def export(folder: Path) -> Any:
    from dejavlad.export.exported_model import open_export

    source = folder / "model" if (folder / "model").is_dir() else folder / "model.onnx"
    loaded = open_export(source, runtime="onnxruntime")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 40, 3), dtype=np.uint8)
    return loaded.fingerprint, repr(loaded.certificate), digest(loaded.encode(list(images)))


def make_database(folder: Path) -> None:
    in_cache(folder)
    dv.PlaceMap.build(model(), dv.photos(photos_that_fail(folder / "photos")), f"lance:{folder / 'db'}")
    shutil.rmtree(folder / "cache", ignore_errors=True)


def database(folder: Path) -> Any:
    in_cache(folder)
    opened = dv.PlaceMap.open(f"lance:{folder / 'db'}")
    opened.check()
    return answers(opened, folder)


def in_cache(folder: Path) -> None:
    os.environ["DEJAVLAD_CACHE_DIR"] = str(folder / "cache")


def installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in names)


def _indexed(kind: str, answer: Callable[[Path], Any] = indexed) -> Kind:
    return Kind(lambda folder: make_indexed(folder, kind), answer, ("map/index/**/*",))


MAP_FILES = ("map/*",)
KINDS: dict[str, Kind] = {
    **PLAIN_KINDS,
    **{f"map index {kind}": _indexed(kind) for kind in ("int8", "1bit", "float16")},
    "map index again": _indexed("int8", indexed_again),
    "map compacted": Kind(make_compacted, indexed, MAP_FILES),
    "map features": Kind(make_features, features, ("map/local.sqlite",)),
    "shards": Kind(make_shards, shards, ("shard.*/*", "shard.*/patches/*")),
    "map shards": Kind(make_map_shards, map_shards, ("map/*", "map/extracting*/**/*", "map/model/*")),
}
if installed("faiss"):
    KINDS |= {f"map index {kind}": _indexed(kind) for kind in ("ivf", "hnsw")}
    KINDS["map index hnsw again"] = _indexed("hnsw", indexed_again)
if installed("onnx", "onnxruntime"):
    KINDS["export"] = Kind(make_export, export, ("*.onnx*",))
    KINDS["export folder"] = Kind(make_export_folder, export, ("model/*",))
if installed("lancedb"):
    facts = ("db/photos.lance/data/*",)  # rows have checksums, names and positions have none
    KINDS["map in lance"] = Kind(make_database, database, ("db/**/*",), facts)
torch.set_num_threads(1)
