"""Local features that a map keeps (``MAP/local.sqlite``), so that no photo is read again to be compared.

They belong to rows of ``rows.bin``: a photo that is described anew gets a new row, so features of an earlier
version of it are never taken for its own. A row without features is no error: they are made when needed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dejavlad.errors import StoreError
from dejavlad.local.codec import decode, encode
from dejavlad.local_features import LocalFeatures
from dejavlad.places.map_folder.features_state import SETTING, features_setting, features_state
from dejavlad.storage.state import checksum, put_values

if TYPE_CHECKING:
    from dejavlad.places.verification.points import PointSetting


class MapFeatures:
    """The local features of a map's photos, by row of its file of descriptors.

    Args:
        folder: the map.
    """

    def __init__(self, folder: Path) -> None:
        self.state = features_state(folder)

    def setting(self) -> PointSetting | None:
        """How they were made; None where the map keeps none.

        Raises:
            StoreError: the file is damaged.
        """
        from dejavlad.places.verification.points import PointSetting

        values = features_setting(self.state)
        try:
            return None if values is None else PointSetting(**values)
        except (TypeError, ValueError) as error:
            raise self.state.damaged(error) from None

    def kind(self) -> str | None:
        """The kind of features; None where the map keeps none.

        Raises:
            StoreError: the file is damaged.
        """
        values = features_setting(self.state)
        return None if values is None else str(values["kind"])

    def begin(self, setting: PointSetting) -> None:
        """Keep features made by `setting` from now on; those that were made otherwise are dropped."""
        values = {"kind": setting.kind, "points": setting.points, "longest": setting.longest}
        if features_setting(self.state) == values:
            return

        def fill(connection: sqlite3.Connection) -> None:
            put_values(connection, {SETTING: values})

        self.state.create(fill)

    def rows(self) -> set[int]:
        """The rows that have features."""
        if not self.state.exists():
            return set()
        with self.state.reading() as connection:
            return {int(row) for (row,) in connection.execute("SELECT row FROM features")}

    def get(self, row: int) -> LocalFeatures | None:
        """The features of a row; None where there are none.

        Raises:
            StoreError: they are not what was written.
        """
        with self.state.reading() as connection:
            line = connection.execute("SELECT record, crc FROM features WHERE row=?", (row,)).fetchone()
        return None if line is None else self._decoded(row, *line)

    def put(self, features: Mapping[int, LocalFeatures]) -> None:
        """Add features by row, all of them or none."""
        records = {row: encode(kept) for row, kept in features.items()}
        with self.state.writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO features VALUES (?, ?, ?)",
                [(row, record, checksum(row, record)) for row, record in records.items()],
            )

    def keep(self, rows: Iterable[int]) -> None:
        """Drop the features of all rows but these."""
        stale: Sequence[tuple[int]] = [(row,) for row in sorted(self.rows() - set(rows))]
        if stale:
            with self.state.writing() as connection:
                connection.executemany("DELETE FROM features WHERE row=?", stale)

    def check(self) -> None:
        """Compare all of them with their checksums.

        Raises:
            StoreError: something is not what was written.
        """
        if not self.state.exists():
            return
        with self.state.reading() as connection:
            self.state.check(connection)
            for line in connection.execute("SELECT row, record, crc FROM features"):
                self._decoded(*line)

    def _decoded(self, row: int, record: Any, crc: int) -> LocalFeatures:
        if not isinstance(record, bytes) or checksum(row, record) != crc:
            raise self.state.damaged(f"the checksum of the features of row {row} is wrong")
        try:
            return decode(record)
        except StoreError as error:
            raise self.state.damaged(error) from None
