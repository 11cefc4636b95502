"""Truth of Pitts250k-test (83,952 x 8,280, right within 25 m) and recall@1 to 100 of a random ranking.

Against all distances, block by block, and a loop over queries. Memory is the most that the process ever held,
the interpreter and NumPy included; ours runs first, so that it is ours. Without the official spec beside the
project, panoramas of 24 views along made streets stand in for it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _timing import processor
from dejavlad.evaluation import first_hits, recall_at
from dejavlad.geo import Position
from dejavlad.ground_truth import (
    TruthPositions,
    read_netvlad_spec,
    truth_positions,
)
from dejavlad.ranking import Ranking

SPEC = Path(__file__).parents[2] / "shared" / "data" / "specs" / "pitts250k_test.mat"
NS = range(1, 101)
BLOCK = 64
SECONDS, BYTES = 5.0, 1e9
"""What it may take."""


def positions() -> TruthPositions:
    if SPEC.is_file():
        return read_netvlad_spec(SPEC).truth
    rng = np.random.default_rng(0)
    database, queries = (
        np.repeat(np.stack([rng.uniform(0, 3000, n), rng.integers(0, 30, n) * 100.0], axis=1), 24, axis=0)
        for n in (3498, 345)
    )
    return TruthPositions(database, queries, 25.0)


def ours(truth: TruthPositions, ranking: Ranking) -> dict[int, float]:
    database, queries = ([Position(*at) for at in rows.tolist()] for rows in (truth.database, truth.queries))
    return recall_at(first_hits(ranking, truth_positions(database, queries, truth.radius)), NS)


def plain(truth: TruthPositions, ranking: Ranking) -> dict[int, float]:
    """What one writes first: every distance, and for each query a look at its ranking."""
    first = np.full(len(truth.queries), 10**9)
    for start in range(0, len(truth.queries), BLOCK):
        apart = truth.queries[start : start + BLOCK, None] - truth.database
        right = (apart**2).sum(axis=2) <= truth.radius**2
        for i, rows in enumerate(right, start):
            hits = np.isin(ranking.indices[i], np.flatnonzero(rows))
            if hits.any():
                first[i] = int(hits.argmax()) + 1
    return {n: float((first <= n).mean()) for n in NS}


def peak_bytes() -> float:
    """The most that this process held; NaN where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def random_ranking(n: int, queries: int) -> Ranking:
    rng = np.random.default_rng(0)
    indices: NDArray[np.int64] = rng.integers(0, n, (queries, max(NS)))
    return Ranking(indices, np.sort(rng.random(indices.shape, np.float32), axis=1))


def main() -> int:
    truth = positions()
    ranking = random_ranking(len(truth.database), len(truth.queries))
    print(f"truth: {len(truth.database)} x {len(truth.queries)} within {truth.radius:g} m; {processor()}")
    times, answers = [], []
    for task in (ours, plain):
        started = time.process_time()
        answers.append(task(truth, ranking))
        times.append(time.process_time() - started)
        if task is ours:
            peak = peak_bytes()
    agrees = answers[0] == answers[1]
    print(
        f"  ours {times[0]:.2f} s of a processor, {peak / 1e6:.0f} MB at most; plain {times[1]:.2f} s: "
        f"{times[1] / times[0]:.1f} times faster; recall@100 {answers[0][100]:.4f}, the same: {agrees}"
    )
    fits = agrees and times[0] < SECONDS and not peak > BYTES
    print(f"  in {SECONDS:g} s and {BYTES / 1e9:g} GB: {'yes' if fits else 'NO'}")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
