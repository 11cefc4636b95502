"""What is to be described of a list: its batches, planned once, and what a store has of it already.

Running again over what is there:

- the same list: the recorded plan goes on; a complete store is left as it is;
- a photo changed (size or time; content, for arrays): its whole batch is computed anew;
- photos added, removed or moved: the list is planned again, and batches that come out the same are kept;
- a photo had failed: it is tried again, and its batch is computed anew once it can be decoded and shows
  something;
- another batch size: finished batches are kept, the rest is planned again with the new size;
- another model, preprocessing, precision, size or dtype of descriptors: refused.

Legend: N photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import DejavladError
from dejavlad.extraction.describing import prepared_sizes
from dejavlad.extraction.manifest import Manifest, Setting, batch_set
from dejavlad.extraction.photo_table import PhotoTable, Rows
from dejavlad.extraction.shard import Shard, read_whole
from dejavlad.extraction.store import DONE, FAILED, NOT_YET, REASON_LOST, DescriptorStore
from dejavlad.extraction.writer import StoreWriter
from dejavlad.failures import NO_DESCRIPTOR
from dejavlad.images import Preprocess, plan_batches, read_content, read_size
from dejavlad.names import Names
from dejavlad.photo import Photo, PhotoList
from dejavlad.progress import OnProgress, Progress

LOOKING = "looking at photos"


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is to be described, and what is there."""

    manifest: Manifest
    """The setting, photos and batches from now on."""
    state: NDArray[np.uint8]
    """[N] what is there of each photo: `NOT_YET`, `DONE` or `FAILED`."""
    reasons: dict[int, str]
    """Row -> why, of the photos that have failed."""
    old_rows: Rows | None
    """[N] the row that each photo has in the store as it is; None where none moves."""
    share: tuple[Shard, Manifest] | None
    """Of a shard: which, and the manifest of the whole list."""

    @property
    def readable(self) -> tuple[PhotoTable, Rows]:
        """The whole list, and its photos that can be read."""
        table = self.manifest.table if self.share is None else self.share[1].table
        return table, np.flatnonzero(table.sizes.all(axis=1))


def plan_extraction(
    setting: Setting,
    preprocess: Preprocess,
    photos: PhotoList,
    batch_size: int,
    shard: Shard | None,
    writer: StoreWriter,
    on_progress: OnProgress,
) -> Plan:
    """Plan what is left to do in a store.

    Args:
        photos: the whole list.
        shard: plan this share alone.

    Raises:
        StoreMismatchError: the store is of another setting or share.
    """
    known = writer.existing
    writer.require(shard)
    known_table = None
    if known is not None:
        known.manifest.setting.check(setting, writer.path)
        known_table = known.manifest.table if shard is None else read_whole(writer.path).table
    table = look_at(preprocess, photos, known_table, on_progress)
    share = planned = None
    if shard is not None:  # the whole list is planned, so that its shares are those of one process's plan
        whole = Manifest(setting, table, batch_size, plan_list(preprocess, table, batch_size))
        share, own = (shard, whole), shard.part(whole)
        table, planned = own.table, own.batches
    if known is None:
        batches = plan_list(preprocess, table, batch_size) if planned is None else planned
        state, old_rows = np.zeros(len(table), np.uint8), None
    else:
        batches, state, old_rows = _plan_again(preprocess, table, batch_size, known, planned)
    reasons: dict[int, str] = dict(table.unreadable)
    if known is not None:
        failed_before = np.flatnonzero(state == FAILED).tolist()
        why = list(known.failed.values())
        at = Names(known.failed).match([table.keys[row] for row in failed_before], loosely=False)
        reasons |= {row: why[i] for row, i in zip(failed_before, at, strict=True) if i is not None}
    state[list(table.unreadable)] = FAILED
    return Plan(Manifest(setting, table, batch_size, batches), state, reasons, old_rows, share)


def look_at(
    preprocess: Preprocess, photos: PhotoList, known: PhotoTable | None, on_progress: OnProgress
) -> PhotoTable:
    """The photos as they are now; sizes of those that are unchanged from a table of before."""

    def size(photo: Photo) -> tuple[int, int]:
        height, width = read_size(photo, rotate=preprocess.rotate)
        preprocess.output_size(height, width)  # refuses a size it cannot make
        return height, width

    def report_row(row: int) -> None:
        if row % 100 == 0 or row == len(photos):
            on_progress(Progress(LOOKING, row, len(photos)))

    return PhotoTable.look(photos, size, known, report_row)


def plan_list(preprocess: Preprocess, table: PhotoTable, batch_size: int) -> list[Rows]:
    """Batches of all readable photos of a list."""
    return _batches(preprocess, table, np.flatnonzero(table.sizes.all(axis=1)), batch_size)


def _plan_again(
    preprocess: Preprocess,
    table: PhotoTable,
    batch_size: int,
    known: DescriptorStore,
    planned: list[Rows] | None,
) -> tuple[list[Rows], NDArray[np.uint8], Rows | None]:
    """Batches of all readable photos, what is there of them, and in which rows of `known` (None: same).

    Of a shard the batches are its share of the whole plan (`planned`), which is always made anew.
    """
    n = len(table)
    state = np.zeros(n, np.uint8)
    old_rows = table.rows_in(known.manifest.table)
    same_list = len(known) == n and np.array_equal(old_rows, np.arange(n))
    # A photo that had failed and can be decoded by now counts as another one, and its batch as not finished.
    # One in which the model saw nothing would be seen so again.
    for row in np.flatnonzero(old_rows >= 0).tolist():
        if known.state[old_rows[row]] == FAILED:
            reason = known.failed[known.keys[int(old_rows[row])]]  # its key may have another Unicode form
            curable = reason != NO_DESCRIPTOR
            if curable and (reason == REASON_LOST or _decodes(table.photos[row], preprocess)):
                old_rows[row] = -1
    # A photo's descriptor depends a little, by rounding, on the photos in its batch. A batch counts as
    # finished only if the same photos, unchanged, were described together: then the store ends as a fresh
    # run's would.
    finished = batch_set([b for b in known.manifest.batches if (known.state[b] != NOT_YET).all()])
    # The same photos keep their plan, for batches that come out otherwise would be described again; a new
    # batch size applies to what is not described yet.
    readable = np.flatnonzero(table.sizes.all(axis=1))
    if planned is not None:
        batches = planned
    elif same_list and not len(np.setdiff1d(readable, np.concatenate([*known.manifest.batches, [-1]]))):
        batches = known.manifest.batches
        if batch_size != known.manifest.batch_size:
            done = [b for b in batches if b.tobytes() in finished and (old_rows[b] >= 0).all()]
            rest = np.setdiff1d(readable, np.concatenate([*done, np.empty(0, np.int64)]))
            batches = done + _batches(preprocess, table, rest, batch_size)
    else:
        batches = plan_list(preprocess, table, batch_size)
    for batch in batches:
        if old_rows[batch].tobytes() in finished:
            state[batch] = known.state[old_rows[batch]]
    # Where no row that stays has another number, the file of rows is written into as it is.
    moved = len(known) != n or bool((old_rows != np.arange(n))[state == DONE].any())
    return batches, state, old_rows if moved else None


def _batches(preprocess: Preprocess, table: PhotoTable, rows: Rows, batch_size: int) -> list[Rows]:
    sizes = prepared_sizes(preprocess, table)
    return [rows[batch] for batch in plan_batches([sizes[row] for row in rows], batch_size)]


def _decodes(photo: Photo, preprocess: Preprocess) -> bool:
    """Whether it can be read, and shows anything."""
    try:
        read_content(photo, rotate=preprocess.rotate)
    except DejavladError:
        return False
    return True
