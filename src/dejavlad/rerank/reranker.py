"""A ranking in a better order: its first candidates compared with the query patch by patch.

Shapes: Q queries, K places of the ranking, C candidates, S patch sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.patches import PatchSet
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.ranking import Ranking
from dejavlad.rerank.fusion import FUSIONS, Scores
from dejavlad.rerank.matching import ApproximateMatcher, Matcher, PatchMatch
from dejavlad.rerank.ransac import RansacMatcher
from dejavlad.rerank.rapid import RapidMatcher
from dejavlad.rerank.shortlist import DIMS, FIRST, Shortlist, shortlisted

Patches = Sequence[PatchSet]
"""The patches of one photo, one set a size."""

PatchSource = Callable[[int], Patches] | Sequence[Patches]
"""Patches by row: a function, or a list."""

MATCHERS: Final[dict[str, Callable[..., Matcher]]] = {"rapid": RapidMatcher, "ransac": RansacMatcher}
"""Name -> constructor, called with the matcher's own options."""


RERANKING = "re-ranking"
"""The name of the task in reports of progress."""


class Reranker:
    """Puts the first candidates of each query in the order of how well their patches match.

    Equivalent to ``local_matcher`` of Patch-NetVLAD, with an order that ties do not disturb: equals stay
    as they were.

    Args:
        kind: a name in `MATCHERS`, or a matcher.
        weights: one a patch size; equal unless given.
        fusion: a name in `FUSIONS`.
        k: how many of each query's candidates are compared; the others stay behind them, as they were.
        shortlist: None compares all of them exactly. A number, or "auto", first compares all approximately
            (by the first `DIMS` dimensions, in whole numbers; meant for whitened descriptors) and then only
            so many exactly, the best of the approximate comparison; "auto" takes more where it is close. The
            best match was the same for nearly all queries that have a clear answer, less often for hard ones
            (``docs/results.md`` has the figures); the order behind the shortlist is approximate.
        options: of the matcher, e.g. ``threshold=1.5``.

    Raises:
        UnknownNameError: no such matcher or fusion.
        InputError: k or a shortlist below 1, options that the matcher does not have, or a shortlist with a
            matcher without the method `approximate`.
    """

    def __init__(
        self,
        kind: str | Matcher = "rapid",
        *,
        weights: Sequence[float] | None = None,
        fusion: str = "zscore",
        k: int = 100,
        shortlist: Shortlist = None,
        **options: Any,
    ) -> None:
        if fusion not in FUSIONS:
            raise UnknownNameError("fusion", fusion, FUSIONS)
        if k < 1:
            raise InputError(f"at least 1 candidate must be re-ranked; given k={k}")
        if not (shortlist is None or shortlist == "auto" or (isinstance(shortlist, int) and shortlist >= 1)):
            raise InputError(f'a shortlist is a number from 1, "auto" or None; given {shortlist!r}')
        self.matcher = _matcher(kind, options)
        if shortlist is not None and not isinstance(self.matcher, ApproximateMatcher):
            raise InputError(
                f"a shortlist needs a matcher with the method `approximate`, which "
                f"{type(self.matcher).__name__} has not: leave shortlist=None"
            )
        self.shortlist = shortlist
        self.weights = None if weights is None else tuple(map(float, weights))
        self.fusion, self.k = fusion, k

    def __call__(
        self,
        ranking: Ranking,
        queries: PatchSource,
        database: PatchSource,
        *,
        on_progress: OnProgress = silent,
    ) -> Ranking:
        """A ranking re-ranked.

        Args:
            ranking: of Q queries over the database.
            queries: patches of the query by its row in the ranking.
            database: patches of a photo of the database by its row.
            on_progress: called with reports of each query.

        Returns:
            The same rows [Q, K] in a new order. Distances of the re-ranked ones are their fused scores; those
            of the others go on from there, as far apart as they were.

        Raises:
            InputError: patches that do not fit each other, or weights that do not fit the number of sizes.
        """
        indices, distances = ranking.indices.copy(), ranking.distances.copy()
        on_progress(Progress(RERANKING, 0, len(indices)))
        for q, row in enumerate(ranking.indices):
            count = int((row[: self.k] >= 0).sum())
            if count:
                candidates = [_patches(database, int(at)) for at in row[:count]]
                indices[q, :count], distances[q, :count] = self.rerank_query(
                    row[:count], _patches(queries, q), candidates
                )
                rest = slice(count, int((row >= 0).sum()))
                distances[q, rest] += distances[q, count - 1] - ranking.distances[q, count - 1]
            on_progress(Progress(RERANKING, q + 1, len(indices)))
        return Ranking(indices, distances)

    def rerank_query(
        self, rows_C: NDArray[np.int64], query: Patches, candidates: Sequence[Patches]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """One query's candidates in their new order.

        Args:
            rows_C: their rows in the database, in the order so far.
            query: the patches of the query.
            candidates: those of each row.

        Returns:
            The rows [C] in the new order and their fused scores [C], ascending.

        Raises:
            InputError: see `__call__`.
        """
        fused_C = self.scores(query, candidates)
        order_C = np.argsort(fused_C, kind="stable")
        return np.asarray(rows_C)[order_C], fused_C[order_C]

    def scores(
        self,
        query: Patches,
        candidates: Sequence[Patches],
        distances_C: NDArray[np.floating[Any]] | None = None,
    ) -> NDArray[np.float64]:
        """Fused scores [C] of candidates of one query, smaller being better.

        The first ranking's distances do not count here, as in Patch-NetVLAD.

        Raises:
            InputError: see `__call__`.
        """
        _check(query, candidates)

        def exact(at: NDArray[np.int64]) -> Scores:
            matches = self.match(query, [candidates[c] for c in at])
            return np.array([[match.score for match in by_size] for by_size in matches]).reshape(
                len(at), len(query)
            )

        def fuse(scores_CS: Scores) -> Scores:
            return FUSIONS[self.fusion](scores_CS, self.weights)

        matcher, count = self.matcher, len(candidates)
        enough = count if self.shortlist is None else FIRST if self.shortlist == "auto" else self.shortlist
        if self.shortlist is None or count <= enough or not isinstance(matcher, ApproximateMatcher):
            return fuse(exact(np.arange(count)))
        by_size = [
            matcher.approximate(patches, [other[s] for other in candidates], DIMS)
            for s, patches in enumerate(query)
        ]
        return shortlisted(np.stack(by_size, axis=1), exact, fuse, self.shortlist)

    def match(self, query: Patches, candidates: Sequence[Patches]) -> list[list[PatchMatch]]:
        """For each candidate, the match at each patch size.

        Raises:
            InputError: see `__call__`.
        """
        _check(query, candidates)
        by_size = [
            self.matcher(patches, [other[s] for other in candidates]) for s, patches in enumerate(query)
        ]
        return [list(matches) for matches in zip(*by_size, strict=True)]


def _check(query: Patches, candidates: Sequence[Patches]) -> None:
    if not query or any(len(candidate) != len(query) for candidate in candidates):
        counts = sorted({len(query), *map(len, candidates)})
        raise InputError(f"photos need patches of the same sizes, at least one; given {counts} sizes")


def _matcher(kind: str | Matcher, options: Mapping[str, Any]) -> Matcher:
    if not isinstance(kind, str):
        return kind
    if kind not in MATCHERS:
        raise UnknownNameError("matcher", kind, MATCHERS)
    try:
        return MATCHERS[kind](**options)
    except TypeError as error:
        raise InputError(f"matcher {kind!r}: {error}") from None


def _patches(source: PatchSource, row: int) -> Patches:
    return source(row) if callable(source) else source[row]
