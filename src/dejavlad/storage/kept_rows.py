"""Rows that keep their numbers when a file of rows is written anew without those that no longer count.

So nothing else that names a row has to change: the photos' records, what is kept beside the map. The state
holds the numbers of the rows at the file's beginning; those that came later follow in their order.

Legend: N rows.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError
from dejavlad.storage.state import State, checksum

TABLE: Final = """CREATE TABLE IF NOT EXISTS kept_rows(number INTEGER PRIMARY KEY, rows BLOB NOT NULL,
 crc INTEGER NOT NULL)"""
PART: Final = 1 << 16
"""Numbers that stand in one line of the table."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class KeptRows:
    """Where in a file the row of a number lies."""

    kept: Rows
    """[N] ascending numbers of the rows at the file's beginning."""
    after: int
    """The number of the row behind them."""

    def positions(self, rows: Rows) -> Rows:
        """Where rows of these numbers lie in the file; IndexError where one was dropped."""
        early = rows < self.after
        places = np.where(early, 0, rows - self.after + len(self.kept))
        if early.any():
            found_at = np.searchsorted(self.kept, rows[early])
            if (self.kept[np.minimum(found_at, len(self.kept) - 1)] != rows[early]).any():
                raise IndexError("a row was dropped")
            places[early] = found_at
        return np.asarray(places, np.int64)

    def write(self, connection: sqlite3.Connection) -> None:
        """Take the place of what the state holds."""
        connection.execute(TABLE)
        connection.execute("DELETE FROM kept_rows")
        for number in range(-(-len(self.kept) // PART)):
            data = self.kept[number * PART : (number + 1) * PART].astype("<i8").tobytes()
            connection.execute(
                "INSERT INTO kept_rows VALUES (?, ?, ?)", (number, data, checksum(number, data))
            )

    @classmethod
    def read(cls, state: State, connection: sqlite3.Connection, count: int, after: int) -> KeptRows:
        """What the state holds: `count` numbers below `after`; none where no file was ever written anew.

        Raises:
            StoreError: it is damaged.
        """
        parts = [np.empty(0, np.int64)]
        if count:
            lines = connection.execute("SELECT number, rows, crc FROM kept_rows ORDER BY number")
            for place, (number, data, crc) in enumerate(lines):
                if number != place or checksum(number, data) != crc:
                    raise state.damaged(f"the checksum of part {place} of the numbers of rows is wrong")
                parts.append(np.frombuffer(data, "<i8").astype(np.int64))
        kept = np.concatenate(parts)
        if len(kept) != count or (np.diff(kept) <= 0).any() or (count and kept[-1] >= after):
            raise state.damaged("the numbers of its rows are not what was written")
        return cls(kept, after)


def refuse_dropped(state: State, kept: KeptRows, rows: Rows) -> Rows:
    """`KeptRows.positions`; StoreError, as of a damaged state, where a row was dropped."""
    try:
        return kept.positions(rows)
    except IndexError:
        error: StoreError = state.damaged("a photo's row is not in its file")
        raise error from None
