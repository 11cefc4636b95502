"""Photos in the order of a plan, batch by batch, decoded ahead by threads.

The plan is made once, from the photos' sizes, so that all photos of a batch share one prepared size. Decoding
releases the interpreter's lock, so threads serve as well as processes and start at once on every system.

Legend: n photos of a batch, h x w their prepared size.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, PhotoError
from dejavlad.images.preprocess import Preprocess
from dejavlad.images.read import check_content, read_image, read_reduced, read_size
from dejavlad.photo import Photo

Size = tuple[int, int]
Rows = NDArray[np.int64]
Prepared = NDArray[np.float32] | PhotoError
Timed = tuple[Prepared, float]
"""A prepared photo, and the seconds that it took."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Prepared photos of one size."""

    rows: Rows
    """int64 [n] where they stand in the list."""
    images: NDArray[np.float32]
    """float32 [n, 3, h, w]; zeros where a photo failed."""
    failed: dict[int, PhotoError] = field(default_factory=dict)
    """Row -> why that photo could not be read."""
    seconds: float = 0.0
    """That decoding and preparing its photos took, added up over the threads."""


def prepared_size(photo: Photo, preprocess: Preprocess) -> Size:
    """(height, width) that a photo is prepared to, from its header alone.

    Raises:
        PhotoError: it cannot be read.
    """
    return preprocess.output_size(*read_size(photo, rotate=preprocess.rotate))


def plan_batches(sizes: Sequence[Size | None], batch_size: int) -> list[Rows]:
    """Group rows by size, in order of first appearance, at most `batch_size` together.

    Args:
        sizes: each photo's prepared (height, width); None leaves it out.
        batch_size: at least 1.

    Returns:
        int64 rows of each batch; a function of the arguments alone.

    Raises:
        InputError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise InputError(f"a batch needs at least one photo; given {batch_size}")
    # Batches are full however the sizes are mixed in the list. They follow from the sizes alone, so that a
    # run that goes on makes the same ones: which photos share a batch decides how a network rounds.
    groups: dict[Size, list[int]] = {}
    for row, size in enumerate(sizes):
        if size is not None:
            groups.setdefault(size, []).append(row)
    return [
        np.array(rows[start : start + batch_size], np.int64)
        for rows in groups.values()
        for start in range(0, len(rows), batch_size)
    ]


def load_batches(
    photos: Sequence[Photo],
    plan: Iterable[Rows],
    preprocess: Preprocess,
    *,
    workers: int = 0,
    sizes: Sequence[Size | None] | None = None,
    keep_blank: bool = False,
) -> Generator[Batch, None, None]:
    """Prepare the photos of a plan, in its order.

    A photo that cannot be read leaves zeros in its slot and its reason in `Batch.failed`; so does one that
    shows nothing (`BlankPhotoError`), and one whose prepared size is not that of its batch. What comes does
    not depend on `workers`. Closing the generator, or an interrupt, waits for the photos being decoded and
    drops those that wait their turn.

    Args:
        photos: the list.
        plan: rows of each batch, from `plan_batches`.
        preprocess: how photos are prepared.
        workers: threads that decode ahead; 0 decodes when asked.
        sizes: what the plan was made from; unless given, a batch has the size of most of its photos.
        keep_blank: prepare photos that show nothing as any others.

    Raises:
        InputError: `workers` is negative.
    """
    if workers < 0:
        raise InputError(f"workers cannot be negative; given {workers}")

    def prepare(photo: Photo, read: Callable[[], NDArray[np.uint8]] | None = None) -> Timed:
        start = time.perf_counter()
        prepared = _prepare(photo, preprocess, keep_blank, read)
        return prepared, time.perf_counter() - start

    def finish(rows: Rows, prepared: list[Timed]) -> Batch:
        planned = sizes[int(rows[0])] if sizes is not None and len(rows) else None
        seconds = sum(took for _, took in prepared)
        return _batch(photos, preprocess, rows, [photo for photo, _ in prepared], planned, seconds)

    if workers == 0:
        return (finish(rows, [prepare(photos[int(row)]) for row in rows]) for rows in plan)
    return _decoded_ahead(photos, plan, workers, prepare, finish)


def _decoded_ahead(
    photos: Sequence[Photo],
    plan: Iterable[Rows],
    workers: int,
    prepare: Callable[..., Timed],
    finish: Callable[[Rows, list[Timed]], Batch],
) -> Generator[Batch, None, None]:
    """The batches of `load_batches`, their photos prepared by threads before they are asked for."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="dejavlad-decode")
    # A video is read in order: by one thread in one pass, by several in one pass each.
    video = ThreadPoolExecutor(1, thread_name_prefix="dejavlad-decode-video")
    todo = iter(plan)
    ahead: deque[tuple[Rows, list[Future[Timed]]]] = deque()

    def submit(photo: Photo) -> Future[Timed]:
        if photo.frame is None:
            return pool.submit(prepare, photo)
        pixels = video.submit(read_image, photo)
        return pool.submit(prepare, photo, pixels.result)

    def look_ahead() -> None:
        """Keep two batches under way, and as many more as give each thread two photos."""
        while len(ahead) < 2 or sum(len(rows) for rows, _ in ahead) < 2 * workers:
            if (rows := next(todo, None)) is None:
                return
            ahead.append((rows, [submit(photos[int(row)]) for row in rows]))

    try:
        look_ahead()
        while ahead:
            rows, pending = ahead.popleft()
            batch = finish(rows, [future.result() for future in pending])
            del pending
            look_ahead()
            yield batch
    finally:
        for executor in (video, pool):
            executor.shutdown(wait=True, cancel_futures=True)


def _prepare(
    photo: Photo, preprocess: Preprocess, keep_blank: bool, read: Callable[[], NDArray[np.uint8]] | None
) -> Prepared:
    """One photo, prepared; `read` gives its pixels where another thread reads them."""
    try:
        whole: Size | None = None
        if read is not None:
            pixels = read()
        elif preprocess.reduce or preprocess.levels != "photo":
            wanted = preprocess.output_size if preprocess.reduce else None
            pixels, whole = read_reduced(photo, wanted, rotate=preprocess.rotate, levels=preprocess.levels)
        else:
            pixels = read_image(photo, rotate=preprocess.rotate)
        if not keep_blank:
            check_content(photo, pixels)
        return preprocess(pixels) if whole is None else preprocess(pixels, whole)
    except PhotoError as error:
        return error
    except MemoryError:
        return PhotoError(photo.path, "it does not fit into memory")


def _batch(
    photos: Sequence[Photo],
    preprocess: Preprocess,
    rows: Rows,
    prepared: list[Prepared],
    planned: Size | None,
    seconds: float,
) -> Batch:
    size = planned or _most([image.shape[1:] for image in prepared if isinstance(image, np.ndarray)])
    size = size or _most(_header_sizes(photos, preprocess, rows)) or (1, 1)
    images = np.zeros((len(rows), 3, *size), np.float32)
    failed: dict[int, PhotoError] = {}
    for slot, (row, image) in enumerate(zip(rows.tolist(), prepared, strict=True)):
        if isinstance(image, PhotoError):
            failed[row] = image
        elif image.shape[1:] != size:
            actual, expected = (f"{height}x{width}" for height, width in (image.shape[1:], size))
            failed[row] = PhotoError(
                photos[row].path,
                f"it has changed since it was listed: prepared it is {actual}, not {expected}",
            )
        else:
            images[slot] = image
    return Batch(rows, images, failed, seconds)


def _most(sizes: Iterable[tuple[int, ...]]) -> Size | None:
    """The most frequent size, the first of several; None of none."""
    frequent = Counter(sizes).most_common(1)
    return (frequent[0][0][0], frequent[0][0][1]) if frequent else None


def _header_sizes(photos: Sequence[Photo], preprocess: Preprocess, rows: Rows) -> Iterator[Size]:
    """Prepared sizes of photos whose header can be read."""
    for row in rows.tolist():
        with suppress(PhotoError):
            yield prepared_size(photos[row], preprocess)
