"""A small one of each kind of file, and all that is read of it; see `mutations`."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from mutations import Kind

import dejavlad as dv
from dejavlad.datasets.layouts.plain_pickle import (
    read_object_npy,
    read_pickle,
)
from dejavlad.evaluation.predictions import read_predictions
from dejavlad.extraction.patches import PatchStore
from dejavlad.ground_truth.truth_npz import (
    TruthPositions,
    read_truth_npz,
    write_truth_npz,
)
from dejavlad.model import PatchSetting, PlaceModel, load_folder
from dejavlad.photo.listing import listed_photos
from dejavlad.places.preset import load_preset
from dejavlad.positions.csv_file import read_positions
from dejavlad.positions.poses import read_poses
from dejavlad.positions.tracks import read_track
from dejavlad.report.training import write_training_page
from dejavlad.settings import Settings
from dejavlad.training import Run, TrainConfig, load_recipe, train
from dejavlad.training.context import RunContext
from dejavlad.training.data.frozen_maps import plan_frozen_maps
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.run.state import (
    State,
    load_model_tensors,
)
from dejavlad.training.steps.network import Network

TESTS = Path(__file__).resolve().parent.parent


def _module(name: str, path: Path) -> ModuleType:
    """A conftest of other tests, for the photos and networks that it makes."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


photos_of_tests = _module("photos_of_tests", TESTS / "made_photos.py")
networks_of_tests = _module("networks_of_tests", TESTS / "training" / "conftest.py")


@cache
def model() -> PlaceModel:
    made: PlaceModel = networks_of_tests.small_model("netvlad", clusters=2)
    made.fitted = True
    return made


def photos(folder: Path) -> Path:
    for place in range(5):
        photos_of_tests.write(folder / f"{place:02d}.png", photos_of_tests.view(place, 0, 32, 40))
    return folder


def digest(*arrays: Any) -> str:
    hasher = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array)
        hasher.update(f"{array.dtype}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()


def told_photos(given: dv.PhotoList, folder: Path) -> str:
    return repr(
        [
            (
                p.key,
                str(p.path).replace(str(folder), ""),
                p.position,
                p.heading,
                p.time,
                p.group,
                p.crop,
                p.frame,
            )
            for p in given
        ]
    )


def photos_that_fail(folder: Path) -> Path:
    """Photos, and one more that cannot be read, and one that shows nothing."""
    (photos(folder) / "broken.png").write_bytes(b"no photo")
    photos_of_tests.write(folder / "black.png", np.zeros((32, 40, 3), np.uint8))
    return folder


def make_store(folder: Path) -> None:
    photos_that_fail(folder / "photos")
    dv.extract(model(), dv.photos(folder / "photos"), folder / "store", batch_size=2)


def store(folder: Path) -> Any:
    stored = dv.DescriptorStore.open(folder / "store")
    index = dv.build_index("flat", stored)
    return (
        told_photos(stored.photos, folder),
        digest(stored.rows[stored.done], stored.state),
        repr(stored.failed),
        repr(stored.manifest.setting),
        repr([batch.tolist() for batch in stored.manifest.batches]),
        digest(index.search(stored, k=2).indices),
    )


def store_again(folder: Path) -> Any:
    """The next run."""
    dv.extract(model(), dv.photos(folder / "photos"), folder / "store", batch_size=2)
    return store(folder)[1]


def make_patches(folder: Path, dtype: str = "float16") -> None:
    photos(folder / "photos")
    setting = PatchSetting(sizes=(1, 2))
    dv.extract(model(), dv.photos(folder / "photos"), folder / "store", patches=setting, patch_dtype=dtype)


def patches(folder: Path) -> Any:
    stored = PatchStore.open(folder / "store")
    sets = [
        patch_set for key in stored.entries for patch_set in (stored.patches(key) if key in stored else [])
    ]
    return (
        repr(sorted((e.key, e.identity, e.failed) for e in stored.entries.values())),
        repr(stored.manifest),
        digest(
            *(patch_set.descriptors.float().numpy() for patch_set in sets),
            *(np.asarray(patch_set.centres) for patch_set in sets),
        ),
    )


def make_map(folder: Path) -> None:
    dv.PlaceMap.build(model(), dv.photos(photos_that_fail(folder / "photos")), folder / "map")


def place_map(folder: Path) -> Any:
    opened = dv.PlaceMap.open(folder / "map")
    answers = opened.locate([folder / "photos" / "03.png"], k=3)
    return (
        told_photos(opened.photos, folder),
        repr(opened.failed),
        digest(opened.descriptors),
        opened.model.fingerprint,
        repr([repr(m).replace(str(folder), "") for m in answers[0].matches]),
        repr(answers[0].confidence),
        repr(opened.info().photos),
    )


def map_again(folder: Path) -> Any:
    """The next run of the same."""
    built = dv.PlaceMap.build(model(), dv.photos(folder / "photos"), folder / "map")
    return told_photos(built.photos, folder), digest(built.descriptors)


def make_ranking(folder: Path) -> None:
    folder.mkdir()
    indices = np.array([[3, 1, 0], [2, 0, -1]])
    distances = np.array([[0.1, 0.2, 0.3], [0.5, 0.6, np.inf]], np.float32)
    dv.Ranking(indices, distances).save(folder / "ranking.npz")


def ranking(folder: Path) -> Any:
    loaded = dv.Ranking.load(next(folder.glob("ranking.*")))
    return digest(loaded.indices, loaded.distances)


def make_rows(folder: Path) -> None:
    folder.mkdir()
    np.save(folder / "ranking.npy", np.array([[3, 1, 0], [2, 0, 1]]))


def make_result(folder: Path) -> None:
    made = dv.Ranking(np.array([[0, 1], [0, 1], [2, 0]]), np.array([[0.1, 0.2]] * 3, np.float32))
    names = [f"{i}.jpg" for i in range(3)]
    town = dv.PlaceDataset.from_arrays(
        names, np.arange(6.0).reshape(3, 2) * 30, names, np.arange(6.0).reshape(3, 2) * 30
    )
    folder.mkdir()
    unread = {"database": {"0.jpg": "it cannot be read"}, "queries": {"2.jpg": "shows nothing: it is black"}}
    replace(dv.evaluate(made, town.truth, recall_at=(1, 2)), unread=unread).save(folder / "result.json")


def result(folder: Path) -> Any:
    loaded = dv.Result.load(folder)
    return loaded.to_json(), str(loaded)


def make_index(folder: Path, kind: str) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    dv.build_index(kind, rows / np.linalg.norm(rows, axis=1, keepdims=True)).save(folder / "index")


def index(folder: Path) -> Any:
    rows = np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32)
    answer = dv.open_index(folder / "index").search(rows / np.linalg.norm(rows, axis=1, keepdims=True), k=4)
    return digest(answer.indices, answer.distances)


def make_model(folder: Path) -> None:
    dv.save_model(model(), folder / "model")


def model_folder(folder: Path) -> Any:
    loaded = load_folder(folder / "model")
    return loaded.fingerprint, repr(loaded.spec)


@cache
def town() -> dv.PlaceDataset:
    made: dv.PlaceDataset = networks_of_tests.small_town(photos_of_tests.view, 4)
    return made


CONFIG = {
    **networks_of_tests.SMALL.to_dict(),
    "epochs": 1,
    "train_from": "conv3",
    "negatives": 4,
    "recall_at": (1, 2),
}


def make_run(folder: Path) -> None:
    train(TrainConfig().changed(CONFIG), networks_of_tests.small_model(), town(), town(), folder / "run")


def run(folder: Path) -> Any:
    opened = Run(folder / "run")
    state = State.load(folder / "run")
    assert state is not None
    learnt = [name for name in state.tensors if name.startswith("model/")]
    network = load_folder(opened.model("latest"))
    load_model_tensors(network, state.tensors, [name.removeprefix("model/") for name in learnt])
    page = write_training_page(folder / "run").read_text("utf-8")
    return (
        repr(opened.config),
        repr(opened.records),
        repr((opened.recalls(), opened.rank_losses(), opened.losses, opened.best())),
        page,
        digest(*(state.tensors[name].numpy() for name in sorted(state.tensors)), *state.memory),
        repr((state.epoch, state.batch, state.descriptors, state.failed)),
    )


def run_again(folder: Path) -> Any:
    """It goes on for another epoch."""
    config = TrainConfig().changed({**CONFIG, "epochs": 2})
    done = train(config, None, town(), town(), folder / "run")
    return digest(*(t.numpy() for t in State.load(done.path).tensors.values())), repr(done.losses)


def make_frozen(folder: Path) -> None:
    frozen(folder)


def frozen(folder: Path) -> Any:
    config = TrainConfig().changed({**CONFIG, "frozen_maps": "disk"})
    network = Network(networks_of_tests.small_model(), config)
    pool = PhotoPool(town(), network.model.preprocess)
    maps, _ = plan_frozen_maps(network, pool, config, folder / "maps", 0)
    assert maps is not None
    maps.fill(network, pool, RunContext(config))
    return digest(*(maps.get([number]).numpy() for number in range(len(pool))))


def make_truth(folder: Path) -> None:
    folder.mkdir()
    write_truth_npz(folder / "truth.npz", TruthPositions(np.arange(8.0).reshape(4, 2), np.ones((3, 2)), 25.0))


def truth(folder: Path) -> Any:
    positions = read_truth_npz(folder / "truth.npz")
    return digest(positions.database, positions.queries, positions.radius)


def make_dataset(folder: Path) -> None:
    photos(folder / "a")
    photos(folder / "b")
    (folder / "list.txt").write_text("".join(f"a/{i:02d}.png\n" for i in range(5)))
    lines = "".join(f"{i:02d}.png,{500000 + 30 * i},4000000,{10 * i}\n" for i in range(5))
    (folder / "where.csv").write_text("name,easting,northing,heading\n" + lines)
    (folder / "own.toml").write_text(
        'name = "own"\ndatabase = "list.txt"\nqueries = "b"\ntruth = "frames:1"\nroot = "."\n'
        'positions = "where.csv"\n'
    )


def dataset(folder: Path) -> Any:
    places = dv.open_dataset(folder / "own.toml")
    truth = places.truth
    rows = None if truth is None else [truth.positives[i].tolist() for i in range(len(places.queries))]
    return places.name, told_photos(places.database, folder), told_photos(places.queries, folder), repr(rows)


def make_recipes(folder: Path) -> None:
    folder.mkdir()
    (folder / "train.toml").write_text(TrainConfig().to_toml())
    (folder / "rerank.toml").write_text(
        'matcher = "rapid"\nsizes = [2, 5, 8]\nweights = [0.45, 0.15, 0.4]\ndepth = 50\n'
    )
    (folder / "config.toml").write_text('cache_dir = "cache"\noffline = true\n[roots]\npitts30k = "/data"\n')


def recipes(folder: Path) -> Any:
    settings = Settings.load({"DEJAVLAD_CONFIG": str(folder / "config.toml")})
    return (
        repr(load_recipe(folder / "train.toml")),
        repr(load_preset(folder / "rerank.toml")),
        repr(settings.explain()).replace(str(folder), ""),
    )


GPX = """<?xml version="1.0"?>
<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>
<trkpt lat="47.1" lon="8.1"><time>2024-05-01T12:30:00Z</time></trkpt>
<trkpt lat="47.2" lon="8.2"><time>2024-05-01T12:30:10.5Z</time></trkpt>
</trkseg></trk></gpx>
"""


def make_texts(folder: Path) -> None:
    folder.mkdir()
    lines = "# kapture format: 1.0\na.jpg, b.jpg\na.jpg, c%2C.jpg, 0.5\nd.jpg, b.jpg\n"
    (folder / "predictions.txt").write_text(lines)
    (folder / "track.gpx").write_text(GPX)
    (folder / "tum.txt").write_text("# time\n1.0 1 2 3 0 0 0 1\n2.0 2 2 3 0 0 0 1\n")
    (folder / "where.csv").write_text("name,latitude,longitude\na.jpg,47.1,8.1\nb.jpg,47.2,8.2\n")
    (folder / "list.txt").write_text("a.jpg\nsub/b.jpg\n")


def texts(folder: Path) -> Any:
    track = read_track(folder / "track.gpx")
    return (
        repr(read_predictions(folder / "predictions.txt")),
        repr(track),
        repr(read_poses(folder / "tum.txt")),
        repr(read_positions(folder / "where.csv")),
        repr(listed_photos(folder / "list.txt", seen=False).keys),
    )


def make_pickles(folder: Path) -> None:
    folder.mkdir()
    ground = np.empty((2, 2), object)
    ground[:] = [[0, np.array([1, 2])], [1, [3, 4]]]
    np.save(folder / "ground_truth_new.npy", ground, allow_pickle=True)
    gnd = {"imlist": ["a", "b"], "qimlist": ["c"], "gnd": [{"easy": [1, 2], "bbx": [1.0, 2.0, 3.5, 4.0]}]}
    (folder / "gnd.pkl").write_bytes(pickle.dumps(gnd, protocol=4))
    (folder / "old.pkl").write_bytes(pickle.dumps({**gnd, "array": np.arange(3)}, protocol=2))


def pickles(folder: Path) -> Any:
    values = [
        read_object_npy(folder / "ground_truth_new.npy"),
        *(read_pickle(folder / f"{n}.pkl") for n in ("gnd", "old")),
    ]
    return repr(values)


def make_weights(folder: Path) -> None:
    folder.mkdir()
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(3)}
    torch.save(tensors, folder / "new.pth")
    torch.save(tensors, folder / "old.pth", _use_new_zipfile_serialization=False)
    np.savez_compressed(folder / "packed.npz", **{key: value.numpy() for key, value in tensors.items()})


def weights(folder: Path) -> Any:
    from dejavlad.backbones.weights import read_weights

    tensors = [read_weights(path) for path in sorted(folder.iterdir())]
    return repr([sorted(named) for named in tensors]), digest(
        *(named[key].numpy() for named in tensors for key in sorted(named))
    )


LINES = ("store/patches/photos.jsonl",)
"""Of which whole lines may be taken out, as by a run that was cut off."""
KINDS: dict[str, Kind] = {
    "store": Kind(make_store, store, ("store/*",)),
    "store again": Kind(make_store, store_again, ("store/*",)),
    "patches": Kind(make_patches, patches, ("store/patches/*",), LINES),
    "patches int8": Kind(lambda folder: make_patches(folder, "int8"), patches, ("store/patches/*",), LINES),
    "map": Kind(make_map, place_map, ("map/*", "map/model/*")),
    "map again": Kind(make_map, map_again, ("map/*", "map/model/*")),
    "model": Kind(make_model, model_folder, ("model/*",)),
    "ranking": Kind(make_ranking, ranking, ("*",)),
    "rows": Kind(make_rows, ranking, ("*",), ("*",)),
    "result": Kind(make_result, result, ("*",)),
    "run": Kind(
        make_run,
        run,
        ("run/*.toml", "run/*.json", "run/*.jsonl", "run/state.safetensors", "run/latest/*"),
        ("run/*.toml", "run/log.jsonl"),  # of which whole lines may be taken out
    ),
    "run again": Kind(
        make_run,
        run_again,
        ("run/*.toml", "run/*.json*", "run/state.safetensors", "run/cache/*"),
        ("run/*.toml", "run/log.jsonl"),
    ),
    "frozen maps": Kind(make_frozen, frozen, ("maps/*",)),
    "truth": Kind(make_truth, truth, ("*",)),
    "dataset": Kind(make_dataset, dataset, ("*.toml", "*.txt", "*.csv"), ("*",)),
    "recipes": Kind(make_recipes, recipes, ("*",), ("*",)),
    "index": Kind(lambda folder: make_index(folder, "flat"), index, ("index/*",)),
    "index int8": Kind(lambda folder: make_index(folder, "int8"), index, ("index/*",)),
    "texts": Kind(make_texts, texts, ("*",), ("*",)),
    "pickles": Kind(make_pickles, pickles, ("*",), ("*",)),
    "weights": Kind(make_weights, weights, ("*",), ("*.pth",)),
}
"""By name."""
