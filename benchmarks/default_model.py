"""Which model `dejavlad map build PHOTOS` should use: what pip brings, compared on small sets of real photos.

    python benchmarks/default_model.py SHARED_DATA TOWN [CACHE [NETWORK,... [SIDE,...]]]

SHARED_DATA holds gardens_point, corridor and loop_rtabmap; TOWN is a made town. Every other photo of
gardens_point is used (100 and 100). Features of all cuts of a network are made in one pass, kept in CACHE.
Each combination is printed with recall@1 on every set, also on maps of 25 photos (their vocabulary as well).
"""

from __future__ import annotations

import itertools
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import dejavlad as dv
import dejavlad.ground_truth
from dejavlad import aggregation
from dejavlad.backbones import BACKBONES, create
from dejavlad.ground_truth import (
    parse_truth,
    truth_positions,
)
from dejavlad.images import PREPROCESSING, read_image
from dejavlad.numerics import kmeans
from dejavlad.photo import PhotoList

NETWORKS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
SIDES = (320, 480)
CUTS = {
    "efficientnet_lite0": (4, 7, 8, 10, 12),
    "efficientnet_lite1": (10, 14),
    "efficientnet_lite2": (10, 14),
}


class Set:
    """Photos of one place, and which are right."""

    def __init__(self, name, database, queries, truth):
        self.name, self.database, self.queries, self.truth = name, database, queries, truth

    def few(self, count):
        """A map of few photos of it, and the queries that have an answer there."""
        keep = np.linspace(0, len(self.database) - 1, count).round().astype(int)
        hit = np.array(
            [
                self.truth.positives.contains(np.full((len(self.queries), 1), row))[:, 0]
                for row in keep.tolist()
            ]
        )
        return keep, hit


def every(photos: PhotoList, step: int) -> PhotoList:
    return photos.take(list(range(0, len(photos), step)))


def sets(data: Path, town: Path) -> list[Set]:
    sets = []
    for name, database_part, query_part, step in (
        ("gardens", "gardens_point/day_left", "gardens_point/day_right", 2),
        ("corridor", "corridor/ref", "corridor/query", 1),
    ):
        d, q = (every(dv.photos(str(data / part)), step) for part in (database_part, query_part))
        sets.append(Set(name, d, q, parse_truth(f"frames:{2 // step}", d, q)))
    robot = dv.photos(str(data / "loop_rtabmap"))
    robot = robot.take([i for i, photo in enumerate(robot) if photo.key.endswith(".jpg")])
    # The second round (frames 43 to 84) asks for the first; the picture tells which frames close a loop.
    closes = _loops(data / "loop_rtabmap")
    half = 42
    d, q = robot.take(list(range(half))), robot.take(list(range(half, len(robot))))
    right = [np.flatnonzero(closes[half + i, :half]) for i in range(len(q))]
    kept = [i for i, rows in enumerate(right) if len(rows)]
    sets.append(Set("robot", d, q.take(kept), _truth([right[i] for i in kept], len(d))))
    for part in ("test", "train"):
        places = dv.open_dataset(town / part)
        q = every(places.queries, max(1, len(places.queries) // 60))
        truth = truth_positions(places.database, q, 25)
        sets.append(Set(f"town-{part}", places.database, q, truth))
    return sets


def _loops(folder: Path) -> np.ndarray:
    return np.array(Image.open(folder / "samples_GT.bmp").convert("L")) > 128


def _truth(rows, size):
    return dv.ground_truth.Truth(rows, size, {"kind": "loops"})


@torch.inference_mode()
def features(network: str, side: int, photos: PhotoList, cache: Path, tag: str) -> dict[int, np.ndarray]:
    """Cut -> float16 [N, C, H, W]; photos of one set have one size."""
    path = cache / f"{network}-{side}-{tag}.npz"
    if path.exists():
        with np.load(path) as archive:
            return {int(k): archive[k] for k in archive.files}
    cuts = CUTS[network]
    model = create(network, cut=f"block_{max(cuts)}")
    prepare = PREPROCESSING[BACKBONES[network].preprocess]
    prepare = replace(prepare, resize=f"longest:{side}")
    maps: dict[int, list[np.ndarray]] = {cut: [] for cut in cuts}
    started = time.process_time()
    for photo in photos:
        x = torch.from_numpy(prepare(read_image(photo)))[None]
        x = model._relu0(model._bn0(model._conv_stem(x)))
        for i, block in enumerate(model._blocks):
            x = block(x)
            if i in cuts:
                maps[i].append(x.half().numpy()[0])
    spent = (time.process_time() - started) / len(photos)
    print(
        f"# {network} {side} {tag}: {spent * 1000:.0f} ms a photo (decode and {max(cuts)} blocks)", flush=True
    )
    stacked = {cut: np.stack(rows) for cut, rows in maps.items()}
    np.savez(path, **{str(k): v for k, v in stacked.items()})
    return stacked


def described(maps_d, maps_q, pooling: str, words: int):
    """Unit descriptors of database and queries; clusters learnt from the database alone."""
    layer = aggregation.create(
        pooling, maps_d.shape[1], **({"clusters": words} if pooling in ("netvlad", "vlad") else {})
    ).eval()
    with torch.inference_mode():
        if layer.needs_fitting:
            rng = np.random.default_rng(0)
            share = max(1, 20000 // len(maps_d))
            samples = []
            for map_ in maps_d:
                local = layer.local_features(torch.from_numpy(map_[None]).float())[0].numpy()
                samples.append(local[rng.permutation(len(local))[:share]])
            samples = np.concatenate(samples)
            layer.initialise(kmeans(samples, words, seed=0), samples)
        return [
            np.concatenate(
                [layer(torch.from_numpy(m[i : i + 16]).float()).numpy() for i in range(0, len(m), 16)]
            )
            for m in (maps_d, maps_q)
        ]


def recall(d, q, truth, keep=None) -> float:
    similarity = q @ d.T
    best = similarity.argmax(axis=1)
    if keep is not None:
        best = keep[best]
    return float(truth.positives.contains(best[:, None])[:, 0].mean())


def few_recall(photo_set: Set, make) -> float:
    keep, hit = photo_set.few(25)
    has = hit.any(axis=0)
    if not has.any():
        return float("nan")
    d, q = make(keep)
    best = (q @ d.T).argmax(axis=1)
    return float(hit[best, np.arange(len(best))][has].mean())


def main(data: Path, town: Path, cache: Path, networks=NETWORKS, sides=SIDES) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    all_sets = sets(data, town)
    print("# " + "; ".join(f"{s.name} {len(s.database)}/{len(s.queries)}" for s in all_sets), flush=True)
    columns = [s.name for s in all_sets] + [f"few {s.name}" for s in all_sets[:2]]
    print("| model | " + " | ".join(columns) + " | mean |\n|" + "---|" * (len(columns) + 2), flush=True)

    def row(name, per_set, few):
        values = [*per_set, *few]
        cells = " | ".join(f"{v:.2f}" for v in values)
        print(f"| {name} | {cells} | {np.nanmean(values):.3f} |", flush=True)

    kept: dict[str, list] = {}
    for network, side in itertools.product(networks, sides):
        maps = [
            tuple(
                features(network, side, part, cache, f"{s.name}-{which}")
                for which, part in (("d", s.database), ("q", s.queries))
            )
            for s in all_sets
        ]
        for cut in CUTS[network]:
            settings = [("netvlad", 64), ("vlad", 64)] if side == min(sides) else [("vlad", 64)]
            if network == networks[0] and side == min(sides) and cut == 10:
                settings += [(pooling, words) for pooling in ("netvlad", "vlad") for words in (16, 32, 128)]
                settings += [("gem", 0), ("avg", 0)]
            for pooling, words in settings:
                name = f"{network[-5:]}@{cut} {side} {pooling} {words or ''}"
                made = [described(d[cut], q[cut], pooling, words) for d, q in maps]
                few = [
                    few_recall(
                        s, lambda keep, d=d[cut], q=q[cut], p=pooling, w=words: described(d[keep], q, p, w)
                    )
                    for s, (d, q) in zip(all_sets[:2], maps[:2], strict=True)
                ]
                kept[name] = made
                row(name, [recall(*m, s.truth) for m, s in zip(made, all_sets, strict=True)], few)
    for a, b in itertools.combinations([n for n in kept if " vlad 64" in n], 2):
        both = [
            tuple(np.concatenate([x, y], axis=1) for x, y in zip(m, n, strict=True))
            for m, n in zip(kept[a], kept[b], strict=True)
        ]
        row(f"{a} + {b}", [recall(*m, s.truth) for m, s in zip(both, all_sets, strict=True)], [])


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        Path(given[0]),
        Path(given[1]),
        Path(given[2]) if len(given) > 2 else Path("default-model-features"),
        tuple(given[3].split(",")) if len(given) > 3 else NETWORKS,
        tuple(map(int, given[4].split(","))) if len(given) > 4 else SIDES,
    )
