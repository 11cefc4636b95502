"""What a run writes down, as event files for TensorBoard too: scalars of batches and tests.

Needs the extra ``tensorboard`` (tensorboardX, which brings no TensorBoard).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from dejavlad.errors import MissingExtraError
from dejavlad.training.run.records import Record, read_records

FOLDER = "events"
RECALLS = ("1", "5", "10")


class Events:
    """Writes event files into ``RUN/events`` as records come; a callback of `train`.

    A run that goes on writes a further file, which counts batches on.

    Raises:
        MissingExtraError: tensorboardX is not installed.
    """

    def __init__(self, run: str | Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise MissingExtraError("writing event files of TensorBoard", "tensorboard") from None
        self._make = SummaryWriter
        self._run, self._step = Path(run), 0
        self._writer: Any = None

    def __call__(self, record: Record) -> None:
        """Write the scalars of a record: loss and counts of a batch, recalls of a test."""
        if self._writer is None:
            own = f".{time.time_ns()}"  # else a run that goes on within the same second takes the file's name
            self._writer = self._make(str(self._run / FOLDER), filename_suffix=own)
        if record["kind"] == "batch":
            self._step = self._step + 1 if self._step else self._written()
            for key in ("loss", "rate", "violating", "very_hard"):
                self._writer.add_scalar(f"batch/{key}", record[key], self._step)
        elif record["kind"] == "test":
            for n in RECALLS:
                if n in record["recall"]:
                    self._writer.add_scalar(
                        f"{record['set']}/recall_at_{n}", record["recall"][n], record["epoch"]
                    )
            if record["rank_loss"] is not None:
                self._writer.add_scalar(f"{record['set']}/rank_loss", record["rank_loss"], record["epoch"])
            self._writer.flush()

    def close(self) -> None:
        """Write what is still buffered, and close the event file."""
        if self._writer is not None:
            self._writer.close()

    def _written(self) -> int:
        """How many batches of the run are written by now, the latest included."""
        return sum(record["kind"] == "batch" for record in read_records(self._run))
