"""The spectrum of real descriptors, which `bench_scale.py` makes its rows by.

    python benchmarks/spectrum.py SHARED_DATA

All photos of SHARED_DATA (gardens_point, corridor, loop_rtabmap, photos_*, toy) are described by the default
model, whose vocabulary is learnt from every fourth of them. Printed: how the variance of principal axes
falls, and by group of axes which share of it differs between two photos of a place: frame i of either walk
through gardens_point (half the mean squared difference, by the variance of both walks). Axes are learnt from
all photos, so that only the first few hundred say much; beyond the 180th the share is taken as constant.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import dejavlad as dv
from dejavlad.photo import Photo, PhotoList
from dejavlad.zoo import default_model

WALKS = ("gardens_point/day_left", "gardens_point/day_right")
FOLDERS = (*WALKS, "corridor/ref", "corridor/query", "loop_rtabmap", "photos_lund", "photos_arezzo")
TOYS = ("toy/database", "toy/queries")


def main() -> None:
    data = Path(sys.argv[1])
    paths = [photo.path for folder in (*FOLDERS, *TOYS) for photo in dv.photos(data / folder)]
    photos = PhotoList((Photo(f"{i:04d}{path.suffix}", path) for i, path in enumerate(paths)), root=data)
    model = dv.load_model(default_model()[0], device="cpu")
    model = dv.fit(model, photos.take(np.arange(0, len(photos), 4)))
    with tempfile.TemporaryDirectory() as folder:
        rows = np.array(dv.extract(model, photos, Path(folder) / "store").rows, np.float64)
    mean = rows.mean(axis=0)
    values, vectors = np.linalg.eigh((rows - mean) @ (rows - mean).T / len(rows))
    variances = values[::-1]
    axes = vectors.T[::-1] @ (rows - mean)
    axes /= np.linalg.norm(axes, axis=1, keepdims=True) + 1e-12
    print(f"{model.name}, {len(rows)} photos, {rows.shape[1]} numbers")
    for first, last in ((2, 20), (20, 100), (100, 200), (200, 400)):
        ranks = np.log(np.arange(first, last))
        slope = np.polyfit(ranks, np.log(variances[first - 1 : last - 1]), 1)[0]
        print(f"  axes {first} to {last}: variance falls as i^{slope:.2f}")
    counts = [len(dv.photos(data / walk)) for walk in WALKS]
    left, right = rows[: counts[0]] @ axes.T, rows[counts[0] : sum(counts)] @ axes.T
    differs = ((left - right) ** 2).mean(axis=0) / 2
    total = np.concatenate([left, right]).var(axis=0)
    for first, last in ((0, 5), (5, 20), (20, 60), (60, 120), (120, 250)):
        share = differs[first:last].sum() / total[first:last].sum()
        print(f"  axes {first + 1} to {last}: {share:.2f} of it differs between two photos of a place")


if __name__ == "__main__":
    main()
