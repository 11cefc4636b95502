"""All photos of a pool to descriptors, with the network as it is now: for mining and for tests.

Legend: M photos of the pool, D numbers of a descriptor, n photos of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dejavlad.errors import DivergedError
from dejavlad.progress import Progress
from dejavlad.training.context import RunContext
from dejavlad.training.data.descriptor_file import read_rows, write_rows
from dejavlad.training.data.frozen_maps import FrozenMaps
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.distributed import ALONE, Processes
from dejavlad.training.sampling.mining import Descriptors, Floats
from dejavlad.training.sampling.tuples import Rows
from dejavlad.training.steps.network import Network

DESCRIBING = "describing photos"


def describe_pool(
    network: Network,
    pool: PhotoPool,
    maps: FrozenMaps | None,
    context: RunContext,
    *,
    among: Rows | None = None,
) -> Iterator[tuple[Rows, Floats]]:
    """Describe all photos that can be read, batch by batch; those that cannot are noted by the pool.

    Several processes describe as many batches at once, and all of them get all descriptors.

    Args:
        network: as it is now.
        pool: the photos.
        maps: what the frozen layers make of them, where that is kept.
        context: photos described together, by which processes, and where to report `DESCRIBING`.
        among: numbers of those that are described, instead of all.

    Yields:
        Numbers [n] of photos and their descriptors, float32 [n, D].

    Raises:
        DivergedError: a descriptor is not finite.
    """
    processes = context.processes
    done, total = 0, len(pool) if among is None else len(among)
    # Where maps are kept, a process has those of its own photos, whatever batches these are in now.
    plan = pool.plan(context.config.describe_batch, processes if maps is None else ALONE, among)
    with network.describing():
        for numbers, rows in _gathered(_own_batches(network, pool, maps, plan), processes):
            rows_nD = rows.cpu().numpy()
            bad = np.flatnonzero(~np.isfinite(rows_nD).all(axis=1))
            if len(bad):
                raise DivergedError(
                    f"training broke down: {pool.photos[int(numbers[bad[0]])].key!r} is described by "
                    "numbers that are not finite. Go on with a smaller learning_rate"
                )
            yield numbers, rows_nD
            done += len(numbers)
            context.on_progress(Progress(DESCRIBING, done, total))
    pool.agree(processes)


def _gathered(own: Iterator[tuple[Rows, Tensor]], processes: Processes) -> Iterator[tuple[Rows, Tensor]]:
    """What each process describes, in turn, on all of them."""
    if processes.alone:
        yield from own
        return
    while any(processes.gather((own_rows := next(own, None)) is not None)):
        numbers, rows_nD = own_rows or (np.empty(0, np.int64), None)
        gathered = processes.gather((numbers, 0 if rows_nD is None else rows_nD.shape[1]))
        if rows_nD is None:
            rows_nD = torch.empty(0, max(width for _, width in gathered))
        for (numbers_of_process, _), rows in zip(gathered, processes.gather_rows(rows_nD), strict=True):
            if len(numbers_of_process):
                yield numbers_of_process, rows


def _own_batches(
    network: Network, pool: PhotoPool, maps: FrozenMaps | None, plan: Sequence[Rows]
) -> Iterator[tuple[Rows, Tensor]]:
    """What this process describes, batch by batch; float32 [n, D]."""
    if maps is not None:
        for batch in plan:
            numbers = batch[maps.done[batch]]
            if len(numbers):
                yield numbers, network.describe(maps.get(numbers)).float()
        return
    for loaded in pool.load(plan):
        good = np.array([int(number) not in loaded.failed for number in loaded.rows])
        if good.any():
            features = network.features(torch.as_tensor(loaded.images))[torch.from_numpy(good)]
            yield loaded.rows[good], network.describe(features).float()


def write_descriptors(
    network: Network,
    pool: PhotoPool,
    maps: FrozenMaps | None,
    context: RunContext,
    path: Path,
    *,
    among: Rows | None = None,
) -> None:
    """Describe all photos into a file, which is there whole or not at all; the first process writes it.

    The rows of photos that cannot be read are zeros. Where it is of some photos, ascending, there is a row
    for each of these.

    Raises:
        StoreError: it cannot be written.
    """
    described = describe_pool(network, pool, maps, context, among=among)
    if context.processes.first:
        shape = len(pool) if among is None else len(among), network.model.descriptor_size
        write_rows(path, described, shape, among)
    else:
        for _ in described:
            pass
    context.processes.share(lambda: None)  # it is there when this returns


def read_descriptors(path: Path, pool: PhotoPool) -> Descriptors:
    """What `write_descriptors` wrote.

    Raises:
        StoreError: it is not there, or of other photos.
    """
    _, rows_MD = read_rows(path, len(pool))
    return Descriptors(rows_MD[: pool.n_queries], rows_MD[pool.n_queries :])
