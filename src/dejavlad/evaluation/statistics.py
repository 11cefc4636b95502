"""How sure a recall is, and whether one method is better than another.

Queries of one place, panorama or drive fail together: a thousand queries of ten drives tell about as much as
ten. So whole blocks of queries are drawn, never queries out of a block.

Legend: Q queries, B blocks, N of recall@N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError

LEVEL = 0.95
"""Share of cases in which the true recall lies in its interval."""
DRAWS = 2000
"""Times that the blocks are drawn anew."""
FLIPS = 10_000
"""Times that the blocks' differences are given random signs."""

_AT_ONCE = 1 << 21
"""Numbers held at once while drawing."""

Hits = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Paired:
    """One method against another, on the same queries."""

    n: int
    """The N of the recall@N that is compared."""
    difference: float
    """recall@N of the second minus that of the first."""
    low: float
    """Lower end of the difference's interval."""
    high: float
    """Upper end of the difference's interval."""
    first_only: int
    """Queries that the first alone answers."""
    second_only: int
    """Queries that the second alone answers."""
    p: float
    """The probability of a difference this large, or larger, if both were equally good."""
    test: str
    """How p was found."""

    def __str__(self) -> str:
        if not self.first_only and not self.second_only:
            return f"recall@{self.n} is the same on every query"
        return (
            f"recall@{self.n} {self.difference:+.4f} ({self.low:+.4f} to {self.high:+.4f}), "
            f"p {self.p:.2g}" + (" *" if self.p < 1 - LEVEL else "")
        )


def intervals(hits: Hits, ns: Sequence[int], blocks: Hits | None = None) -> dict[int, tuple[float, float]]:
    """N -> the interval in which recall@N lies with 95 %, by the bootstrap over blocks.

    Where all blocks are right, or all wrong, drawing them tells nothing: then it is the exact interval
    (Clopper-Pearson) of so many blocks.

    Args:
        hits: int64 [Q], the rank of each query's first right answer from 1; 0 for none.
        ns: the Ns.
        blocks: int64 [Q], the number of each query's block; -1 for a query that does not count. Each query is
            one by itself unless given.

    Raises:
        InputError: no query counts, or there is not one block number a query.
    """
    right, sizes = _by_block(_right(hits, ns), blocks, len(hits))
    random = np.random.default_rng(0)
    tail = (1 - LEVEL) / 2
    if (sizes == 1).all():
        share = right.mean(axis=0)
        drawn = random.binomial(len(sizes), share, (DRAWS, len(ns))) / len(sizes)
    else:
        drawn = _drawn(right, sizes, random)
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    most = 1 - tail ** (1 / len(sizes))
    low = np.where((right == sizes[:, None]).all(axis=0), 1 - most, low)
    high = np.where((right == 0).all(axis=0), most, high)
    return {int(n): (float(a), float(b)) for n, a, b in zip(ns, low, high, strict=True)}


def paired(first: Hits, second: Hits, ns: Sequence[int], blocks: Hits | None = None) -> list[Paired]:
    """Is the second method better? The difference of recall@N with its interval, and a test.

    The interval is the paired bootstrap over blocks. p is McNemar's exact test where each query is a block by
    itself, else the test that gives each block's difference a random sign.

    Args:
        first: int64 [Q], ranks of first right answers, as of `intervals`.
        second: the same queries by the second method.
        ns: the Ns.
        blocks: as of `intervals`.

    Raises:
        InputError: other numbers of queries, no query counts, or not one block number a query.
    """
    if len(first) != len(second):
        raise InputError(f"a pair is of the same queries; given {len(first)} and {len(second)}")
    first_right, second_right = _right(first, ns), _right(second, ns)
    counts = np.ones(len(first), np.bool_) if blocks is None else blocks >= 0
    apart, sizes = _by_block(second_right.astype(np.int64) - first_right, blocks, len(first))
    random = np.random.default_rng(0)
    drawn = _drawn(apart, sizes, random)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    pairs = []
    for i, n in enumerate(ns):
        only = [
            int((a & ~b)[counts, i].sum())
            for a, b in ((first_right, second_right), (second_right, first_right))
        ]
        p = _mcnemar(*only) if (sizes == 1).all() else _signs(apart[:, i], random)
        pairs.append(
            Paired(
                n=int(n),
                difference=float(apart[:, i].sum() / sizes.sum()),
                low=float(low[i]),
                high=float(high[i]),
                first_only=only[0],
                second_only=only[1],
                p=p,
                test="McNemar, exact" if (sizes == 1).all() else f"random signs of {len(sizes)} blocks",
            )
        )
    return pairs


def _right(hits: Hits, ns: Sequence[int]) -> NDArray[np.bool_]:
    """bool [Q, len(ns)]: whether the first right answer of a query is among the first N."""
    return np.asarray((hits[:, None] > 0) & (hits[:, None] <= np.asarray(ns, np.int64)))


def _by_block(
    values: NDArray[np.integer] | NDArray[np.bool_], blocks: Hits | None, n_queries: int
) -> tuple[Hits, Hits]:
    """Sums [B, len(ns)] of each block, and how many queries it has [B]."""
    if blocks is not None and blocks.shape != (n_queries,):
        raise InputError(f"{n_queries} queries, but {list(blocks.shape)} numbers of blocks")
    numbers = np.arange(n_queries) if blocks is None else blocks
    counts = numbers >= 0
    if not counts.any():
        raise InputError("recall needs at least one query that counts; there is none")
    _, block_of = np.unique(numbers[counts], return_inverse=True)
    sums = np.zeros((int(block_of.max()) + 1, values.shape[1]), np.int64)
    np.add.at(sums, block_of, values[counts].astype(np.int64))
    return sums, np.bincount(block_of)


def _drawn(sums: Hits, sizes: Hits, random: np.random.Generator) -> NDArray[np.float64]:
    """float64 [DRAWS, len(ns)]: recall@N of blocks drawn with replacement."""
    n_blocks = len(sizes)
    recalls = np.empty((DRAWS, sums.shape[1]))
    step = max(1, _AT_ONCE // n_blocks)
    for start in range(0, DRAWS, step):
        count = min(step, DRAWS - start)
        chosen = random.integers(n_blocks, size=(count, n_blocks))
        times = np.stack([np.bincount(row, minlength=n_blocks) for row in chosen])
        recalls[start : start + count] = (times @ sums) / (times @ sizes)[:, None]
    return recalls


def _mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided p of so many heads of a fair coin, in whole numbers (scipy.stats loads slowly)."""
    differing = first_only + second_only
    ways = at_most = 1
    for heads in range(min(first_only, second_only)):
        ways = ways * (differing - heads) // (heads + 1)
        at_most += ways
    return min(1.0, 2 * at_most / (1 << differing))


def _signs(apart: Hits, random: np.random.Generator) -> float:
    """Two-sided p of a sum whose terms might as well have the other sign."""
    terms = apart[apart != 0]
    if not len(terms):
        return 1.0
    reached = 1
    step = max(1, _AT_ONCE // len(terms))
    for start in range(0, FLIPS, step):
        signs = random.integers(0, 2, (min(step, FLIPS - start), len(terms)), dtype=np.int8) * 2 - 1
        reached += int((np.abs(signs.astype(np.int64) @ terms) >= abs(int(terms.sum()))).sum())
    return reached / (FLIPS + 1)
