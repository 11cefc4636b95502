"""One writer of a store's folder: locks it, commits batches, changes the manifest safely (see `store`)."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError, StoreMismatchError
from dejavlad.extraction.manifest import Manifest, Setting
from dejavlad.extraction.photo_table import Rows
from dejavlad.extraction.shard import SHARD, WHOLE, Shard
from dejavlad.extraction.store import CHANGE, DONE, FAILED, DescriptorStore
from dejavlad.files import write_whole
from dejavlad.guarded.json_file import with_checksum
from dejavlad.guarded.plain_file import read_bytes
from dejavlad.storage import FolderWriter, disk_errors, sync_folder
from dejavlad.storage.rows import row_checksum

COMMIT_SECONDS = 1.0
"""Finished batches are made permanent together, so long after the first of them (a sync is slow)."""

_FILES = (
    "rows.npy",
    "sums.npy",
    "failed.json",
    "done.npy",
    WHOLE,
    SHARD,
    "manifest.json",
)  # in the order in which a change moves in


class StoreWriter(FolderWriter):
    """One writer of a store's folder; use as a context, then `begin`, then `put` batch by batch.

    Entering makes the folder, takes its lock, finishes a change that was cut off, and finds what is there.

    Raises:
        StoreBusyError: another process writes there.
        StoreError: the folder cannot be written, or holds something else.
    """

    KIND = "a store of descriptors"
    OWN = frozenset({*_FILES, CHANGE, "patches"})

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.existing: DescriptorStore | None = None
        self._files: dict[str, tuple[io.BufferedRandom, int]] = {}
        self._pending: list[tuple[Rows, int]] = []
        self._since = 0.0
        self._failed: dict[int, str] = {}
        self._failed_written = True
        self._sums: dict[int, int] = {}

    def _refuse_others(self) -> None:
        if not (self.path / "manifest.json").is_file():  # what lies beside a store stays there
            super()._refuse_others()

    def _open(self) -> None:
        self._finish_change()
        if (self.path / "manifest.json").is_file():
            self.existing = DescriptorStore.open(self.path, shards=True)

    def _close(self) -> None:
        for file, _ in self._files.values():
            with contextlib.suppress(OSError):
                file.close()

    def require(self, shard: Shard | None) -> None:
        """Raise StoreMismatchError where what is there is another shard, or no shard where one is written."""
        if self.existing is None or self.existing.shard == shard:
            return
        here, now = (
            "a whole store" if given is None else f"shard {given}" for given in (self.existing.shard, shard)
        )
        raise StoreMismatchError(self.path, {"share of the photos": (here, now)})

    def begin(
        self,
        manifest: Manifest,
        state_N: NDArray[np.uint8],
        failed: dict[int, str],
        old_rows_N: Rows | None = None,
        shard: tuple[Shard, Manifest] | None = None,
    ) -> None:
        """Make `manifest` the store's, keeping the rows that `state_N` says are there.

        Args:
            manifest: the setting, photos and plan from now on.
            state_N: uint8 [N] what is there; the other rows become `NOT_YET`.
            failed: row -> reason, of the rows that are `FAILED`.
            old_rows_N: [N] the row that each kept row has in the store as found; None where none moves.
            shard: which share of a whole store this is, and the manifest of that.
        """
        existing, self.existing = self.existing, None  # nothing may stay mapped where files are replaced
        self._manifest, self._failed = manifest, dict(failed)
        shape, dtype = (len(state_N), manifest.setting.dims), manifest.setting.dtype
        done_header = _npy_header(shape[:1], "uint8")
        sums_header = _npy_header(shape[:1], "uint32")
        shares = {}
        if shard is not None:
            shares = {
                WHOLE: shard[1].to_json().encode(),
                SHARD: json.dumps(shard[0].to_dict(), separators=(",", ":")).encode(),
            }
        contents = {
            "sums.npy": sums_header + _sums(existing, state_N, old_rows_N).tobytes(),
            "failed.json": self._failed_text(),
            "done.npy": done_header + state_N.tobytes(),
            **shares,
            "manifest.json": manifest.to_json().encode(),
        }
        with disk_errors(self.path):
            if existing is not None and old_rows_N is None and (existing.done & (state_N != DONE)).any():
                old_rows_N = np.arange(len(state_N))  # rows that no longer count become zeros
            moved = existing is None or old_rows_N is not None
            if moved or any(_content(self.path / name) != data for name, data in contents.items()):
                folder = self.path / CHANGE
                folder.mkdir()
                if moved:
                    _copy_rows(folder / "rows.npy", manifest.setting, existing, state_N, old_rows_N)
                for name, data in contents.items():  # the manifest last: it says that the change is whole
                    write_whole(folder / name, data)
                del existing
                self._finish_change()
            for name, header in (
                ("rows.npy", _npy_header(shape, dtype)),
                ("sums.npy", sums_header),
                ("done.npy", done_header),
            ):
                self._files[name] = (open(self.path / name, "r+b"), len(header))  # noqa: SIM115 (closed on exit)

    def put(self, rows: Rows, values_nD: NDArray[Any], failed: dict[int, str]) -> None:
        """Write one finished batch: descriptors of `rows` (ascending or not), and the rows that failed."""
        setting = self._manifest.setting
        values = np.ascontiguousarray(values_nD, dtype=setting.dtype)
        if not self._pending:
            self._since = time.monotonic()
        with disk_errors(self.path):
            for row, value in zip(rows.tolist(), values, strict=True):
                self._write("rows.npy", row, value.tobytes())
                self._sums[row] = row_checksum(value)
            self._files["rows.npy"][0].flush()
        if failed:
            self._failed.update(failed)
            self._failed_written = False
            self._pending.append((np.fromiter(failed, np.int64, len(failed)), FAILED))
        self._pending.append((np.asarray(rows, np.int64), DONE))
        if time.monotonic() - self._since >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Make all batches put so far permanent."""
        pending, self._pending = self._pending, []  # after a failed sync none of them may be called done
        if not pending:
            return
        with disk_errors(self.path):
            self._sync("rows.npy")
            sums, self._sums = self._sums, {}
            for row, crc in sums.items():
                self._write("sums.npy", row, np.uint32(crc).tobytes())
            self._sync("sums.npy")
            if not self._failed_written:
                write_whole(self.path / "failed.json", self._failed_text())
                self._failed_written = True
            for rows, mark in pending:
                for row in rows.tolist():
                    self._write("done.npy", row, bytes([mark]))
            self._sync("done.npy")

    def _write(self, name: str, row: int, value: bytes) -> None:
        """Write what a file of rows of one size holds of a row."""
        file, offset = self._files[name]
        file.seek(offset + row * len(value))
        file.write(value)

    def _sync(self, name: str) -> None:
        """Bring what was written onto the disk."""
        file, _ = self._files[name]
        file.flush()
        os.fsync(file.fileno())

    def _finish_change(self) -> None:
        """Move a change that is whole into place; drop one that is not."""
        folder = self.path / CHANGE
        if not folder.exists():
            return
        if (folder / "manifest.json").is_file():
            for name in _FILES:
                if (folder / name).is_file():
                    (folder / name).replace(self.path / name)
            sync_folder(self.path)
        for name in _FILES:  # these alone: nothing of the user's is ever deleted
            (folder / name).unlink(missing_ok=True)
            (folder / f"{name}.partial").unlink(missing_ok=True)
        folder.rmdir()

    def _failed_text(self) -> bytes:
        keys = self._manifest.table.keys
        reasons = {keys[row]: self._failed[row] for row in sorted(self._failed)}
        return json.dumps(with_checksum({"reasons": reasons}), indent=1).encode()


def save_store(store: DescriptorStore, path: Path | str) -> DescriptorStore:
    """Write a store to a new folder, and open it there.

    Raises:
        StoreError: there is a store already, or it cannot be written.
    """
    with StoreWriter(Path(path)) as writer:
        if writer.existing is not None:
            raise StoreError(f"there is a store at {str(path)!r} already; give another folder")
        writer.begin(store.manifest, np.zeros(len(store), np.uint8), {})
        step = max(1, (1 << 22) // store.dims)
        for first in range(0, len(store), step):
            part = np.arange(first, min(first + step, len(store)))
            good = part[store.done[part]]
            bad = part[store.state[part] == FAILED]
            writer.put(good, store.rows[good], {int(row): store.failed[store.keys[row]] for row in bad})
    return DescriptorStore.open(path)


def _copy_rows(
    path: Path,
    setting: Setting,
    existing: DescriptorStore | None,
    state_N: NDArray[np.uint8],
    old: Rows | None,
) -> None:
    """A rows file with the kept rows in their new places and zeros (a hole in the file) elsewhere."""
    shape = (len(state_N), setting.dims)
    header = _npy_header(shape, setting.dtype)
    row_bytes = setting.dims * np.dtype(setting.dtype).itemsize
    with open(path, "wb") as file:
        file.write(header)
        if existing is not None and old is not None:
            for row in np.flatnonzero(state_N == DONE):
                file.seek(len(header) + int(row) * row_bytes)
                file.write(existing.rows[old[row]].tobytes())
        file.truncate(len(header) + len(state_N) * row_bytes)
        file.flush()
        os.fsync(file.fileno())


def _sums(
    existing: DescriptorStore | None, state_N: NDArray[np.uint8], old_rows_N: Rows | None
) -> NDArray[np.uint32]:
    """Checksums of the rows that are kept; computed where the store, of an earlier version, has none."""
    sums = np.zeros(len(state_N), np.uint32)
    kept = np.flatnonzero(state_N == DONE)
    if existing is None or not len(kept):
        return sums
    old = kept if old_rows_N is None else old_rows_N[kept]
    sums[kept] = (
        [row_checksum(existing.rows[row]) for row in old] if existing.sums is None else existing.sums[old]
    )
    return sums


def _content(path: Path) -> bytes | None:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        return None


def _npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()
