"""What the frozen layers make of each photo, computed once and kept in memory or in a mapped file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.errors import InputError, StoreError
from dejavlad.guarded.npy_file import read_npy
from dejavlad.guarded.plain_file import SMALL, open_regular, read_utf8
from dejavlad.names import same_form
from dejavlad.progress import Progress
from dejavlad.storage import disk_errors, write_npy
from dejavlad.storage.rows import row_checksum
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.context import RunContext
from dejavlad.training.data.frozen_layout import Layout, dequantize, quantize
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.distributed import ALONE, Processes
from dejavlad.training.sampling.tuples import Rows
from dejavlad.training.steps.network import Network

FREEZING = "computing frozen layers"
FREE_SHARE = 0.1
"""Of what is free on the disk, so much stays free."""


class FrozenMaps:
    """The maps of a pool's photos.

    Args:
        layout: where each lies.
        values: the array, of the layout's length.
        done: bool, whether each photo's map is there.
    """

    def __init__(self, layout: Layout, values: NDArray[Any], done: NDArray[np.bool_]) -> None:
        self.layout, self._values, self.done = layout, values, done

    def among(self, numbers: Rows) -> Rows:
        """Those photos whose maps have a place here."""
        return numbers[[self.layout.shapes[number] is not None for number in numbers.tolist()]]

    def get(self, numbers: Sequence[int] | Rows) -> Tensor:
        """The maps of photos of one size [n, C, h, w], in the type in which they are kept, or float32."""
        shape = self.layout.shapes[int(numbers[0])]
        assert shape is not None
        stepped = self.layout.dtype == np.uint16
        maps_nChw = np.empty((len(numbers), *shape), np.float32 if stepped else self.layout.dtype)
        for slot, number in enumerate(numbers):
            kept = self._read(int(number))
            maps_nChw[slot] = dequantize(kept, shape) if stepped else kept.reshape(shape)
        return torch.from_numpy(maps_nChw)

    def put(self, numbers: Sequence[int] | Rows, maps_NChw: Tensor) -> None:
        """Keep the maps of photos of one size.

        Raises:
            InputError: a value does not fit into float16, or is not finite.
        """
        for number, map_Chw in zip(numbers, _on_cpu(maps_NChw), strict=True):
            with np.errstate(over="ignore"):
                values_Chw = map_Chw.numpy()
                kept = values_Chw if self.layout.dtype == np.uint16 else values_Chw.astype(self.layout.dtype)
            if not np.isfinite(kept).all():
                raise InputError(
                    f"a frozen layer's value is too large for {self.layout.dtype}, or not finite"
                    + "; begin another run with frozen_maps_dtype=int16" * (self.layout.dtype == np.float16)
                )
            kept = quantize(kept) if self.layout.dtype == np.uint16 else kept.reshape(-1)
            self._write(int(number), kept)
            self.done[number] = True

    def _read(self, number: int) -> NDArray[Any]:
        kept: NDArray[Any] = self._values[self.layout.starts[number] : self.layout.starts[number + 1]]
        return kept

    def _write(self, number: int, kept: NDArray[Any]) -> None:
        self._values[self.layout.starts[number] : self.layout.starts[number + 1]] = kept

    def fill(self, network: Network, pool: PhotoPool, context: RunContext) -> None:
        """Compute the maps that are missing: of this process's photos, in batches that the pool determines.

        Args:
            network: its frozen layers make them.
            pool: the photos; those that cannot be read are noted there.
            context: photos in a batch, whose share, and where to report `FREEZING`.

        Raises:
            InputError: a value does not fit into float16, or is not finite.
            StoreError: they cannot be written.
        """
        plan = pool.plan(context.config.describe_batch, context.processes)
        total = len(pool) if context.processes.alone else sum(map(len, plan))
        pending = [batch for batch in plan if not self.done[batch].all()]
        finished = int(self.done.sum())
        before = finished
        with network.describing():
            for batch in pool.load(pending):
                good = [slot for slot, number in enumerate(batch.rows) if int(number) not in batch.failed]
                maps = network.features(torch.as_tensor(batch.images))
                self.put(batch.rows[good], maps[good])
                finished += len(good)
                context.on_progress(Progress(FREEZING, finished, total, before))
                self.commit(batch.rows)

    def commit(self, numbers: Rows) -> None:
        """Make maps permanent; in memory there is nothing to do."""


class MappedMaps(FrozenMaps):
    """Maps in a file, which serve again when the run goes on; mapped once they are all there.

    They are written as any file is, not through the map: a full disk is an error then, not a crash.

    Args:
        layout: where each lies.
        folder: the file ``maps.bin`` lies there, with ``done.npy``, ``sums.npy`` (uint32 [N], CRC-32 of each
            photo's map, compared when it is read for the first time), ``key.txt``, and ``starts.npy`` (int64
            [N + 1], the first byte of each map), by which they can be checked without the network.
        key: what the maps depend on; a file made for another is made anew.

    Raises:
        StoreError: it cannot be written.
    """

    def __init__(self, layout: Layout, folder: Path, key: str) -> None:
        self._folder, self._file = folder, folder / "maps.bin"
        self._handle: BinaryIO | None = None
        self._pending = 0
        done = np.zeros(len(layout.shapes), np.bool_)
        self._sums = np.zeros(len(done), np.uint32)
        self._unread = np.ones(len(done), np.bool_)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if _text(folder / "key.txt") == key and self._file.is_file():
                with contextlib.suppress(OSError, ValueError):
                    marks, sums = read_npy(folder / "done.npy"), read_npy(folder / "sums.npy")
                    if marks.shape == sums.shape == done.shape and marks.dtype == np.bool_:
                        done, self._sums = marks.view(np.uint8) == 1, sums
                ends = layout.starts[1:] * layout.dtype.itemsize
                done &= ends <= self._file.stat().st_size  # what was cut off is made anew
            else:
                for path in (folder / "key.txt", folder / "done.npy", folder / "sums.npy", self._file):
                    path.unlink(missing_ok=True)
                self._file.touch()
                (folder / "key.txt").write_text(key, encoding="utf-8")
            write_npy(folder / "starts.npy", layout.starts * layout.dtype.itemsize)
        super().__init__(layout, np.empty(0, layout.dtype), done)

    def fill(self, network: Network, pool: PhotoPool, context: RunContext) -> None:
        """Compute and write the missing maps, as `FrozenMaps.fill`; then map the file for reading."""
        with disk_errors(self._folder):
            try:
                with open(self._file, "rb+") as self._handle:
                    super().fill(network, pool, context)
                    self._note()
            finally:
                self._handle = None
            length = min(self._file.stat().st_size // self.layout.dtype.itemsize, int(self.layout.starts[-1]))
            if length:
                self._values = np.memmap(self._file, self.layout.dtype, "r", shape=(length,))

    def commit(self, numbers: Rows) -> None:
        """Every 1000 photos what is done is noted."""
        self._pending += len(numbers)
        if self._pending >= 1000:
            self._note()

    def _read(self, number: int) -> NDArray[Any]:
        kept = super()._read(number)
        if self._unread[number]:
            if row_checksum(kept) != self._sums[number]:
                raise StoreError(
                    f"{str(self._file)!r} is damaged: the map of photo {number} is not what was written; "
                    f"delete {str(self._folder)!r} and run the same again"
                )
            self._unread[number] = False
        return kept

    def _write(self, number: int, kept: NDArray[Any]) -> None:
        assert self._handle is not None
        data = kept.tobytes()
        self._handle.seek(int(self.layout.starts[number]) * self.layout.dtype.itemsize)
        self._handle.write(data)
        self._sums[number] = row_checksum(data)

    def _note(self) -> None:
        assert self._handle is not None
        self._pending = 0
        self._handle.flush()
        os.fsync(self._handle.fileno())
        for name, values in (("sums.npy", self._sums), ("done.npy", self.done)):
            write_npy(self._folder / name, values)


def check_frozen_maps(folder: Path) -> tuple[int, bool]:
    """Compare the maps of a folder with their checksums.

    Returns:
        How many there are, and whether they could be compared: earlier versions did not write where they
        lie.

    Raises:
        StoreError: one is not what was written.
    """
    try:
        done = read_npy(folder / "done.npy") if (folder / "done.npy").exists() else np.zeros(0, np.bool_)
        if not (folder / "starts.npy").exists():
            return int(done.sum()), False
        starts, sums = read_npy(folder / "starts.npy"), np.zeros(0, np.uint32)
        if len(done):
            sums = read_npy(folder / "sums.npy")
        if len(done) and not len(done) == len(sums) == len(starts) - 1:
            raise ValueError("done.npy, sums.npy and starts.npy differ in length")
        with open_regular(folder / "maps.bin") as file:
            for number in np.flatnonzero(done).tolist():
                file.seek(int(starts[number]))
                if row_checksum(file.read(int(starts[number + 1] - starts[number]))) != sums[number]:
                    raise ValueError(f"the map of photo {number} is not what was written")
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the frozen maps in {str(folder)!r} are damaged: {error}; delete that folder and run the same "
            "training again"
        ) from error
    return int(done.sum()), True


def plan_frozen_maps(
    network: Network,
    pool: PhotoPool,
    config: TrainConfig,
    folder: Path,
    budget_left: float,
    processes: Processes = ALONE,
) -> tuple[FrozenMaps | None, str]:
    """Where a pool's maps can be kept, if they can; nothing is computed yet.

    Args:
        network: its frozen layers make them.
        pool: of these photos.
        config: see its options of that name.
        folder: for a file.
        budget_left: bytes that may still be taken in memory.
        processes: each keeps the maps of the photos that it describes.

    Returns:
        The maps, still empty or as an earlier run left them; None where there are none to keep. And why, in
        words.

    Raises:
        InputError: they are to be kept where there is no room.
    """
    if config.frozen_maps == "off":
        return None, "switched off"
    if not network.frozen:
        return None, "the first layer learns: there is nothing to keep"
    rows = None
    if not processes.alone:
        rows = np.concatenate([np.empty(0, np.int64), *pool.plan(config.describe_batch, processes)])
    layout = Layout.of(network, pool, config.frozen_maps_dtype, rows)
    size = f"{layout.n_bytes / 1e9:.2f} GB"
    if config.frozen_maps == "memory" and layout.n_bytes > budget_left:
        raise InputError(
            f"the frozen layers' maps of {pool.dataset.name} take {size}, more than the "
            f"{max(0.0, budget_left) / 1e9:.2f} GB left of frozen_maps_gb; set it higher, or "
            "frozen_maps=disk, or frozen_maps_dtype=int16"
        )
    if config.frozen_maps != "disk" and layout.n_bytes <= budget_left:
        empty = np.zeros(len(pool), np.bool_)
        return FrozenMaps(layout, np.empty(int(layout.starts[-1]), layout.dtype), empty), f"{size} in memory"
    key = _key(network, pool, layout)
    room = _room(folder) * (1 - FREE_SHARE) / processes.count  # all processes write into this folder
    if _text(folder / "key.txt") == key:
        room += layout.n_bytes
    if layout.n_bytes <= room:
        return MappedMaps(layout, folder, key), f"{size} on disk"
    reason = f"{size} are needed, {room / 1e9:.2f} GB are free on the disk"
    if config.frozen_maps == "disk":
        raise InputError(f"the frozen layers' maps of {pool.dataset.name} do not fit: {reason}")
    return None, reason


def _key(network: Network, pool: PhotoPool, layout: Layout) -> str:
    """What the maps depend on: photos, how they are prepared, frozen weights, and type."""
    digest = hashlib.sha256()
    names = [same_form(photo.key) for photo in pool.photos]
    photos = [pool.preprocess.to_dict(), names, layout.shapes]
    stats = [_stat(photo.path) for photo in pool.photos]
    digest.update(json.dumps([photos, stats, str(layout.dtype), str(network.dtype)]).encode())
    for layer in network.frozen:
        digest.update(repr(layer).encode())
        for tensor in (*layer.parameters(), *layer.buffers()):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _stat(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _room(folder: Path) -> float:
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return float(shutil.disk_usage(existing).free)


def _on_cpu(maps_NChw: Tensor) -> Tensor:
    """On the processor, in a type that NumPy knows."""
    return maps_NChw.to("cpu", torch.promote_types(maps_NChw.dtype, torch.float32))


def _text(path: Path) -> str | None:
    try:
        return read_utf8(path, SMALL)
    except (OSError, ValueError):
        return None
