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
from dejavlad.ranking import Ranking
from dejavlad.rerank.fusion import FUSIONS
from dejavlad.rerank.matching import Match, Matcher
from dejavlad.rerank.ransac import RansacMatcher
from dejavlad.rerank.rapid import RapidMatcher

Patches = Sequence[PatchSet]
"""The patches of one photo, one set a size."""

PatchSource = Callable[[int], Patches] | Sequence[Patches]
"""Patches by row: a function, or a list."""

MATCHERS: Final[Mapping[str, Callable[..., Matcher]]] = {"rapid": RapidMatcher, "ransac": RansacMatcher}
"""Name -> constructor, called with the matcher's own options."""


class Reranker:
    """Puts the first candidates of each query in the order of how well their patches match.

    Equivalent to ``local_matcher`` of Patch-NetVLAD, with an order that ties do not disturb: equals stay
    as they were.

    Args:
        kind: a name in `MATCHERS`, or a matcher.
        weights: one a patch size; equal unless told.
        fusion: a name in `FUSIONS`.
        k: how many of each query's candidates are compared; the others stay behind them, as they were.
        options: of the matcher, e.g. ``threshold=1.5``.

    Raises:
        UnknownNameError: no such matcher or fusion.
        InputError: k below 1, or options that the matcher does not have.
    """

    def __init__(
        self,
        kind: str | Matcher = "rapid",
        *,
        weights: Sequence[float] | None = None,
        fusion: str = "zscore",
        k: int = 100,
        **options: Any,
    ) -> None:
        if fusion not in FUSIONS:
            raise UnknownNameError("fusion", fusion, FUSIONS)
        if k < 1:
            raise InputError(f"at least 1 candidate must be re-ranked; given k={k}")
        self.matcher = _matcher(kind, options)
        self.weights = None if weights is None else tuple(map(float, weights))
        self.fusion, self.k = fusion, k

    def __call__(self, ranking: Ranking, queries: PatchSource, database: PatchSource) -> Ranking:
        """A ranking re-ranked.

        Args:
            ranking: of Q queries over the database.
            queries: patches of the query by its row in the ranking.
            database: patches of a photo of the database by its row.

        Returns:
            The same rows [Q, K] in a new order. Distances of the re-ranked ones are their fused scores; those
            of the others go on from there, as far apart as they were.

        Raises:
            InputError: patches that do not fit each other, or weights that do not fit the number of sizes.
        """
        indices, distances = ranking.indices.copy(), ranking.distances.copy()
        for q, row in enumerate(ranking.indices):
            count = int((row[: self.k] >= 0).sum())
            if not count:
                continue
            candidates = [_patches(database, int(at)) for at in row[:count]]
            fused_C = self.scores(_patches(queries, q), candidates)
            order_C = np.argsort(fused_C, kind="stable")
            indices[q, :count] = row[order_C]
            distances[q, :count] = fused_C[order_C]
            rest = slice(count, int((row >= 0).sum()))
            distances[q, rest] += distances[q, count - 1] - ranking.distances[q, count - 1]
        return Ranking(indices, distances)

    def scores(self, query: Patches, candidates: Sequence[Patches]) -> NDArray[np.float64]:
        """Fused scores [C] of candidates of one query, smaller being better.

        Raises:
            InputError: see `__call__`.
        """
        matches = self.match(query, candidates)
        scores_CS = np.array([[match.score for match in of] for of in matches])
        return FUSIONS[self.fusion](scores_CS.reshape(len(candidates), len(query)), self.weights)

    def match(self, query: Patches, candidates: Sequence[Patches]) -> list[list[Match]]:
        """For each candidate, the match at each patch size.

        Raises:
            InputError: see `__call__`.
        """
        if not query or any(len(of) != len(query) for of in candidates):
            counts = sorted({len(query), *map(len, candidates)})
            raise InputError(f"photos need patches of the same sizes, at least one; given {counts} sizes")
        by_size = [self.matcher(of, [other[s] for other in candidates]) for s, of in enumerate(query)]
        return [list(of) for of in zip(*by_size, strict=True)]


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
