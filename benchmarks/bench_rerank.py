"""Re-ranking 100 candidates against a plain restatement of the original: both presets, both matchers.

The photos are made up. A place is a field of random vectors over 42x52 cells, blurred by 0.7 cells; a photo
of it is 30x40 cells seen under a homography of its own (corners 2 cells to and fro, and 1 more each), of
which 10 to 40 % in a blob of its own show something else, with noise of 0.5 to 1.5 times the cells' length.
Patches are means of 2x2, 5x5 and 8x8 cells, brought to unit length. So no dimension tells more than another
(of whitened descriptors the first do), distractors agree in what random vectors do (about 40, 20 and 10 % of
the patches are mutual matches by chance, 1 % of all fit one homography), and true pairs in
10 to 50 %, about 35, 25 and 20 % as a median.
The database has 110 photos of 50 places, two or three of each: the best match is often close between them.
A query is another photo of a place; its candidates are all photos of that place and others by chance,
shuffled. **Every photo is seen for the first time, the query too**: its tensors are copied before each
timing, so nothing that the library keeps of photos (their 8-bit copies) helps it. ``--known`` keeps them, as
a map does that is searched again and again.

The plain way does what the original's matcher does with its files, in its own steps: the candidate's
descriptors lie as [D, P]; one product, ``sqrt(2 - 2 s + 1e-9)``, torch.min down and torch.argmin across,
OpenCV's findHomography or the spatial score in NumPy. It has no Python loop but those over candidates and
sizes.

Exact scores need one product of 8-bit numbers for each candidate and size; "bound" is the plain way's
processor time over that of these products alone, which no exact way by them can pass on that processor.

Timed by turns, in seconds of the processor and on the clock. Agreement of the best match: over more queries
(``--agree``), the exact way being this library's, which is compared with the plain one on the timed queries.
Needs 11 GiB (2 GiB for ``--preset speed``). ``--noise 2.2 --hidden 0.5`` makes harder places, of which the
exact way misses some.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from _timing import Paired, processor
from dejavlad.aggregation import patch_centres
from dejavlad.backbones import Geometry
from dejavlad.numerics.int8 import has_int8_matmul
from dejavlad.patches import PatchSet
from dejavlad.rerank import Reranker
from dejavlad.rerank.whole import QuantizedDescriptors, product

H, W, MARGIN = 30, 40, 6
PHOTOS, PLACES, CANDIDATES = 110, 50, 100
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


Plain = list[tuple[torch.Tensor, np.ndarray, np.ndarray, tuple[int, int]]]
"""A candidate as the original's files have it: descriptors [D, P], centres, grid places [2, P], grid."""


def as_files(candidate: Photo) -> Plain:
    """Not timed: the original's files lie so."""
    files = []
    for patches in candidate:
        rows, columns = np.divmod(np.arange(len(patches)), patches.grid[1])
        at = np.stack([columns, rows])
        files.append((patches.descriptors.T.contiguous(), patches.centres.numpy(), at, patches.grid))
    return files


def plain(matcher: str, query: Photo, candidates: Sequence[Plain]) -> np.ndarray:
    """The original's way: candidate by candidate and size by size; scores [candidates, sizes]."""
    scores = np.zeros((len(candidates), len(query)))
    for c, candidate in enumerate(candidates):
        for s, (ours, (theirs_DP, centres, at, grid)) in enumerate(zip(query, candidate, strict=True)):
            apart_PR = torch.sqrt(2 - 2 * torch.matmul(ours.descriptors, theirs_DP) + 1e-9)
            forward = torch.min(apart_PR, 0)[1].numpy()
            backward = torch.argmin(apart_PR, 1).numpy()
            rows = np.flatnonzero(backward[forward] == np.arange(len(forward)))
            if matcher == "ransac" and len(rows) > 3:
                points = centres[rows], ours.centres.numpy()[forward[rows]]
                _, mask = cv2.findHomography(*points, cv2.RANSAC, ransacReprojThreshold=24)
                scores[c, s] = -float((mask == 1).sum()) / len(ours)
            elif matcher == "rapid" and len(rows):
                shift = at[:, rows] - at[:, forward[rows]]
                off = np.abs(shift - shift.mean(axis=1, keepdims=True))
                most = np.array([[grid[1] - 1], [grid[0] - 1]])
                scores[c, s] = -((most - off) ** 2).sum() / len(ours)
    return scores


def products_alone(query: Photo, candidates: Sequence[Photo]) -> float:
    """Processor seconds of the 8-bit products of one query with all candidates, at best."""
    total = 0.0
    for ours, theirs in zip(query, candidates[0], strict=True):
        columns_DP = QuantizedDescriptors(ours.descriptors).columns_DP
        whole_RD = QuantizedDescriptors(theirs.descriptors).whole_PD
        times = []
        for _ in range(5):
            began = time.process_time()
            product(whole_RD, columns_DP)
            times.append(time.process_time() - began)
        total += len(candidates) * min(times)
    return total


def fused(scores: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """The original's weighted z-scores."""
    return np.asarray((scores - scores.mean(axis=0)) / scores.std(axis=0) @ np.asarray(weights))


class Database:
    """Photo n shows place n % PLACES; each is made when it is first wanted."""

    def __init__(self, dims: int, sizes: Sequence[int], most: Hardness) -> None:
        self.dims, self.sizes, self.most = dims, sizes, most
        self.photos: dict[int, Photo] = {}

    def __getitem__(self, n: int) -> Photo:
        if n not in self.photos:
            self.photos[n] = photo(place(n % PLACES, self.dims), 1000 + n, self.sizes, self.most)
        return self.photos[n]


def again(photo: Photo) -> Photo:
    """The same photo as if read anew."""
    return [PatchSet(p.descriptors.clone(), p.centres, p.grid, p.size, p.step) for p in photo]


@dataclass
class Row:
    """What one preset with one matcher came to."""

    name: str
    clock: dict[str, list[float]] = field(default_factory=lambda: {"plain": [], "exact": [], "quick": []})
    cpu: dict[str, list[float]] = field(default_factory=lambda: {"plain": [], "exact": [], "quick": []})
    bound: list[float] = field(default_factory=list)
    equal: list[bool] = field(default_factory=list)
    like_plain: dict[str, int] = field(default_factory=lambda: {"exact": 0, "quick": 0})
    agree: int = 0
    judged: int = 0

    def __str__(self) -> str:
        cells = [f"{self.name:20s}", f"{1000 * statistics.median(self.clock['plain']):8.0f}"]
        cells.append(f"{statistics.median(self.bound):6.1f}" if self.bound else "-")
        for way in ("exact", "quick"):
            for times in (self.cpu, self.clock):
                cells.append(f"{Paired(tuple(times['plain']), tuple(times[way])).ratio:6.1f}")
            cells.append(f"{self.like_plain[way]}/{len(self.clock['plain'])}")
        cells.append(f"{np.mean(self.equal):7.1%}")
        cells.append(f"{self.agree}/{self.judged}" if self.judged else "-")
        return " ".join(f"{cell:>8s}" for cell in cells)


HEAD = """times faster than plain, in processor seconds and on the clock; "best": the plain one's best match
                        plain    bound    exact             shortlist auto             exact's    best
preset, matcher            ms      cpu      cpu    clock     best      cpu    clock     best   scores  kept"""


class Setting(NamedTuple):
    """What the command line says."""

    timed: int
    agree: int
    candidates: int
    known: bool
    most: Hardness


def compare(
    name: str, dims: int, sizes: Sequence[int], weights: Sequence[float], given: Setting
) -> list[Row]:
    """A row of the table for each matcher."""
    print(f"{name}: {dims} dims, sizes {list(sizes)}, {given.candidates} candidates", flush=True)
    database = Database(dims, sizes, given.most)
    shows = np.arange(PHOTOS) % PLACES
    rows = []
    for matcher in ("ransac", "rapid"):
        row = Row(f"{name}, {matcher}")
        exact, quick = (
            Reranker(matcher, weights=weights),
            Reranker(matcher, weights=weights, shortlist="auto"),
        )
        for q in range(max(given.timed, given.agree)):
            draw = np.random.default_rng(q)
            number = int(draw.integers(PLACES))
            query = photo(place(number, dims), 50_000 + q, sizes, given.most)
            true, others = np.flatnonzero(shows == number), draw.permutation(np.flatnonzero(shows != number))
            picked = draw.permutation([*true, *others[: given.candidates - len(true)]])
            candidates = [database[int(n)] for n in picked]
            if q < given.timed:
                timed(row, matcher, (exact, quick), weights, query, candidates, given.known, turn=q)
            if q < given.agree:
                best = [int(way.scores(query, candidates).argmin()) for way in (exact, quick)]
                row.agree += best[0] == best[1]
                row.judged += 1
        print(row, flush=True)
        rows.append(row)
    return rows


def timed(
    row: Row,
    matcher: str,
    ways: tuple[Reranker, Reranker],
    weights: Sequence[float],
    query: Photo,
    candidates: list[Photo],
    known: bool,
    turn: int,
) -> None:
    """One query by all three ways, their order changed from query to query."""
    exact, quick = ways
    scored: dict[str, np.ndarray] = {}
    best: dict[str, int] = {}

    def by_exact(query: Photo, candidates: list[Photo]) -> np.ndarray:
        matches = exact.match(query, candidates)
        return np.array([[match.score for match in by_size] for by_size in matches])

    for way in (*row.clock,)[:: -1 if turn % 2 else 1]:
        ours = query if known else again(query)
        theirs, files = candidates if known else [], []
        if way == "plain":
            files = [as_files(candidate) for candidate in candidates]
        elif not known:
            theirs = [again(candidate) for candidate in candidates]
        elif way == "exact":
            for _ in range(2):  # what is made of photos is kept from the second time on
                exact.match(ours, theirs)
        gc.collect()
        began, cpu = time.perf_counter(), time.process_time()
        if way == "plain":
            scored[way] = plain(matcher, ours, files)
            scores = fused(scored[way], weights)
        elif way == "exact":
            scored[way] = by_exact(ours, theirs)
            scores = fused(scored[way], weights)
        else:
            scores = quick.scores(ours, theirs)
        row.clock[way].append(time.perf_counter() - began)
        row.cpu[way].append(time.process_time() - cpu)
        best[way] = int(scores.argmin())
        del theirs, files  # gigabytes, before the next ones are made
    if has_int8_matmul():
        row.bound.append(row.cpu["plain"][-1] / products_alone(query, candidates))
    row.equal += (np.abs(scored["plain"] - scored["exact"]) < 1e-6).ravel().tolist()
    for way in row.like_plain:
        row.like_plain[way] += best[way] == best["plain"]


PRESETS = {"speed": (512, (5,), (1.0,)), "performance": (4096, (2, 5, 8), (0.45, 0.15, 0.4))}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time re-ranking against a plain restatement.")
    parser.add_argument("--preset", choices=PRESETS, help="one of them; both unless given")
    parser.add_argument("--timed", type=int, default=3, help="queries timed in each row")
    parser.add_argument("--agree", type=int, default=0, help="queries of which quick and exact are compared")
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--known", action="store_true", help="candidates seen before")
    parser.add_argument("--noise", type=float, default=1.5, help="most noise, in lengths of a cell")
    parser.add_argument("--hidden", type=float, default=0.4, help="largest share of a photo that is hidden")
    typed = parser.parse_args()
    most = Hardness(typed.noise, typed.hidden)
    given = Setting(typed.timed, typed.agree, typed.candidates, typed.known, most)
    print(f"{processor()}, {torch.get_num_threads()} threads")
    rows: list[Row] = []
    with torch.no_grad():
        for name, (dims, sizes, weights) in PRESETS.items():
            if typed.preset in (None, name):
                rows += compare(name, dims, sizes, weights, given)
    print(HEAD, *rows, sep="\n")


if __name__ == "__main__":
    main()
