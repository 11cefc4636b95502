"""Descriptors of photos -> where these were taken, by what lies in a map.

Legend: N photos of the map, Q queries, K candidates of one query, D the model's descriptor size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dejavlad.extraction import at_unit_length
from dejavlad.failures import NO_DESCRIPTOR
from dejavlad.geo import Position
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.answer import Answer, Match
from dejavlad.places.confidence import PLACES, distinct_places, stand_out
from dejavlad.places.filters import Filter
from dejavlad.places.located_position import located_position
from dejavlad.places.map_view import Floats, Ids, MapView
from dejavlad.places.preset import Preset
from dejavlad.places.reranking import MapReranker
from dejavlad.places.verification.confidence import (
    KNOWN,
    Evidence,
    reason,
    search_confidence,
    verified_confidence,
)
from dejavlad.places.verification.points import Checked, MapVerifier, PointSetting

CANDIDATES = 200
"""K: neighbours looked at for each query, more where they all show a few places."""


def locate_descriptors(
    view: MapView,
    rows_QD: Floats,
    photos: PhotoList,
    *,
    k: int,
    rerank: Preset | None,
    verify: PointSetting | str | None,
    only: Filter | None,
) -> list[Answer]:
    """See `PlaceMap.locate_descriptors`."""
    rows_QD, _ = at_unit_length(np.asarray(rows_QD, np.float32), "the queries")
    rows_QD = np.asarray(rows_QD)
    points, depth, something = PointSetting.parse(verify), max(k, CANDIDATES), bool(rows_QD.any())
    locator = Locator(
        view,
        k,
        view.reranker(rerank) if rerank is not None and something else None,
        view.verifier(points) if points is not None and something else None,
    )
    passing = None if only is None or only.own else view.allowed(only)
    ranking = None
    if only is None or (passing is not None and len(passing.rows)):
        ranking = view.search(rows_QD, k=depth, allowed=None if passing is None else passing.rows)
    answers = []
    for i, (photo, row_D) in enumerate(zip(photos, rows_QD, strict=True)):
        if not row_D.any():
            answers.append(Answer.empty(photo, failed=NO_DESCRIPTOR))
            continue
        if only is not None and only.own:
            passing = view.allowed(only, photo)
        rows = None if passing is None else passing.rows
        if passing is not None and not len(passing.rows):
            answer = Answer.empty(photo, reason=passing.reason)
        elif ranking is not None:
            answer = locator(photo, row_D, ranking.indices[i], ranking.distances[i], rows)
        else:
            near = view.search(row_D[None], k=depth, allowed=rows)
            answer = locator(photo, row_D, near.indices[0], near.distances[0], rows)
        answers.append(answer if passing is None else replace(answer, searched=passing.to_dict()))
    return answers


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The photos of the map that a query is compared with, nearest first."""

    photos_K: Ids
    """Where they stand in the map's photos."""
    distances_K: Floats
    """Euclidean, to the query's descriptor."""
    same_KK: NDArray[np.bool_]
    """Whether two of them are known to show one place."""
    best_J: Ids
    """The nearest of each place, at most `PLACES`."""


@dataclass(frozen=True, slots=True, eq=False)
class Locator:
    """Answers for one query after another."""

    view: MapView
    """The map."""
    k: int
    """Matches in an answer, at most."""
    reorder: MapReranker | None
    """Orders the candidates, if given."""
    check: MapVerifier | None
    """Compares them by local features, if given."""

    def __call__(
        self, photo: Photo, row_D: Floats, near_K: Ids, distances_K: Floats, allowed: Ids | None = None
    ) -> Answer:
        """Where a photo was taken.

        Args:
            photo: the query.
            row_D: its descriptor.
            near_K: the nearest photos of the map; -1 where there are no more.
            distances_K: theirs.
            allowed: the photos that may be answers, ascending; None for all.
        """
        near = self.candidates(row_D, near_K, distances_K, allowed)
        evidence = Evidence(stand_out(near.distances_K[near.best_J]), len(near.best_J))
        order = np.arange(len(near.photos_K)) if self.reorder is None else self.reorder(photo, near.photos_K)
        if self.check is None:
            sure = search_confidence(evidence)
            matches = self._matches(near, order, None)
            return Answer(photo.key, photo.path, matches, sure, sure >= KNOWN, evidence.standing)
        checked = self.check(photo, near.photos_K, near.distances_K, near.same_KK)
        order = checked.order if self.reorder is None else order
        answer = self._verified(photo, near, order, checked, evidence)
        return replace(answer, matches=self._matches(near, order, checked))

    def candidates(
        self, row_D: Floats, near_K: Ids, distances_K: Floats, allowed: Ids | None = None
    ) -> Candidates:
        """The nearest photos, as many as it takes to see `PLACES` places where the map has them."""
        most = len(self.view) if allowed is None else len(allowed)
        while True:
            near_K, distances_K = near_K[near_K >= 0], distances_K[near_K >= 0]
            same_KK = self.view.same_place(near_K)
            best_J = distinct_places(distances_K, same_KK, self.view.descriptors_of(near_K))
            if len(best_J) == PLACES or len(near_K) >= most:
                break
            wider = self.view.search(row_D[None], k=4 * len(near_K), allowed=allowed)
            if (wider.indices[0] >= 0).sum() <= len(near_K):
                break  # an approximate index has no more
            near_K, distances_K = wider.indices[0], wider.distances[0]
        return Candidates(near_K, distances_K, same_KK, best_J)

    def _verified(
        self, photo: Photo, near: Candidates, order: Ids, checked: Checked, places: Evidence
    ) -> Answer:
        """The answer by what the geometry says of the first candidate, without its matches."""
        assert self.check is not None
        first, snapshot = int(order[0]), self.view.snapshot
        if first not in checked.compared:
            sure = search_confidence(places)
            why = f"not verified: {checked.unread or self.view.unverified(int(near.photos_K[first]))}"
            return Answer(photo.key, photo.path, (), sure, sure >= KNOWN, places.standing, reason=why)
        rivals = self.check.rivals(first, checked.compared, near.photos_K, near.same_KK[first])
        evidence = places.verified(checked.compared[first], rivals)
        sure = verified_confidence(evidence)
        positions: dict[int, Position | None] = {
            at: snapshot.photo(int(near.photos_K[at])).position for at in checked.compared
        }
        agreed, uncertainty = located_position(first, checked.compared, positions)
        return Answer(
            photo.key,
            photo.path,
            (),
            sure,
            sure >= KNOWN,
            places.standing,
            evidence=evidence,
            reason=reason(evidence, snapshot.photo(int(near.photos_K[first])).key),
            agreed=agreed,
            uncertainty_m=uncertainty,
        )

    def _matches(self, near: Candidates, order: Ids, checked: Checked | None) -> tuple[Match, ...]:
        """The first `k` candidates."""
        agreeing = {} if checked is None else {at: pair.inliers for at, pair in checked.compared.items()}
        matches = []
        for at in order[: self.k].tolist():
            photo, distance = self.view.snapshot.photo(int(near.photos_K[at])), float(near.distances_K[at])
            score = float(1 - distance * distance / 2)
            matches.append(Match(photo.key, photo.path, distance, score, photo.position, agreeing.get(at)))
        return tuple(matches)
