"""What opening, adding, removing, correcting and asking cost as a map grows; all but asking stay flat.

    python benchmarks/map_growth.py --sizes 1000 10000 100000 1000000 --folder /tmp/growth

Rows are random unit vectors of 128 numbers, and the model describes a photo in a few milliseconds, so that
what is measured is the map and not a network.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import dejavlad as dv
from dejavlad.aggregation import GeM
from dejavlad.extraction import PhotoTable
from dejavlad.geo import Position
from dejavlad.model import PlaceModel
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.map_folder.state import MapState

REPEATS = 15


def seconds(action: Callable[[], object], repeats: int = 1) -> float:
    """Median duration of several runs, in seconds."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def filled(folder: Path, model: PlaceModel, count: int) -> float:
    """A map of so many photos that are nowhere; returns the seconds of one bulk commit."""
    dims = model.descriptor_size
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, dims)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    photos = PhotoList(
        (
            Photo(
                f"{i // 1000:04d}/{i:07d}.jpg",
                Path(f"/photos/{i // 1000:04d}/{i:07d}.jpg"),
                position=Position(i, i, "33N"),
            )
            for i in range(count)
        ),
        root="/photos",
    )
    n = np.arange(count)
    table = PhotoTable(photos, photos.keys, n + 1000, n, np.full((count, 2), 480, np.int32))
    return seconds(lambda: MapState(folder, dims).add(table, rows, n, {}))


def measured(folder: Path, model: PlaceModel, size: int) -> str:
    """Measure a map of one size: one line of the table."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    shutil.rmtree(folder, ignore_errors=True)
    dv.PlaceMap.build(model, [image], folder)
    fill = filled(folder, model, size)
    town = dv.PlaceMap(folder, model)
    opened = seconds(lambda: dv.PlaceMap(folder, model), REPEATS)
    fresh = iter(range(10**6))

    def add() -> None:
        number = next(fresh)
        noisy = np.roll(image, number, 1)
        town.add([Photo(f"new{number}", Path(f"new{number}"), pixels=noisy)])

    added = seconds(add, REPEATS)
    gone = iter(range(10**6))
    removed = seconds(lambda: town.remove([f"new{next(gone)}"]), REPEATS)
    east = iter(range(10**6))
    corrected = seconds(
        lambda: town.add([Photo("0", Path("0"), position=Position(next(east), 0.0, "33N"), pixels=image)]),
        REPEATS,
    )
    looked = seconds(lambda: town._state.lookup([f"{size // 2 // 1000:04d}/{size // 2:07d}.jpg"]), REPEATS)
    query = rng.normal(size=(1, model.descriptor_size)).astype(np.float32)
    query /= np.linalg.norm(query)
    photo = PhotoList([Photo("q", Path("q"))])
    first = seconds(lambda: town.locate_descriptors(query, photo))
    following = seconds(lambda: town.locate_descriptors(query, photo), 5)
    state = (folder / "map.sqlite").stat().st_size / 1e6
    return (
        f"{size:8d} {fill:7.2f} {opened * 1e3:8.2f} {added * 1e3:8.1f} {removed * 1e3:10.1f} "
        f"{corrected * 1e3:11.1f} {looked * 1e3:11.2f} {first:8.2f} {following * 1e3:8.1f} {state:9.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    base = dv.load_model("rootsift-vlad", device="cpu")
    model = PlaceModel(base.backbone, GeM(128), base.preprocess, fitted=True, source=base.source)
    print("photos    fill s  open ms   add ms  remove ms  correct ms  look-up ms  first s  next ms  state MB")
    for size in given.sizes:
        print(measured(given.folder / str(size), model, size), flush=True)


if __name__ == "__main__":
    main()
