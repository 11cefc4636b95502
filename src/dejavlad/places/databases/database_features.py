"""The local features of a map that lies in a database, for verification: the same calls as `MapFeatures`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from dejavlad.errors import StoreError
from dejavlad.guarded.fields import DAMAGED
from dejavlad.guarded.json_file import parse_json_object, with_checksum, without_checksum
from dejavlad.local.codec import decode, encode
from dejavlad.local_features import LocalFeatures
from dejavlad.places.verification.points import PointSetting

if TYPE_CHECKING:
    from dejavlad.places.databases.database_map import DatabaseMap

LOCAL: Final = "local.json"
"""The document that tells how they were made."""


class DatabaseFeatures:
    """The local features of a map in a database; see `MapFeatures`. Rows are those of the last snapshot."""

    def __init__(self, state: DatabaseMap) -> None:
        self._state = state

    def setting(self) -> PointSetting | None:
        """How they were made; None where the map keeps none."""
        content = self._state.engine.documents([LOCAL]).get(LOCAL)
        if content is None:
            return None
        try:
            values = without_checksum(parse_json_object(content))
            return PointSetting(values["kind"], points=values["points"], longest=values["longest"])
        except DAMAGED as error:
            raise StoreError(f"{self._state.address} is damaged: {LOCAL}: {error}") from None

    def kind(self) -> str | None:
        """The kind of features; None where the map keeps none."""
        setting = self.setting()
        return None if setting is None else setting.kind

    def begin(self, setting: PointSetting) -> None:
        """Keep features made by `setting` from now on; those that were made otherwise are dropped."""
        if self.setting() == PointSetting(setting.kind, points=setting.points, longest=setting.longest):
            return
        engine = self._state.engine
        if stale := list(engine.feature_marks()):
            engine.drop_features(stale)
        values = {"kind": setting.kind, "points": setting.points, "longest": setting.longest}
        engine.put_document(LOCAL, json.dumps(with_checksum(values)).encode())

    def rows(self) -> set[int]:
        """The rows that have features."""
        marks = self._state.engine.feature_marks()
        pairs = zip(self._state.keys, self._state.crcs.tolist(), strict=True)
        return {row for row, (key, crc) in enumerate(pairs) if marks.get(key) == crc}

    def get(self, row: int) -> LocalFeatures | None:
        """The features of a row; None where there are none."""
        key = self._state.keys[row]
        mark, record = self._state.engine.features([key]).get(key, (None, b""))
        return decode(record) if mark == self._state.crcs[row] else None

    def put(self, features: Mapping[int, LocalFeatures]) -> None:
        """Add features by row, all of them or none."""
        state = self._state
        state.engine.put_features(
            {state.keys[row]: (int(state.crcs[row]), encode(kept)) for row, kept in features.items()}
        )

    def keep(self, rows: Iterable[int]) -> None:
        """Drop features of photos that are gone; what another machine has just added stays."""
        marks = self._state.engine.feature_marks()
        if marks.keys() <= set(self._state.keys):
            return
        now = set(self._state.engine.view().columns()["key"])
        if stale := sorted(marks.keys() - now):
            self._state.engine.drop_features(stale)

    def check(self) -> None:
        """Compare all of them with their checksums; each record must be whole."""
        engine = self._state.engine
        keys = sorted(engine.feature_marks())
        for first in range(0, len(keys), 256):
            for _, record in engine.features(keys[first : first + 256]).values():
                decode(record)
