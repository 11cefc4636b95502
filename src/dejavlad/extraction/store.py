"""Descriptors of a list of photos in one folder, memory-mapped and resumable.

The folder::

    STORE/manifest.json   the setting, the photos, the plan of batches (see `manifest`)
    STORE/rows.npy        [N, D] float32 or float16; zeros where there is no descriptor (yet)
    STORE/sums.npy        uint32 [N]: CRC-32 of each row that is described, compared when rows are first read
    STORE/done.npy        uint8 [N]: 0 not yet, 1 described, 2 failed
    STORE/failed.json     key -> why that photo failed, and a checksum
    STORE/change.partial/ a prepared change, while one is being made
    STORE/writer.lock     held by the one writer; readers need no lock

Two rules keep it whole wherever a run is cut off. A row and its checksum reach the disk before ``done.npy``
says so. And a change of the manifest is prepared whole in ``change.partial/``, whose manifest comes last;
from then on it is moved into place, by this run or the one after.

Legend: N photos, D the descriptor's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dejavlad.errors import InputError, StoreError
from dejavlad.extraction.manifest import Manifest, Setting
from dejavlad.extraction.photo_table import PhotoTable
from dejavlad.extraction.shard import Shard
from dejavlad.extraction.unit_rows import at_unit_length
from dejavlad.failures import NO_DESCRIPTOR
from dejavlad.guarded.fields import DAMAGED, check_column
from dejavlad.guarded.json_file import LARGE, read_json_object, without_checksum
from dejavlad.guarded.npy_file import map_npy, read_npy
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.photo import Photo, PhotoList
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.storage.rows import row_checksum

NOT_YET, DONE, FAILED = 0, 1, 2
CHECKING = "checking rows"
CHANGE = "change.partial"
UNKNOWN = "unknown"
"""The precision of rows that were made elsewhere."""
REASON_LOST = "it could not be described; why is no longer in failed.json"
"""The reason of a failed photo that ``failed.json`` does not name; the next run tries it again."""


class DescriptorStore:
    """The descriptors of N photos, read-only; `extract` writes them.

    Also a source of rows for `dejavlad.index.build_index`.
    """

    def __init__(
        self,
        manifest: Manifest,
        rows_ND: NDArray[Any],
        state_N: NDArray[np.uint8],
        failed: dict[str, str],
        path: Path | None = None,
        sums_N: NDArray[np.uint32] | None = None,
    ) -> None:
        self.manifest = manifest
        """Setting, photos and plan."""
        self._rows_ND = rows_ND
        self.sums = sums_N
        """uint32 [N]: CRC-32 of each row; None in memory, and in stores of earlier versions."""
        self._verified = sums_N is None
        self.path = path
        """The folder; None in memory."""
        self.marks = state_N
        """uint8 [N]: `state` as it was written, without a look at the rows."""
        self.reasons = failed
        """Key -> reason, as `marks`."""
        self.shard: Shard | None = None
        """Which share of a whole store this is; None for a whole store."""

    @classmethod
    def open(cls, path: Path | str, *, shards: bool = False) -> Self:
        """Open a store's folder; or a plain ``.npy`` [N, D], whose photos are then called 0, 1, 2 ...

        Args:
            shards: open a shard of a store too (see `dejavlad.extraction.shard`), which holds some photos of
                a list alone.

        Raises:
            StoreError: there is none, it is damaged, of a later format, or a shard where none is wanted.
        """
        path = Path(path)
        if path.is_file() and path.suffix == ".npy":
            return cls.from_arrays(_map_array(path), path=path)
        if not (path / "manifest.json").is_file():
            hint = "it is not a store of descriptors" if path.exists() else "there is nothing"
            raise StoreError(
                f"cannot open {str(path)!r}: {hint} (`dejavlad extract MODEL PHOTOS --out STORE`)"
            )
        if (path / CHANGE / "manifest.json").is_file():
            raise StoreError(
                f"{str(path)!r} is in the middle of a change; run `dejavlad extract` there again"
            )
        shard = Shard.read(path)
        if shard is not None and not shards:
            raise StoreError(
                f"{str(path)!r} is shard {shard} of a store: merge all {shard.count} first "
                "(`dejavlad store merge SHARD... --out STORE`)"
            )
        try:
            manifest = Manifest.from_json(read_utf8(path / "manifest.json"), path)
            state = read_npy(path / "done.npy")
            failed = _reasons(path / "failed.json")
            if state.dtype != np.uint8 or state.ndim != 1 or state.max(initial=0) > FAILED:
                raise ValueError("done.npy holds no marks")
        except DAMAGED as error:
            raise _damaged(path, error) from error
        rows = _map_array(path / "rows.npy")
        sums = _map_array(path / "sums.npy") if manifest.checked else None
        n, setting = len(manifest.table), manifest.setting
        if rows.shape != (n, setting.dims) or rows.dtype != setting.dtype or state.shape != (n,):
            raise _damaged(
                path,
                f"its manifest tells of {n} rows of {setting.dims} {setting.dtype}, but there are "
                f"{list(rows.shape)} {rows.dtype} and {len(state)} marks",
            )
        if sums is not None and sums.shape != (n,):
            raise _damaged(path, "its checksums are")
        failed_keys = [manifest.table.keys[row] for row in np.flatnonzero(state == FAILED).tolist()]
        if (unnamed := [key for key in failed_keys if key not in failed]) and sums is not None:
            raise _damaged(path, f"failed.json does not name {unnamed[0]!r}")
        reasons = {key: failed.get(key, REASON_LOST) for key in failed_keys}
        store = cls(manifest, rows, state, reasons, path, sums)
        store.shard = shard
        return store

    @classmethod
    def from_arrays(
        cls,
        rows_ND: ArrayLike,
        photos: PhotoList | Sequence[str] | None = None,
        *,
        model: str = "unknown",
        fingerprint: str = "",
        path: Path | None = None,
    ) -> Self:
        """A complete store in memory, of rows made elsewhere.

        Rows that are not of unit length are compared at that length (see `unit_rows`), as scores and
        confidences assume it. Rows of zeros are of photos that failed.

        Args:
            rows_ND: [N, D] float32 or float16, kept as it is (a memory map stays one); others become float32.
            photos: what they describe, or their names; 0, 1, 2 ... unless given.
            model: what made them.
            fingerprint: of what made them, where it is known.
            path: where they came from.

        Raises:
            InputError: not [N, D], or as many photos as there are rows are not given.
        """
        rows = np.asanyarray(rows_ND)
        if rows.dtype not in (np.float32, np.float16):
            rows = rows.astype(np.float32)
        if rows.ndim != 2 or not rows.shape[1]:
            source = "" if path is None else f"{path}: "
            raise InputError(f"{source}descriptors must be [N, D]; given {list(rows.shape)}")
        if not isinstance(photos, PhotoList):
            names = [str(row) for row in range(len(rows))] if photos is None else list(photos)
            photos = PhotoList(
                (Photo(name, Path(name)) for name in names), name=path.name if path else "rows"
            )
        if len(photos) != len(rows):
            raise InputError(f"{len(rows)} rows of descriptors but {len(photos)} photos")
        n = len(rows)
        unknown = np.full(n, -1, np.int64), np.zeros(n, np.int64), np.zeros((n, 2), np.int32)
        setting = Setting(model, fingerprint, {}, UNKNOWN, rows.shape[1], str(rows.dtype))
        manifest = Manifest(setting, PhotoTable(photos, photos.keys, *unknown), max(1, n), [])
        return cls(manifest, rows, np.full(n, DONE, np.uint8), {}, path)

    @property
    def state(self) -> NDArray[np.uint8]:
        """uint8 [N]: `NOT_YET`, `DONE` or `FAILED`; a row of zeros has failed, also in stores of old."""
        return self._seen[0]

    @property
    def failed(self) -> dict[str, str]:
        """Key -> reason, of the photos that could not be described, or show nothing."""
        return self._seen[1]

    @cached_property
    def _seen(self) -> tuple[NDArray[np.uint8], dict[str, str]]:
        """State and reasons with rows of zeros among the failed; of most rows the first number is enough."""
        empty = np.flatnonzero(self.marks == DONE)
        empty = empty[np.asarray(self.rows[empty, 0] == 0)] if len(empty) else empty
        step = max(1, (1 << 22) // self.dims)
        parts = [empty[first : first + step] for first in range(0, len(empty), step)]
        zero = [part[~np.asarray(self.rows[part]).any(axis=1)] for part in parts]
        if not any(map(len, zero)):
            return self.marks, self.reasons
        rows = np.concatenate(zero)
        state, keys = self.marks.copy(), self.keys
        state[rows] = FAILED
        return state, self.reasons | {keys[row]: NO_DESCRIPTOR for row in rows.tolist()}

    @property
    def unit_rows(self) -> NDArray[Any]:
        """[N, D] `rows` as they are compared: those made elsewhere are brought to unit length as they are
        read, where they are not of it (all of them are read once to see).

        Raises:
            InputError: rows made elsewhere are not finite.
        """
        return self._compared[0]

    @property
    def scaled(self) -> tuple[float, float] | None:
        """The least and the greatest length of rows made elsewhere, where they are not 1; else None.

        Raises:
            InputError: they are not finite.
        """
        return self._compared[1]

    @cached_property
    def _compared(self) -> tuple[NDArray[Any], tuple[float, float] | None]:
        if self.manifest.setting.precision != UNKNOWN:
            return self.rows, None
        return at_unit_length(self.rows, self.photos.name if self.path is None else str(self.path))

    def __len__(self) -> int:
        return len(self._rows_ND)

    def __repr__(self) -> str:
        done, failed = int(self.done.sum()), len(self.failed)
        return (
            f"DescriptorStore({str(self.path)!r}, {done} of {len(self)} done, {failed} failed, D={self.dims})"
        )

    @property
    def dims(self) -> int:
        """D, numbers in a descriptor."""
        return int(self._rows_ND.shape[1])

    @property
    def rows(self) -> NDArray[Any]:
        """[N, D] float32 or float16, memory-mapped where it lies on disk; zeros where not `done`.

        Raises:
            StoreError: a row is not what was written (looked at once).
        """
        if not self._verified:
            self._verify()
            self._verified = True
        return self._rows_ND

    def check(self, on_progress: OnProgress = silent) -> bool:
        """Compare all rows with their checksums, once more.

        Args:
            on_progress: called with reports of `CHECKING`.

        Returns:
            Whether there are any: stores in memory, and those of earlier versions, have none.

        Raises:
            StoreError: a row is not what was written.
        """
        if self.sums is None:
            return False
        self._verify(on_progress)
        return True

    def _verify(self, on_progress: OnProgress = silent) -> None:
        assert self.sums is not None
        rows = np.flatnonzero(self.marks == DONE).tolist()
        for number, row in enumerate(rows, 1):
            if number % 1000 == 0 or number == len(rows):
                on_progress(Progress(CHECKING, number, len(rows)))
            if row_checksum(self._rows_ND[row]) != self.sums[row]:
                raise _damaged(self.path, f"the row of {self.keys[row]!r} is not what was written")

    @property
    def keys(self) -> list[str]:
        """Each photo's key, in order."""
        return self.manifest.table.keys

    names = keys

    @property
    def photos(self) -> PhotoList:
        """The photos, with their paths and positions as they were given when they were described."""
        return self.manifest.table.photos

    @property
    def done(self) -> NDArray[np.bool_]:
        """[N] whether the row holds its photo's descriptor; False for failed photos too."""
        return np.asarray(self.state == DONE)

    @property
    def complete(self) -> bool:
        """Whether every photo is described or has failed."""
        return bool((self.marks != NOT_YET).all())

    def float32(self, rows: ArrayLike | slice | None = None) -> NDArray[np.float32]:
        """The given rows (all, unless given) as a float32 array [n, D] in memory."""
        chosen = (
            self.rows if rows is None else self.rows[rows if isinstance(rows, slice) else np.asarray(rows)]
        )
        return np.array(chosen, dtype=np.float32)


def _damaged(path: Path | None, why: object) -> StoreError:
    return StoreError(f"{str(path)!r} is damaged: {why}; delete it and extract again")


def _map_array(path: Path) -> NDArray[Any]:
    try:
        return map_npy(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read the descriptors in {str(path)!r}: {error}") from error


def _reasons(path: Path) -> dict[str, str]:
    """Key -> why, of ``failed.json`` (bare and without a checksum in earlier versions); may be malformed."""
    content = read_json_object(path, LARGE)
    reasons = without_checksum(content)["reasons"] if isinstance(content.get("reasons"), dict) else content
    check_column("reasons", list(reasons.values()), str)
    return dict(reasons)
