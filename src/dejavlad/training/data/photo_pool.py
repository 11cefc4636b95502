"""The photos of a dataset in one list, queries first: their sizes, and which of them cannot be read.

Legend: Q queries, N database photos, n photos of a batch.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, PhotoError
from dejavlad.ground_truth import PlaceDataset
from dejavlad.images import Preprocess, load_batches, plan_batches, prepared_size
from dejavlad.images.loader import Batch, Size
from dejavlad.photo import Photo
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.training.data.jitter import View
from dejavlad.training.distributed import ALONE, Processes
from dejavlad.training.sampling.tuples import Rows

LOOKING = "looking at photos"


class PhotoPool:
    """Photos that a network takes, by one number: queries 0 to Q - 1, then the database's.

    Photos whose size cannot be read are among the `failed` from the beginning.

    Args:
        dataset: the photos.
        preprocess: how they are prepared.
        workers: threads that decode.
        on_progress: called with `LOOKING`, every 100 photos.
        queries: whether there must be queries; else all photos may be the database's.

    Raises:
        InputError: a list is empty, or none of its photos can be read.
    """

    def __init__(
        self,
        dataset: PlaceDataset,
        preprocess: Preprocess,
        *,
        workers: int = 0,
        on_progress: OnProgress = silent,
        queries: bool = True,
    ) -> None:
        self.dataset, self.preprocess, self._workers = dataset, preprocess, workers
        self.photos: list[Photo] = [*dataset.queries, *dataset.database]
        """The Q queries, then the N photos of the database; a photo's number is its place here."""
        self.n_queries = len(dataset.queries)
        """Q, how many of the photos are queries."""
        self.sizes: list[Size | None] = []
        """Prepared (height, width) of each photo; None where that cannot be read."""
        self.failed: dict[int, str] = {}
        """Number -> why a photo could not be read."""
        self._agreed: set[int] = set()
        for number, photo in enumerate(self.photos):
            try:
                self.sizes.append(prepared_size(photo, preprocess))
            except PhotoError as error:
                self.sizes.append(None)
                self.failed[number] = error.reason
            if number % 100 == 99 or number + 1 == len(self.photos):
                on_progress(Progress(LOOKING, number + 1, len(self.photos)))
        for what, numbers in (
            ("queries", range(self.n_queries)),
            ("database", range(self.n_queries, len(self.photos))),
        ):
            if what == "queries" and not queries and not numbers:
                continue
            if all(number in self.failed for number in numbers):
                reason = next((self.failed[number] for number in numbers), "there are none")
                raise InputError(f"{dataset.name}: no photo of the {what} can be read: {reason}")

    def __len__(self) -> int:
        return len(self.photos)

    def numbers_of_database(self, rows: Iterable[int]) -> Rows:
        """The photos' numbers, int64 [n], of rows of the database."""
        return np.fromiter(rows, np.int64) + self.n_queries

    def plan(self, batch_size: int, processes: Processes = ALONE, among: Rows | None = None) -> list[Rows]:
        """Readable photos (of some), by size, at most so many together; a function of the lists alone.

        Of several processes each has every P-th batch, by rank.
        """
        sizes = self.sizes
        if among is not None:
            sizes = [None] * len(self.sizes)
            for number in among.tolist():
                sizes[number] = self.sizes[number]
        return plan_batches(sizes, batch_size)[processes.rank :: processes.count]

    def synchronize(self, processes: Processes) -> None:
        """Take over sizes and failures from the first process, so that all make the same batches."""
        self.sizes, self.failed = processes.share(lambda: (self.sizes, self.failed))

    def agree(self, processes: Processes) -> None:
        """Take over failures from all processes: what one of them could not read, none of them uses."""
        if not processes.alone:
            fresh = {number: why for number, why in self.failed.items() if number not in self._agreed}
            for failures in processes.gather(fresh):
                self.failed.update(failures)
            self._agreed |= self.failed.keys()

    def load(self, plan: Sequence[Rows]) -> Generator[Batch, None, None]:
        """The prepared photos of a plan, in its order; those that fail are noted."""
        for batch in load_batches(
            self.photos, plan, self.preprocess, workers=self._workers, sizes=self.sizes
        ):
            for number, error in batch.failed.items():
                self.failed[number] = error.reason
            yield batch

    def load_view(self, numbers: Rows, view: View) -> tuple[Rows, NDArray[np.float32]]:
        """Photos of one size, prepared for a view: those that can be read, and [n, 3, h, w] of them.

        Those that fail are noted.
        """
        size = self.sizes[int(numbers[0])]
        assert size is not None
        height, width = view.size(*size)
        preprocess = self.preprocess
        if (height, width) != size:
            preprocess = replace(preprocess, resize=f"{height}x{width}")
        slots = np.arange(len(numbers))
        listed, sizes = [self.photos[number] for number in numbers.tolist()], [(height, width)] * len(numbers)
        (batch,) = load_batches(listed, [slots], preprocess, workers=self._workers, sizes=sizes)
        for slot, error in batch.failed.items():
            self.failed[int(numbers[slot])] = error.reason
        good = np.array([slot not in batch.failed for slot in slots.tolist()])
        images = batch.images[good]
        return numbers[good], np.ascontiguousarray(images[..., ::-1]) if view.flip else images
