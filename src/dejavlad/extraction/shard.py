"""One share of an extraction that several machines do: which batches of the whole plan it describes.

Every shard looks at the whole list and makes the whole plan, so that its batches are exactly those of a
single process; then the batches are dealt out like cards. A shard is a store of its own photos, with two more
files::

    SHARD/shard.json   which shard of how many
    SHARD/whole.json   the manifest of the whole store, as one process would write it

`dejavlad.extraction.merge` makes the whole store of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from dejavlad.errors import InputError, StoreError
from dejavlad.extraction.manifest import Manifest
from dejavlad.extraction.photo_table import Rows
from dejavlad.guarded.fields import DAMAGED, check_column
from dejavlad.guarded.json_file import read_json_object, with_checksum, without_checksum
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.storage.identity import check_format

SHARD, WHOLE = "shard.json", "whole.json"
FORMAT, VERSION = "dejavlad-shard", 1
MOST = 100_000
"""Shards, at most."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Share `index` of `count`.

    Raises:
        InputError: there is no such share.
    """

    index: int
    """From 1 to `count`."""
    count: int
    """How many shares there are, 1 or more."""

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count <= MOST:
            raise InputError(
                f"--shard {self.index}/{self.count}: give I/N with I from 1 to N, e.g. 1/4, 2/4, 3/4 and 4/4"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def of(cls, given: Shard | tuple[int, int] | str | None) -> Shard | None:
        """A shard as it is given: ``(2, 4)`` or ``"2/4"``; None stays None.

        Raises:
            InputError: it is none.
        """
        if given is None or isinstance(given, Shard):
            return given
        parts = given.split("/") if isinstance(given, str) else [str(part) for part in given]
        if len(parts) != 2 or not all(part.strip().isdecimal() and part.isascii() for part in parts):
            raise InputError(f"--shard {given}: give I/N, e.g. 2/4 for the second of four")
        return cls(int(parts[0]), int(parts[1]))

    def batches(self, whole: Manifest) -> list[Rows]:
        """Its batches, in rows of the whole list: every `count`-th of the plan."""
        return whole.batches[self.index - 1 :: self.count]

    def rows(self, whole: Manifest) -> Rows:
        """[n] its rows of the whole list, ascending: its batches', and its share of those in no batch."""
        planned = np.zeros(len(whole.table), np.bool_)
        for batch in whole.batches:
            planned[batch] = True
        unplanned = np.flatnonzero(~planned)[self.index - 1 :: self.count]
        return np.sort(np.concatenate([unplanned, *self.batches(whole)]).astype(np.int64))

    def part(self, whole: Manifest) -> Manifest:
        """The manifest of its own store: its photos, and its batches in their rows."""
        rows = self.rows(whole)
        batches = [np.searchsorted(rows, batch) for batch in self.batches(whole)]
        return Manifest(whole.setting, whole.table.take(rows), whole.batch_size, batches)

    def to_dict(self) -> dict[str, object]:
        """As ``shard.json`` holds it."""
        return with_checksum({"format": FORMAT, "version": VERSION, "index": self.index, "count": self.count})

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The shard that a store is; None where it is a whole store.

        Raises:
            StoreError: its file is damaged, or of a later version.
        """
        path = folder / SHARD
        if not path.exists():
            return None
        try:
            fields = without_checksum(read_json_object(path))
            check_format(fields, FORMAT, VERSION, path)
            check_column("numbers", [fields["index"], fields["count"]], int)
            return cls(fields["index"], fields["count"])
        except DAMAGED as error:
            raise _damaged(path, error) from error


def read_whole(folder: Path) -> Manifest:
    """The manifest of the whole store that a shard belongs to.

    Raises:
        StoreError: it is missing or damaged.
    """
    path = folder / WHOLE
    try:
        return Manifest.from_json(read_utf8(path), path)
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: Exception) -> StoreError:
    return StoreError(
        f"{str(path)!r} is damaged: {why}; delete {str(path.parent)!r} and extract that shard again"
    )
