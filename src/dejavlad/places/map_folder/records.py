"""The tables of a map's state, within one transaction: its photos, their names, and the photos that failed.

Legend: N photos of the map.
"""

from __future__ import annotations

import os
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dejavlad.extraction import PhotoTable
from dejavlad.places.map_folder.snapshot import Head
from dejavlad.storage import PhotoRecord, State, photo_blocks
from dejavlad.storage.photo_blocks import POSITION, Numbers, Texts
from dejavlad.storage.state import checksum, put_values

FAILED = "CREATE TABLE failed(key BLOB PRIMARY KEY, reason TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID"


class Records:
    """The photos of a map, as one transaction sees and changes them.

    Args:
        state: the map's.
        connection: within a transaction.
        head: the map in numbers; None reads it.
    """

    def __init__(self, state: State, connection: sqlite3.Connection, head: Head | None = None) -> None:
        self.state, self.connection = state, connection
        if head is None:
            try:
                head = Head(**state.value(connection, "map"))
            except TypeError as error:
                raise state.damaged(error) from None
        self.head = head
        """The map in numbers; what changes photos changes it."""

    def __iter__(self) -> Iterator[tuple[int, PhotoRecord]]:
        """The photos that are there, with their places."""
        count = -(-self.head.records // photo_blocks.BLOCK)
        for number, numbers, texts in self._blocks(range(count)):
            for within in np.flatnonzero(numbers["removed"] == photo_blocks.STILL_THERE).tolist():
                yield number * photo_blocks.BLOCK + within, self._decoded(numbers[within], texts[within])

    def lookup(self, keys: Sequence[str]) -> dict[str, tuple[int, PhotoRecord]]:
        """Key -> place and record, of those photos that are in the map."""
        by_block: dict[int, list[tuple[str, int]]] = {}
        for key, place in photo_blocks.places_of(self.connection, keys).items():
            by_block.setdefault(place // photo_blocks.BLOCK, []).append((key, place))
        records = {}
        for number, numbers, texts in self._blocks(sorted(by_block)):
            for key, place in by_block[number]:
                record = self._decoded(numbers[place % photo_blocks.BLOCK], texts[place % photo_blocks.BLOCK])
                if record.photo.key != key:
                    raise self.state.damaged("the list of names is not that of the photos")
                records[key] = place, record
        return records

    def append(self, records: Sequence[PhotoRecord]) -> None:
        """Add photos, whose rows are the next ones."""
        head = self.head
        rows = range(head.rows, head.rows + len(records))
        numbers, texts = photo_blocks.encode(records, rows, head.change + 1, Path(head.root))
        keys = [record.photo.key for record in records]
        photo_blocks.append(self.connection, self.state, head.records, numbers, texts, keys)
        self.head = replace(
            head,
            records=head.records + len(records),
            photos=head.photos + len(records),
            with_position=head.with_position + sum(r.photo.position is not None for r in records),
            rows=rows.stop,
        )

    def retire(self, keys: Sequence[str]) -> None:
        """Take photos of these keys out, and forget that they failed."""
        head, places = self.head, sorted(photo_blocks.places_of(self.connection, keys).values())
        lines, with_position = {}, 0
        for number, numbers, texts in self._blocks(_blocks_of(places)):
            for place in _of_block(places, number):
                line = numbers[place % photo_blocks.BLOCK].copy()
                line["removed"] = head.change + 1
                with_position += int(line["known"] & POSITION > 0)
                lines[place] = line, texts[place % photo_blocks.BLOCK]
        photo_blocks.change(self.connection, self.state, lines)
        encoded = [(photo_blocks.encode_key(key),) for key in keys]
        self.connection.executemany("DELETE FROM keys WHERE key=?", encoded)
        self.connection.executemany("DELETE FROM failed WHERE key=?", encoded)
        self.head = replace(
            head, photos=head.photos - len(places), with_position=head.with_position - with_position
        )

    def rewrite(self, facts: Mapping[int, PhotoRecord]) -> None:
        """Write records at their places anew; their rows stay."""
        lines, more, by_place = {}, 0, sorted(facts)
        for number, numbers, _ in self._blocks(_blocks_of(by_place)):
            chosen = _of_block(by_place, number)
            records = [facts[place] for place in chosen]
            fresh, texts = photo_blocks.encode(records, [0] * len(records), 0, Path(self.head.root))
            for place, new, text in zip(chosen, fresh, texts, strict=True):
                old = numbers[place % photo_blocks.BLOCK]
                for name in ("row", "added", "removed"):
                    new[name] = old[name]
                more += int(new["known"] & POSITION > 0) - int(old["known"] & POSITION > 0)
                lines[place] = new, text
        photo_blocks.change(self.connection, self.state, lines)
        self.head = replace(self.head, with_position=self.head.with_position + more)

    def rename(self, keys: Mapping[str, tuple[str, int]]) -> None:
        """Give photos other keys: old key -> new key and place."""
        encode = photo_blocks.encode_key
        self.connection.executemany("DELETE FROM keys WHERE key=?", [(encode(key),) for key in keys])
        self.connection.executemany(
            "INSERT INTO keys VALUES (?, ?)", [(encode(key), place) for key, place in keys.values()]
        )

    def failed(self) -> dict[str, str]:
        """Key -> reason, of the photos that could not be described."""
        reasons = {}
        for key, reason, crc in self.connection.execute("SELECT key, reason, crc FROM failed ORDER BY key"):
            if checksum(key, reason) != crc:
                raise self.state.damaged("the checksum of a photo that failed is wrong")
            reasons[key.decode("utf-8", "surrogatepass")] = reason
        return reasons

    def put_failed(self, failed: Mapping[str, str]) -> None:
        """Photos that could not be described: key -> reason."""
        encoded = [(photo_blocks.encode_key(key), reason) for key, reason in failed.items()]
        self.connection.executemany(
            "INSERT OR REPLACE INTO failed VALUES (?, ?, ?)",
            [(key, reason, checksum(key, reason)) for key, reason in encoded],
        )

    def put_head(self) -> None:
        """Write `head`."""
        put_values(self.connection, {"map": self.head.to_dict()})

    def check_names(self) -> None:
        """Compare the list of names with the photos.

        Raises:
            StoreError: they differ.
        """
        places = {photo_blocks.encode_key(record.photo.key): place for place, record in self}
        if len(places) != self.head.photos:
            raise self.state.damaged(f"it holds {len(places)} photos, not {self.head.photos}")
        listed = self.connection.execute("SELECT key, place FROM keys")
        if places != {bytes(key): int(place) for key, place in listed}:
            raise self.state.damaged("the list of names is not that of the photos")

    def _blocks(self, numbers: Sequence[int]) -> Iterator[tuple[int, Numbers, Texts]]:
        return photo_blocks.read_blocks(self.state, self.connection, numbers)

    def _decoded(self, line: np.void, text: Sequence[object]) -> PhotoRecord:
        return photo_blocks.decode(line, text, Path(self.head.root))


def records_of(table: PhotoTable) -> list[PhotoRecord]:
    """The photos of a table as records."""
    return [
        PhotoRecord(photo, table.identity(row), (int(table.sizes[row, 0]), int(table.sizes[row, 1])))
        for row, photo in enumerate(table.photos)
    ]


def folder_of(photos_root: Path) -> str:
    """A folder as a map writes it down."""
    return Path(os.path.abspath(photos_root)).as_posix()


def _blocks_of(places: Sequence[int]) -> list[int]:
    return sorted({place // photo_blocks.BLOCK for place in places})


def _of_block(places: Sequence[int], number: int) -> Sequence[int]:
    """Those of ascending places that lie in a block."""
    return places[
        bisect_left(places, number * photo_blocks.BLOCK) : bisect_left(
            places, (number + 1) * photo_blocks.BLOCK
        )
    ]
