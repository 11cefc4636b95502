"""A map as of one moment: what is searched, filtered, compared and verified when photos are located.

Legend: N photos of the map, Q queries, K candidates, D the model's descriptor size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import PhotoError
from dejavlad.local import AUTO, best_kind
from dejavlad.local_features import LocalFeatures
from dejavlad.model import PlaceModel
from dejavlad.photo import Photo
from dejavlad.places.confidence import same_place
from dejavlad.places.databases.database_features import DatabaseFeatures
from dejavlad.places.databases.rows import DatabaseRows
from dejavlad.places.filters import Allowed, Filter, PhotoColumns
from dejavlad.places.map_folder.index import MapIndex, MapSearch
from dejavlad.places.map_folder.snapshot import MapSnapshot
from dejavlad.places.preset import Preset
from dejavlad.places.reranking import MapReranker
from dejavlad.places.verification.map_features import MapFeatures
from dejavlad.places.verification.points import MapVerifier, PointSetting
from dejavlad.ranking import Ranking

FROM_ARRAY = "it was given as an array, whose pixels the map does not keep"

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class MapView:
    """Reads one snapshot of a map; what searches and compares is made once, when it is first needed.

    Args:
        snapshot: its photos and rows.
        index: its search index; None of a map in a database.
        features: the local features that it keeps, if any.
    """

    def __init__(
        self,
        model: PlaceModel,
        snapshot: MapSnapshot,
        index: MapIndex | None,
        features: MapFeatures | DatabaseFeatures,
    ) -> None:
        self.model, self.snapshot, self.index, self.features = model, snapshot, index, features
        self.searcher: MapSearch | None = None
        """What searches its rows; None until it is needed, and again once the index has changed."""
        self._rerankers: dict[Preset, MapReranker] = {}
        self._verifiers: dict[PointSetting, MapVerifier] = {}

    def __len__(self) -> int:
        return self.snapshot.head.photos

    def allowed(self, only: Filter, photo: Photo | None = None) -> Allowed:
        """Which photos pass a filter, for a query where it depends on that."""
        return only.allowed(self._columns, photo)

    @cached_property
    def _columns(self) -> PhotoColumns:
        return PhotoColumns.of_numbers(self.snapshot.numbers)

    def reranker(self, preset: Preset) -> MapReranker:
        """What compares photos with those of the map patch by patch."""
        if preset not in self._rerankers:
            self._rerankers[preset] = MapReranker(self.model, self.snapshot.photos, preset)
        return self._rerankers[preset]

    def verifier(self, setting: PointSetting) -> MapVerifier:
        """What compares photos with those of the map by local features."""
        if setting not in self._verifiers:
            stored, chosen = self.features.setting(), self.chosen_points(setting)
            same = stored is not None and (stored.kind, stored.points, stored.longest) == (
                *(chosen.kind, chosen.points),
                chosen.longest,
            )
            self._verifiers[setting] = MapVerifier(
                _MapPhotos(self.snapshot),
                chosen,
                stored=self._features_of if same else None,
                device=self.model.device,
            )
        return self._verifiers[setting]

    def chosen_points(self, setting: PointSetting) -> PointSetting:
        """The setting with which photos are compared: ``auto`` takes what the map keeps, where it can."""
        stored = self.features.setting()
        if stored is not None and setting.kind == AUTO and stored.kind in ("sift", best_kind()[0]):
            setting = replace(setting, kind=stored.kind, points=stored.points, longest=stored.longest)
        return setting.chosen()

    def search(self, rows_QD: Floats, *, k: int, allowed: Ids | None = None) -> Ranking:
        """The nearest photos of unit rows [Q, D], as rows of the map's photos; -1 where there are no more."""
        rows, file_rows = self.snapshot.rows, self.snapshot.file_rows
        k = min(k, len(self) if allowed is None else len(allowed))
        if isinstance(file_rows, DatabaseRows) and not file_rows.fits:
            return file_rows.search(rows_QD, k, allowed)
        if self.searcher is None:
            head = None if self.index is None else self.index.head()
            self.searcher = MapSearch(self.index, head, file_rows, rows)
        ranking = self.searcher(rows_QD, k, None if allowed is None else rows[allowed])
        photos = np.where(ranking.indices < 0, -1, np.searchsorted(rows, ranking.indices))
        return Ranking(photos, ranking.distances)

    def descriptors(self) -> Floats:
        """float32 [N, D]; memory-mapped until photos are removed."""
        rows, file_ND = self.snapshot.rows, self.snapshot.file_rows.all()
        return file_ND if len(rows) == len(file_ND) else np.asarray(file_ND[rows])

    def descriptors_of(self, photos_K: Ids) -> Floats:
        """float32 [K, D], of some photos."""
        return np.asarray(self.snapshot.file_rows.take(self.snapshot.rows[photos_K]))

    def same_place(self, photos_K: Ids) -> NDArray[np.bool_]:
        """bool [K, K], whether two photos of the map are known to show one place."""
        return same_place(photos_K, self.snapshot.positions.take(photos_K).distances(), len(self))

    def unverified(self, photo: int) -> str:
        """Why one of the photos could not be compared."""
        record = self.snapshot.record(photo)
        why = FROM_ARRAY if record.identity[2] else "it cannot be read any more"
        return f"{record.photo.key} of the map could not be compared: {why}"

    def _features_of(self, photo: int) -> LocalFeatures | None:
        """The local features that the map keeps of one of the photos."""
        return self.features.get(int(self.snapshot.row_numbers[photo]))


@dataclass(frozen=True, slots=True, eq=False)
class _MapPhotos:
    """The photos of a map by row, each read when it is needed."""

    snapshot: MapSnapshot

    def __getitem__(self, row: int, /) -> Photo:
        record = self.snapshot.record(row)
        if record.identity[2]:  # its name may by chance be that of a file
            raise PhotoError(record.photo.key, FROM_ARRAY)
        return record.photo
