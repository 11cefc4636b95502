"""Re-ranking 100 candidates against a plain restatement of the original: RANSAC at 4096 dims, rapid at 512.

The photos are made up. A place is a field of random vectors over 42x52 cells, blurred by 0.7 cells; a photo
of it is 30x40 cells seen under a homography of its own (corners 2 cells to and fro, and 1 more each), of
which 10 to 40 % in a blob of its own show something else, with noise of 0.5 to 1.5 times the cells' length.
Patches are means of 2x2, 5x5 and 8x8 cells, brought to unit length. So no dimension tells more than another
(of whitened descriptors the first do), distractors agree in what random vectors do (about 40, 20 and 10 % of
the patches are mutual matches by chance, 1 % of all fit one homography), and true pairs in
10 to 50 %, about 35, 25 and 20 % as a median.
The database has 110 photos of 50 places, two or three of each: the best match is often close between them.
A query is another photo of a place; its candidates are all photos of that place and others by chance,
shuffled. The candidates' photos stay in memory, as they do where a map is asked again and again: what the
library keeps of them from the first query on is part of its way.

Timed: five queries, all ways by turns. Agreement of the best match: over more, the exact way being this
library's, which is compared with the plain one on the timed queries. ``--ransac-queries 200`` counts there
too all that was asked for, which with 4096 dimensions takes more than an hour; the default does fewer.
Needs 6 GiB. ``--noise 2.2 --hidden 0.5`` makes harder places, of which the exact way misses some.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from _timing import Paired, processor
from dejavlad.aggregation import patch_centres
from dejavlad.backbones import Geometry
from dejavlad.patches import PatchSet
from dejavlad.rerank import Reranker

H, W, MARGIN = 30, 40, 6
PHOTOS, PLACES, CANDIDATES = 110, 50, 100
TIMED = 5
VGG16 = Geometry(stride=16, offset=7.5)
Photo = list[PatchSet]


class Hardness(NamedTuple):
    """How unlike photos of one place may be."""

    noise: float
    """In lengths of a cell."""
    hidden: float
    """Share of the cells."""


def place(number: int, dims: int) -> torch.Tensor:
    """A made place's feature map [dims, 42, 52], smoothed noise."""
    generator = torch.Generator().manual_seed(number)
    cells = torch.randn(dims, 1, H + 2 * MARGIN, W + 2 * MARGIN, generator=generator)
    kernel = torch.exp(-(torch.arange(-2.0, 3.0) ** 2) / (2 * 0.7**2))
    cells = F.conv2d(cells, kernel.view(1, 1, -1, 1), padding=(2, 0))
    return F.conv2d(cells, kernel.view(1, 1, 1, -1), padding=(0, 2))[:, 0]


def photo(field_DHW: torch.Tensor, seed: int, sizes: Sequence[int], most: Hardness) -> Photo:
    """One view of a place: a crop of its feature map, with noise."""
    draw, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    whole = np.array([[0, 0], [W - 1, 0], [W - 1, H - 1], [0, H - 1]], dtype=np.float32)
    seen = whole + MARGIN + draw.uniform(-2, 2, (1, 2)) + draw.uniform(-1, 1, (4, 2))
    y, x = np.mgrid[:H, :W]
    at = (
        np.stack([x, y, np.ones_like(x)], axis=-1)
        @ cv2.getPerspectiveTransform(whole, seen.astype(np.float32)).T
    )
    at = at[..., :2] / at[..., 2:] / [W + 2 * MARGIN - 1, H + 2 * MARGIN - 1] * 2 - 1
    cells = F.grid_sample(field_DHW[None], torch.tensor(at[None], dtype=torch.float32), align_corners=True)
    blob = F.interpolate(torch.randn(1, 1, 6, 8, generator=generator), size=(H, W), mode="bicubic")
    hidden = blob < torch.quantile(blob, float(draw.uniform(0.1, most.hidden)))
    other = torch.randn(cells.shape, generator=generator)
    cells = torch.where(hidden, F.normalize(other, dim=1), F.normalize(cells, dim=1))
    noise = float(draw.uniform(0.5, most.noise)) / len(field_DHW) ** 0.5
    cells = cells + noise * torch.randn(cells.shape, generator=generator)
    patches = []
    for p in sizes:
        means_PD = F.avg_pool2d(cells, p, 1)[0].flatten(1).T.contiguous()
        grid = (H - p + 1, W - p + 1)
        patches.append(PatchSet(F.normalize(means_PD), patch_centres(grid, p, 1, VGG16), grid, p))
    return patches


def plain(matcher: str, query: Photo, candidates: Sequence[Photo]) -> np.ndarray:
    """The original's way: candidate by candidate and size by size; scores [candidates, sizes]."""
    scores = np.zeros((len(candidates), len(query)))
    for c, candidate in enumerate(candidates):
        for s, (ours, theirs) in enumerate(zip(query, candidate, strict=True)):
            likeness_PR = ours.descriptors @ theirs.descriptors.T
            apart_PR = torch.sqrt(2 - 2 * likeness_PR + 1e-9)
            forward = torch.argmin(apart_PR, dim=0).numpy()
            backward = torch.argmin(apart_PR, dim=1).numpy()
            candidate_rows = np.flatnonzero(backward[forward] == np.arange(len(forward)))
            query_rows = forward[candidate_rows]
            if matcher == "ransac" and len(candidate_rows) > 3:
                _, mask = cv2.findHomography(
                    theirs.centres.numpy()[candidate_rows],
                    ours.centres.numpy()[query_rows],
                    cv2.RANSAC,
                    ransacReprojThreshold=24,
                )
                scores[c, s] = -float((mask == 1).sum()) / len(ours)
            elif matcher == "rapid" and len(candidate_rows):
                height, width = ours.grid
                for many, shift in (
                    (width, candidate_rows % width - query_rows % width),
                    (height, candidate_rows // width - query_rows // width),
                ):
                    scores[c, s] -= ((many - 1 - abs(shift - shift.mean())) ** 2).sum() / len(ours)
    return scores


def fused(scores: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """The original's weighted z-scores."""
    return np.asarray((scores - scores.mean(axis=0)) / scores.std(axis=0) @ np.asarray(weights))


def made(dims: int, sizes: Sequence[int], most: Hardness) -> list[Photo]:
    """The database: photo n shows place n % PLACES."""
    photos: dict[int, Photo] = {}
    for number in range(PLACES):
        field_DHW = place(number, dims)
        for n in range(number, PHOTOS, PLACES):
            photos[n] = photo(field_DHW, 1000 + n, sizes, most)
    return [photos[n] for n in range(PHOTOS)]


def compare(
    matcher: str, dims: int, sizes: Sequence[int], weights: Sequence[float], queries: int, most: Hardness
) -> None:
    """Print times, what is equal, and how often the best match is the same."""
    print(f"{matcher}, {dims} dims, sizes {list(sizes)}, {CANDIDATES} candidates", flush=True)
    database = made(dims, sizes, most)
    shows = np.arange(PHOTOS) % PLACES
    exact, quick = Reranker(matcher, weights=weights), Reranker(matcher, weights=weights, shortlist="auto")
    scored: dict[str, np.ndarray] = {}

    def by_plain(query: Photo, candidates: list[Photo]) -> np.ndarray:
        scored["plain"] = plain(matcher, query, candidates)
        return fused(scored["plain"], weights)

    def by_exact(query: Photo, candidates: list[Photo]) -> np.ndarray:
        matches = exact.match(query, candidates)
        scored["exact"] = np.array([[match.score for match in by_size] for by_size in matches])
        return fused(scored["exact"], weights)

    ways = {"plain": by_plain, "exact": by_exact, "quick": quick.scores}
    times: dict[str, list[float]] = {name: [] for name in ways}
    like_plain = dict.fromkeys(ways, 0)
    right = dict.fromkeys(ways, 0)
    same = close = 0
    apart: list[float] = []
    for q in range(queries):
        draw = np.random.default_rng(q)
        number = int(draw.integers(PLACES))
        query = photo(place(number, dims), 50_000 + q, sizes, most)
        true, others = np.flatnonzero(shows == number), draw.permutation(np.flatnonzero(shows != number))
        rows = draw.permutation([*true, *others[: CANDIDATES - len(true)]])
        candidates = [database[n] for n in rows]
        scores, best = {}, {}
        for name in (*ways,)[:: -1 if q % 2 else 1]:
            if name != "plain" or q < TIMED:
                began = time.perf_counter()
                scores[name] = ways[name](query, candidates)
                if q < TIMED:
                    times[name].append(time.perf_counter() - began)
                best[name] = int(scores[name].argmin())
                right[name] += int(rows[best[name]]) in true
        if q < TIMED:
            apart += np.abs(scored["plain"] - scored["exact"]).ravel().tolist()
            for name in ways:
                like_plain[name] += best[name] == best["plain"]
        same += best["quick"] == best["exact"]
        close += bool(np.diff(np.sort(scores["exact"])[:2])[0] < 0.5)
        if (q + 1) % max(1, queries // 5) == 0:
            print(f"  {q + 1} queries: the same best match in {same}", flush=True)
    for name in ("exact", "quick"):
        print(f"  plain and {name}: {Paired(tuple(times['plain']), tuple(times[name]))}")
        print(f"    the plain one's best match in {like_plain[name]} of {len(times[name])}")
    equal = np.mean(np.array(apart) < 1e-6)
    print(f"  scores of plain and exact, photo by photo and size by size: {equal:.1%} equal to 1e-6;")
    print(
        f"    largest difference {max(apart):.1e}, the largest score being {abs(scored['plain']).max():.3g}"
    )
    print(f"  quick has the best match of exact in {same} of {queries} queries ({same / queries:.1%});")
    print(f"    the best two were within 0.5 of each other in {close};")
    print(f"    the best was right in {right['exact']} by exact, in {right['quick']} by quick", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time re-ranking against a plain restatement.")
    parser.add_argument("--queries", type=int, default=200, help="queries of rapid scoring")
    parser.add_argument("--ransac-queries", type=int, default=10, help="queries of RANSAC")
    parser.add_argument("--noise", type=float, default=1.5, help="most noise, in lengths of a cell")
    parser.add_argument("--hidden", type=float, default=0.4, help="largest share of a photo that is hidden")
    given = parser.parse_args()
    most = Hardness(given.noise, given.hidden)
    print(f"{processor()}, {torch.get_num_threads()} threads")
    with torch.no_grad():
        if given.queries:
            compare("rapid", 512, (5,), (1.0,), given.queries, most)
        if given.ransac_queries:
            compare("ransac", 4096, (2, 5, 8), (0.45, 0.15, 0.4), given.ransac_queries, most)


if __name__ == "__main__":
    main()
