"""Descriptors of photos -> where these were taken, by what lies in a map.

Legend: N photos of the map, Q queries, K candidates of one query, D the model's descriptor size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from dejavlad.extraction import at_unit_length
from dejavlad.failures import NO_DESCRIPTOR
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.answer import Answer, Match
from dejavlad.places.candidates import Candidates, VerifiedPlace
from dejavlad.places.confidence import PLACES
from dejavlad.places.filters import Filter
from dejavlad.places.map_view import Floats, Ids, MapView
from dejavlad.places.preset import Preset
from dejavlad.places.reranking import MapReranker
from dejavlad.places.verification.confidence import KNOWN, reason, search_confidence
from dejavlad.places.verification.points import MapVerifier, PointSetting
from dejavlad.rerank import Verified

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
    """One answer a photo, by rows [Q, D]; arguments and errors are `PlaceMap.locate_descriptors`'."""
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
        order = np.arange(len(near.photos_K)) if self.reorder is None else self.reorder(photo, near.photos_K)
        if self.check is None:
            return self._answer(photo, near, order)
        checked = self.check(photo, near)
        order = checked.order if self.reorder is None else order
        first = int(order[0])
        if first not in checked.compared:
            why = checked.unread or self.view.unverified(int(near.photos_K[first]))
            return self._answer(photo, near, order, checked.compared, why=f"not verified: {why}")
        photos = {at: self.view.snapshot.photo(int(near.photos_K[at])) for at in checked.compared}
        positions = {at: photo.position for at, photo in photos.items()}
        place = near.verified(first, checked.compared, self.check.between(near.photos_K), positions)
        why = reason(place.evidence, photos[first].key)
        return self._answer(photo, near, order, checked.compared, place, why)

    def candidates(
        self, row_D: Floats, near_K: Ids, distances_K: Floats, allowed: Ids | None = None
    ) -> Candidates:
        """The nearest photos, as many as it takes to see `PLACES` places where the map has them."""
        most = len(self.view) if allowed is None else len(allowed)
        while True:
            near_K, distances_K = near_K[near_K >= 0], distances_K[near_K >= 0]
            same_KK, descriptors_KD = self.view.same_place(near_K), self.view.descriptors_of(near_K)
            near = Candidates.of(near_K, distances_K, same_KK, descriptors_KD)
            if len(near.best_J) == PLACES or len(near_K) >= most:
                return near
            wider = self.view.search(row_D[None], k=4 * len(near_K), allowed=allowed)
            if (wider.indices[0] >= 0).sum() <= len(near_K):
                return near  # an approximate index has no more
            near_K, distances_K = wider.indices[0], wider.distances[0]

    def _answer(
        self,
        photo: Photo,
        near: Candidates,
        order: Ids,
        compared: Mapping[int, Verified] = MappingProxyType({}),
        place: VerifiedPlace | None = None,
        why: str = "",
    ) -> Answer:
        """The first `k` candidates, and how sure the first is: by geometry, where it was verified."""
        matches = []
        for at in order[: self.k].tolist():
            match, distance = self.view.snapshot.photo(int(near.photos_K[at])), float(near.distances_K[at])
            score = float(1 - distance * distance / 2)
            inliers = compared[at].inliers if at in compared else None
            matches.append(Match(match.key, match.path, distance, score, match.position, inliers))
        by_search = near.evidence
        sure = search_confidence(by_search) if place is None else place.confidence
        answer = Answer(
            photo.key, photo.path, tuple(matches), sure, sure >= KNOWN, by_search.standing, reason=why
        )
        if place is None:
            return answer
        return replace(
            answer, evidence=place.evidence, agreed=place.agreed, uncertainty_m=place.uncertainty_m
        )
