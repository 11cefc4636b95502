"""How a ranking is re-ranked by local features, as data; where the features of listed photos come from."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad import local
from dejavlad.errors import InputError, PhotoError, UnknownNameError
from dejavlad.local.base import LONGEST, POINTS, LocalExtractor
from dejavlad.local.codec import decode, encode
from dejavlad.local_features import LocalFeatures
from dejavlad.photo import Photo, PhotoList
from dejavlad.rerank import PointReranker, Verified, VerifySetting
from dejavlad.rerank.point_reranker import nearness_scores

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

    def chosen(self) -> PointSetting:
        """The setting with ``"auto"`` replaced by the best kind that is installed."""
        if self.kind != local.AUTO:
            return self
        kind, why = local.best_kind()
        return replace(self, kind=kind, second_best=why)

    def extractor(self, **options: Any) -> LocalExtractor:
        """What makes the features; the options are those of `dejavlad.local.create`."""
        return local.create(self.kind, points=self.points, longest=self.longest, **options)

    def reranker(self) -> PointReranker:
        """What re-ranks so."""
        return PointReranker(setting=self.verification, k=self.depth)

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


class MapVerifier:
    """Photos of a map in the order of how near their views are to a photo's.

    Args:
        photos: the map's photos.
        setting: how; ``"auto"`` is chosen already.
        options: of `dejavlad.local.create`.
    """

    def __init__(self, photos: PhotoList, setting: PointSetting, **options: Any) -> None:
        self.setting = setting
        self.extractor = setting.extractor(**options)
        self.reranker = setting.reranker()
        self._source = PointSource(self.extractor, photos)

    def __call__(
        self, photo: Photo, rows_K: NDArray[np.int64], distances_K: NDArray[np.floating[Any]]
    ) -> Checked:
        """Compare the first candidates with a photo.

        Photos that cannot be read any more are not compared, and stand as having nothing in common with it.

        Args:
            photo: the query.
            rows_K: candidates, as rows of the map.
            distances_K: their distances, ascending.
        """
        query = PointSource(self.extractor, PhotoList([photo]))(0)
        count = min(self.setting.depth, len(rows_K))
        found = [self.reranker.verified(query, self._source(int(row))) for row in rows_K[:count]]
        first = np.argsort(nearness_scores(found, distances_K[:count]), kind="stable")
        read = {at: of for at, of in enumerate(found) if int(rows_K[at]) not in self._source.failed}
        return Checked(np.concatenate([first, np.arange(count, len(rows_K))]), read)


class PointSource:
    """Local features of listed photos by row, made when asked for; the last `KEPT` are kept, packed.

    Args:
        extractor: what makes them.
        photos: the list.
    """

    def __init__(self, extractor: LocalExtractor, photos: PhotoList) -> None:
        self.extractor, self.photos = extractor, photos
        self.failed: set[int] = set()
        """Rows of photos that could not be read."""
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def __call__(self, row: int) -> LocalFeatures:
        """The features of a photo; none where it cannot be read."""
        if row in self._kept:
            self._kept.move_to_end(row)
        else:
            self._kept[row] = encode(self._made(row))
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return decode(self._kept[row])

    def _made(self, row: int) -> LocalFeatures:
        try:
            (made,) = local.local_features(self.extractor, [self.photos[row]])
        except PhotoError:
            self.failed.add(row)
            dims, nothing = self.extractor.dims, np.zeros(0, np.float32)
            return LocalFeatures(
                nothing.reshape(0, 2), nothing.reshape(0, dims), nothing, (1, 1), self.extractor.kind
            )
        return made
