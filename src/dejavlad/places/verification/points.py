"""How a ranking is re-ranked by local features, as data; where the features of listed photos come from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from dejavlad import local
from dejavlad.errors import InputError, PhotoError, UnknownNameError
from dejavlad.local.base import LONGEST, POINTS, LocalExtractor
from dejavlad.local.codec import decode, encode
from dejavlad.local_features import LocalFeatures
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.candidates import Candidates
from dejavlad.places.verification.confidence import Evidence, verified_confidence
from dejavlad.rerank import PointReranker, Verified, VerifySetting
from dejavlad.rerank.point_reranker import nearness_scores

NO_CHECK = "none"
"""The name of no verification."""
STEP = 5
"""Candidates compared before it is asked whether the answer is sure already, or hopeless."""
RIVALS = 3
"""Photos of other places that are compared in any case: what they have in common with the query is chance."""
SURE = 0.95
"""No more candidates are compared once geometry alone gives so much confidence..."""
HOPELESS = 0.1
"""...nor where it gives less than so much, and a whole step changed nothing."""
KEPT = 4096
"""Photos whose features are kept for the next query, about 70 kB each."""


@dataclass(frozen=True, slots=True)
class PointSetting:
    """Which local features are compared, and of how many candidates.

    Raises:
        UnknownNameError: no such kind of local features.
        InputError: a number below 1.
    """

    kind: str = local.AUTO
    """A name in `dejavlad.local.EXTRACTORS`, or ``"auto"``."""
    depth: int = 20
    """Candidates of each query that are compared."""
    points: int = POINTS
    """Points of a photo, at most."""
    longest: int = LONGEST
    """Pixels of the longer side of prepared photos."""
    verification: VerifySetting = field(default_factory=VerifySetting)
    """How matches are verified."""
    second_best: str | None = None
    """Why ``"auto"`` became another kind than the best."""

    def __post_init__(self) -> None:
        if self.kind != local.AUTO and self.kind not in local.EXTRACTORS:
            raise UnknownNameError("kind of local features", self.kind, [*local.EXTRACTORS, local.AUTO])
        if min(self.depth, self.points, self.longest) < 1:
            raise InputError(
                f"depth, points and longest side must be at least 1; given {self.depth}, {self.points}, "
                f"{self.longest}"
            )

    @classmethod
    def parse(cls, verify: Self | str | None) -> Self | None:
        """A setting as callers give it: the setting itself, the name of a kind, ``"none"``, or None.

        Raises:
            UnknownNameError: no such kind.
        """
        if verify is None or verify == NO_CHECK:
            return None
        return cls(verify) if isinstance(verify, str) else verify

    def chosen(self) -> PointSetting:
        """The setting with ``"auto"`` replaced by the best kind that is installed."""
        if self.kind != local.AUTO:
            return self
        kind, why = local.best_kind()
        return replace(self, kind=kind, second_best=why)

    def extractor(self, **options: Any) -> LocalExtractor:
        """What makes the features; the options are those of `dejavlad.local.create`."""
        return local.create(self.kind, points=self.points, longest=self.longest, **options)

    def reranker(self, *, remembered: int = 0) -> PointReranker:
        """What re-ranks so."""
        return PointReranker(setting=self.verification, k=self.depth, remembered=remembered)

    def to_dict(self) -> dict[str, Any]:
        """Its values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.kind} ({self.points} points, {self.verification.model}, first {self.depth})"


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A query's candidates after they were compared with it."""

    order: NDArray[np.int64]
    """[K] places in the candidates, those that show the query's place from nearby first."""
    compared: dict[int, Verified]
    """Place in the candidates -> what that photo, if it could be read, and the query have in common."""
    unread: str = ""
    """Why the query itself could not be compared with anything; empty where it could."""


class MapVerifier:
    """Photos of a map in the order of how near their views are to a photo's.

    Args:
        photos: the map's photos, by row; a row may raise PhotoError.
        setting: how; ``"auto"`` is chosen already.
        stored: local features that the map keeps, by row; None for those that it does not.
        options: of `dejavlad.local.create`.
    """

    def __init__(
        self,
        photos: PhotoRows,
        setting: PointSetting,
        *,
        stored: Callable[[int], LocalFeatures | None] | None = None,
        **options: Any,
    ) -> None:
        self.setting = setting
        self.extractor = setting.extractor(**options)
        self.reranker = setting.reranker()
        self._source = PointSource(self.extractor, photos, stored)

    def __call__(self, photo: Photo, near: Candidates) -> Checked:
        """Compare the first candidates with a photo, until one is surely its place or none seems to be.

        The first `RIVALS` photos of other places are among those compared. Photos that cannot be read any
        more are not compared, and stand as having nothing in common with it.
        """
        queries = PointSource(self.extractor, PhotoList([photo]))
        query, count = queries(0), len(near.photos_K)
        if queries.failed:
            return Checked(np.arange(count), {}, queries.failed[0])
        most = min(self.setting.depth, count)
        compared: dict[int, Verified] = {}
        first = -1
        for start in range(0, most, STEP):
            before = first
            for at in range(start, min(start + STEP, most)):
                if at not in compared:
                    compared[at] = self._compare(query, int(near.photos_K[at]))
            places = list(compared)
            scores = nearness_scores(list(compared.values()), near.distances_K[places])
            first = places[int(np.argmin(scores))]
            for at in near.others(first)[:RIVALS]:
                if at not in compared:
                    compared[at] = self._compare(query, int(near.photos_K[at]))
            sure = _geometry_confidence(first, compared, near)
            if sure >= SURE or (first == before and sure < HOPELESS):
                break
        places = sorted(compared)
        scores = nearness_scores([compared[at] for at in places], near.distances_K[places])
        order = [places[i] for i in np.argsort(scores, kind="stable").tolist()]
        rest = [at for at in range(count) if at not in compared]
        read = {
            at: pair for at, pair in compared.items() if int(near.photos_K[at]) not in self._source.failed
        }
        return Checked(np.array([*order, *rest], np.int64), read)

    def between(self, rows_K: NDArray[np.int64]) -> Callable[[int, int], Verified]:
        """What two candidates, by their places in these rows of the map, have in common."""
        return lambda at, other: self._compare(self._source(int(rows_K[at])), int(rows_K[other]))

    def pair(self, photo: Photo, row: int) -> tuple[LocalFeatures, LocalFeatures, Verified]:
        """The features of a photo and of one of the map's, and what they have in common."""
        query = PointSource(self.extractor, PhotoList([photo]))(0)
        return query, self._source(row), self._compare(query, row)

    def _compare(self, query: LocalFeatures, row: int) -> Verified:
        return self.reranker.verified(query, self._source(row))


def _geometry_confidence(first: int, compared: Mapping[int, Verified], near: Candidates) -> float:
    """How sure geometry alone makes that the first candidate is the query's place."""
    others = [pair for at, pair in compared.items() if not near.same_KK[first, at]]
    return verified_confidence(Evidence(0.0, 2).verified(compared[first], others))


class PhotoRows(Protocol):
    """Photos by row."""

    def __getitem__(self, row: int, /) -> Photo:
        """The photo of a row; raises PhotoError where its pixels are nowhere."""
        ...


class PointSource:
    """Local features of listed photos by row, made when asked for; the last `KEPT` are kept, packed.

    Args:
        extractor: what makes them.
        photos: the list.
        stored: features that were made before, by row; None for those that were not.
    """

    def __init__(
        self,
        extractor: LocalExtractor,
        photos: PhotoRows,
        stored: Callable[[int], LocalFeatures | None] | None = None,
    ) -> None:
        self.extractor, self.photos, self.stored = extractor, photos, stored
        self.failed: dict[int, str] = {}
        """Row -> reason, of photos that could not be read."""
        self._cache: OrderedDict[int, bytes] = OrderedDict()

    def __call__(self, row: int) -> LocalFeatures:
        """The features of a photo; none where it cannot be read."""
        if row in self._cache:
            self._cache.move_to_end(row)
        else:
            self._cache[row] = encode(self._made(row))
            if len(self._cache) > KEPT:
                self._cache.popitem(last=False)
        return decode(self._cache[row])

    def _made(self, row: int) -> LocalFeatures:
        features = None if self.stored is None else self.stored(row)
        if features is not None:
            return features
        try:
            (features,) = local.local_features(self.extractor, [self.photos[row]])
        except PhotoError as error:
            self.failed[row] = error.reason
            dims, nothing = self.extractor.dims, np.zeros(0, np.float32)
            return LocalFeatures(
                nothing.reshape(0, 2), nothing.reshape(0, dims), nothing, (1, 1), self.extractor.kind
            )
        return features
