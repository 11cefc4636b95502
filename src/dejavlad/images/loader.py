"""Photos in the order of a plan, batch by batch, decoded ahead by threads.

The plan is made once, from the photos' sizes, so that all photos of a batch share one prepared size. Decoding
releases the interpreter's lock, so threads serve as well as processes and start at once on every system.

Legend: n photos of a batch, h x w their prepared size.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, PhotoError
from dejavlad.images.preprocess import Preprocess
from dejavlad.images.read import read_image
from dejavlad.photo import Photo

Rows = NDArray[np.int64]
Prepared = NDArray[np.float32] | PhotoError


@dataclass(frozen=True, slots=True)
class Batch:
    """Prepared photos of one size."""

    rows: Rows
    """int64 [n] where they stand in the list."""
    images: NDArray[np.float32]
    """float32 [n, 3, h, w]; zeros where a photo failed."""
    failed: dict[int, PhotoError] = field(default_factory=dict)
    """Row -> why that photo could not be read."""


def plan_batches(sizes: Sequence[tuple[int, int] | None], batch_size: int) -> list[Rows]:
    """Group rows by size, in order of first appearance, at most `batch_size` together.

    Args:
        sizes: each photo's prepared (height, width); None leaves it out.
        batch_size: at least 1.

    Returns:
        int64 rows of each batch; a function of the arguments alone.
    """
    if batch_size < 1:
        raise InputError(f"a batch needs at least one photo; given {batch_size}")
    groups: dict[tuple[int, int], list[int]] = {}
    for row, size in enumerate(sizes):
        if size is not None:
            groups.setdefault(size, []).append(row)
    return [
        np.array(rows[start : start + batch_size], np.int64)
        for rows in groups.values()
        for start in range(0, len(rows), batch_size)
    ]


def load_batches(
    photos: Sequence[Photo], plan: Iterable[Rows], preprocess: Preprocess, *, workers: int = 0
) -> Iterator[Batch]:
    """Prepare the photos of a plan, in its order.

    A photo that cannot be read leaves zeros in its slot and its reason in `Batch.failed`; so does one whose
    prepared size is no longer that of its batch. What comes does not depend on `workers`.

    Args:
        photos: the list.
        plan: rows of each batch, from `plan_batches`.
        preprocess: how photos are prepared.
        workers: threads that decode ahead; 0 decodes when asked.
    """
    if workers < 0:
        raise InputError(f"workers cannot be negative; given {workers}")
    if workers == 0:
        for rows in plan:
            yield _batch(rows, [_prepare(photos[int(row)], preprocess) for row in rows])
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="dejavlad-decode")
    todo = iter(plan)
    ahead: deque[tuple[Rows, list[Future[Prepared]]]] = deque()

    def submit(batches: int) -> None:
        for rows in islice(todo, batches):
            ahead.append((rows, [pool.submit(_prepare, photos[int(row)], preprocess) for row in rows]))

    try:
        submit(2)  # one being used, one being decoded
        while ahead and sum(len(rows) for rows, _ in ahead) < 2 * workers:
            before = len(ahead)
            submit(1)
            if len(ahead) == before:
                break
        while ahead:
            rows, pending = ahead.popleft()
            batch = _batch(rows, [future.result() for future in pending])
            submit(1)
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare(photo: Photo, preprocess: Preprocess) -> Prepared:
    try:
        return preprocess(read_image(photo, rotate=preprocess.rotate))
    except PhotoError as error:
        return error
    except MemoryError:
        return PhotoError(photo.path, "it does not fit into memory")


def _batch(rows: Rows, prepared: list[Prepared]) -> Batch:
    sizes = Counter(image.shape[1:] for image in prepared if isinstance(image, np.ndarray))
    size = sizes.most_common(1)[0][0] if sizes else (1, 1)
    images = np.zeros((len(rows), 3, *size), np.float32)
    failed: dict[int, PhotoError] = {}
    for slot, (row, image) in enumerate(zip(rows.tolist(), prepared, strict=True)):
        if isinstance(image, PhotoError):
            failed[row] = image
        elif image.shape[1:] != size:
            failed[row] = PhotoError(f"row {row}", "its size has changed since it was listed")
        else:
            images[slot] = image
    return Batch(rows, images, failed)
