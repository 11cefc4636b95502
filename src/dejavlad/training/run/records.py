"""What a run writes down as it goes: one JSON object a line, and the same as CSV for batches and tests.

Each record says at which place of the run it was made, so that a run that goes on from a checkpoint takes
back what was written after it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dejavlad.files import write_whole
from dejavlad.guarded.json_file import with_checksum
from dejavlad.model.run_folder import LOG, read_records
from dejavlad.storage import disk_errors
from dejavlad.training.diagnostics.finding import Finding

Record = Mapping[str, Any]
OnRecord = Callable[[Record], None]
Inspect = Callable[[Record], list[Finding]]

CANNOT_WRITE = "the log cannot be written in {path}: {error}"
BATCHES, TESTS = "batches.csv", "tests.csv"
__all__ = ["BATCHES", "LOG", "TESTS", "OnRecord", "Record", "Records", "ignore", "read_records"]
BATCH_COLUMNS = (
    *("epoch", "batch", "loss", "tuples", "triplets"),
    *("violating", "very_hard", "rate", "seconds"),
)


def ignore(_: Record) -> None:
    """The default callback: does nothing."""


class Records:
    """The records of a run.

    Args:
        folder: the run's.
        on_record: called with each new record.
        inspect: looks at each record; what it finds is written as a ``warning``.
    """

    def __init__(self, folder: Path, on_record: OnRecord = ignore, inspect: Inspect = lambda _: []) -> None:
        self._folder, self._on_record, self._inspect = folder, on_record, inspect

    def begin(self, at: tuple[int, int]) -> None:
        """Go on from a place (epoch, batch): what was written after it is taken back.

        Raises:
            StoreError: they cannot be written.
        """
        records = read_records(self._folder)
        kept = [record for record in records if tuple(record["at"]) <= at and record["kind"] != "finished"]
        with disk_errors(self._folder, CANNOT_WRITE):
            write_whole(self._folder / LOG, "".join(_line_of(record) for record in kept))
            for name in (BATCHES, TESTS):
                (self._folder / name).unlink(missing_ok=True)
            for record in kept:
                self._write_csv(record)
                self._inspect(record)  # what was found then is among them

    def add(self, kind: str, at: tuple[int, int], **values: Any) -> None:
        """Write a record.

        Args:
            kind: what it is of.
            at: the place (epoch, batch) in the run from which it holds.
            **values: plain values.

        Raises:
            StoreError: it cannot be written.
        """
        record = {"kind": kind, "at": list(at), **values}
        with disk_errors(self._folder, CANNOT_WRITE):
            with open(self._folder / LOG, "a", encoding="utf-8") as file:
                file.write(_line_of(record))
            self._write_csv(record)
        self._on_record(record)
        for finding in self._inspect(record):
            self.add("warning", at, **finding.to_dict())

    def _write_csv(self, record: Record) -> None:
        if record["kind"] == "batch":
            self._line(BATCHES, BATCH_COLUMNS, [record[key] for key in BATCH_COLUMNS])
        elif record["kind"] == "test":
            columns = ["epoch", "set", "rank_loss", *(f"recall@{n}" for n in record["recall"])]
            values = [record["epoch"], record["set"], record["rank_loss"], *record["recall"].values()]
            self._line(TESTS, columns, values)

    def _line(self, name: str, columns: Iterable[str], values: Iterable[Any]) -> None:
        path = self._folder / name
        new = not path.exists()
        with open(path, "a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(columns)
            writer.writerow(values)


class DiscardedRecords(Records):
    """The records of a process that is not the first: the first writes them."""

    def begin(self, at: tuple[int, int]) -> None:
        """Do nothing: the first process takes records back."""

    def add(self, kind: str, at: tuple[int, int], **values: Any) -> None:
        """Do nothing: the first process writes the record."""


def _line_of(record: Record) -> str:
    return json.dumps(with_checksum(record)) + "\n"
