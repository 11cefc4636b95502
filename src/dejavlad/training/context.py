"""What all parts of a training need to know and hand on together."""

from __future__ import annotations

from dataclasses import dataclass

from dejavlad.progress import OnProgress, silent
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.distributed import ALONE, Processes
from dejavlad.training.run.records import OnRecord, ignore


@dataclass(frozen=True, slots=True)
class RunContext:
    """How a training computes, and to whom it reports; one value for the whole run.

    Of the options, the parts of a run take ``workers`` (threads that decode photos), ``seed`` (of all that is
    drawn) and ``describe_batch`` (photos described together) from here.
    """

    config: TrainConfig
    """All options."""
    processes: Processes = ALONE
    """The processes that train together; all of them must make the same calls in the same order."""
    on_progress: OnProgress = silent
    """Called with each step of what takes long: looking at photos, frozen layers, descriptors, batches."""
    on_record: OnRecord = ignore
    """Called with each record once it is written (see `records`)."""
