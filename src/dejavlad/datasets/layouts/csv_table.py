"""A dataset's CSV file with a head: its lines by column."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from dejavlad.errors import InputError
from dejavlad.photo.listing import read_text

Row = dict[str, str]
"""Column -> field, empty where the line ends before."""


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """The lines of a CSV file, by the names in its first.

    Raises:
        InputError: it cannot be read, or lacks one of the columns.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="")
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from None
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{str(path)!r}: it has no column {missing[0]}, but {reader.fieldnames}")
    return rows
