"""The patches of photos in one folder, memory-mapped; grows photo by photo, so that any run can be cut off.

The folder::

    PATCHES/manifest.json   what made the patches: model, sizes, strides, how they are written
    PATCHES/photos.jsonl    a line a photo: its key, its file as it was then, where its patches lie, CRC-32
    PATCHES/patches.bin     the patches; grows at the end, and bytes that no line tells of do not count
    PATCHES/centres.npy     of product quantisation, where that is how they are written
    PATCHES/writer.lock     held by the one writer; readers need none

Patches reach the disk before their line does. A later line of a photo takes the place of an earlier one.

Legend: P patches of one size, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, StoreError
from dejavlad.extraction.manifest import INCOMPARABLE, as_read_again, check_same
from dejavlad.extraction.patches.codec import CODECS, Codec
from dejavlad.guarded.fields import DAMAGED, checked_fields
from dejavlad.guarded.json_file import parse_json_object, read_json_object, with_checksum, without_checksum
from dejavlad.guarded.npy_file import read_npy
from dejavlad.guarded.plain_file import open_regular, read_utf8
from dejavlad.names import Names
from dejavlad.patches import PatchSet
from dejavlad.storage.identity import check_format
from dejavlad.storage.rows import row_checksum

FORMAT, VERSION = "dejavlad-patches", 2
"""Version 1 differs in int8 alone: each patch was rounded by itself."""
Data = bytes
Identity = tuple[int, int, str]
"""What changes when a photo changes: size and time of its file, or the hash of an array."""


@dataclass(frozen=True, slots=True)
class PatchManifest:
    """All that decides the patches of a photo; patches of two such never share a store."""

    model: str
    """The name of the model that made the patches; two names may stand for one model."""
    fingerprint: str
    """The model's fingerprint: its spec and weights."""
    preprocess: dict[str, Any]
    """How photos are prepared."""
    precision: str
    """What the model computed in: ``"fp32"`` or ``"bf16"``."""
    sizes: tuple[int, ...]
    """Sides of the patches, in cells."""
    strides: tuple[int, ...]
    """For each size, cells from one patch to the next."""
    dims: int
    """D, numbers in the descriptor of a patch."""
    dtype: str
    """How they are written: a name in `CODECS`."""
    stride: int
    """Pixels from one cell to the next."""
    offset: float
    """Centre of what cell (0, 0) sees, in pixels from the centre of the photo's first pixel."""

    def __post_init__(self) -> None:
        if self.dtype not in CODECS:
            raise InputError(f"patches cannot be stored as {self.dtype!r}; valid: {', '.join(CODECS)}")
        object.__setattr__(self, "preprocess", as_read_again(self.preprocess))
        object.__setattr__(self, "sizes", tuple(self.sizes))
        object.__setattr__(self, "strides", tuple(self.strides))

    def check(self, wanted: PatchManifest, path: Path) -> None:
        """Refuse to mix with patches made otherwise; the model's name alone may differ.

        Raises:
            StoreMismatchError: names every setting that differs.
        """
        check_same(asdict(self), asdict(wanted), path)

    def check_comparable(self, other: PatchManifest, path: Path) -> None:
        """As `check`, but they may be written in other ways and made at another precision."""
        own, others = (
            {key: value for key, value in asdict(manifest).items() if key not in ("dtype", "precision")}
            for manifest in (self, other)
        )
        check_same(own, others, path, hint=INCOMPARABLE, other="queries")


@dataclass(frozen=True, slots=True)
class Entry:
    """The patches of one photo."""

    key: str
    """The key of the photo that they are of."""
    identity: Identity
    """What its file was when it was described."""
    offset: int
    """Its first byte in ``patches.bin``."""
    grids: tuple[tuple[int, int], ...]
    """(H, W) patches of each size; none where the photo has no patches."""
    failed: str = ""
    """Why it has none."""
    crc: int | None = None
    """CRC-32 of its patches' bytes; None in stores of earlier versions."""

    def to_line(self) -> str:
        """As it stands in ``photos.jsonl``."""
        fields: dict[str, Any] = {
            "key": self.key,
            "identity": self.identity,
            "offset": self.offset,
            "grids": self.grids,
        }
        if self.failed:
            fields["failed"] = self.failed
        if self.crc is not None:
            fields["crc"] = self.crc
        return json.dumps(with_checksum(fields), separators=(",", ":")) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Self:
        """The entry of a line that `to_line` wrote; `MalformedFileError` where it was changed."""
        fields = without_checksum(parse_json_object(line))
        file_bytes, mtime_ns, sha256 = fields["identity"]
        grids = tuple((int(h), int(w)) for h, w in fields["grids"])
        identity = int(file_bytes), int(mtime_ns), str(sha256)
        if min((int(fields["offset"]), *(side for grid in grids for side in grid))) < 0:
            raise ValueError("a line tells of less than no bytes or patches")
        crc, failed = fields.get("crc"), str(fields.get("failed", ""))
        return cls(str(fields["key"]), identity, int(fields["offset"]), grids, failed, crc)


class PatchStore:
    """Patches by a photo's key, read-only; `dejavlad.extract(..., patches=...)` writes them."""

    def __init__(self, path: Path, manifest: PatchManifest, entries: dict[str, Entry], codec: Codec) -> None:
        self.path, self.manifest, self.entries, self.codec = path, manifest, entries, codec
        self._compared: set[str] = set()

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a store of patches, or a store of descriptors that has one inside.

        Raises:
            StoreError: there is none, it is damaged, cut short, or of a later format.
        """
        path = Path(path)
        if not (path / "photos.jsonl").is_file() and (path / "patches" / "manifest.json").is_file():
            path = path / "patches"
        if not (path / "manifest.json").is_file() or not (path / "photos.jsonl").is_file():
            raise StoreError(
                f"there are no patches in {str(path)!r}; make them with `dejavlad extract MODEL PHOTOS "
                "--out STORE --patches`"
            )
        store = cls(path, *read_folder(path))
        data_bytes = (path / "patches.bin").stat().st_size if (path / "patches.bin").exists() else 0
        for entry in store.entries.values():
            if entry.offset + store.bytes_of(entry) > data_bytes:
                raise StoreError(
                    f"{str(path / 'patches.bin')!r} is cut short: the patches of {entry.key!r} are not all "
                    "there; run the same `dejavlad extract ... --patches` again"
                )
        return store

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, key: object) -> bool:
        entry = self._entry(str(key))
        return entry is not None and not entry.failed

    def __repr__(self) -> str:
        return (
            f"PatchStore({str(self.path)!r}, {len(self)} photos, {self.manifest.dtype}, {self.bytes} bytes)"
        )

    @property
    def bytes(self) -> int:
        """Of the patches that count."""
        return sum(self.bytes_of(entry) for entry in self.entries.values())

    def bytes_of(self, entry: Entry) -> int:
        """How many bytes the patches of a photo take."""
        return sum(self.codec.bytes_of(h * w, self.manifest.dims) for h, w in entry.grids)

    def patches(self, key: str) -> list[PatchSet]:
        """The patches of a photo, one set a size, decoded; none where it has none.

        Raises:
            InputError: the store has no such photo.
            StoreError: they are not what was written (looked at when they are read for the first time).
        """
        from dejavlad.aggregation import patch_centres
        from dejavlad.backbones import Geometry

        entry, manifest = self._entry(key), self.manifest
        if entry is None:
            raise InputError(f"{str(self.path)!r} holds no patches of {key!r}; extract with --patches again")
        geometry = Geometry(stride=manifest.stride, offset=manifest.offset)
        at, patch_sets = entry.offset, []
        if key not in self._compared:
            self._compare(entry, self._data[at : at + self.bytes_of(entry)])
            self._compared.add(key)
        for grid, size, stride in zip(
            entry.grids, manifest.sizes, manifest.strides, strict=bool(entry.grids)
        ):
            end = at + self.codec.bytes_of(grid[0] * grid[1], manifest.dims)
            rows_PD = self.codec.decode(self._data[at:end], grid, manifest.dims)
            centres_P2 = patch_centres(grid, size, stride, geometry)
            patch_sets.append(PatchSet(rows_PD, centres_P2, grid, size, float(geometry.stride * stride)))
            at = end
        return patch_sets

    def encoded(self, entry: Entry) -> Data:
        """The patches of a photo as they lie on disk; StoreError where they are not what was written."""
        size = self.bytes_of(entry)
        data = b""
        if size:
            with open_regular(self.path / "patches.bin") as file:
                file.seek(entry.offset)
                data = file.read(size)
        self._compare(entry, data)
        return data

    def check(self) -> bool:
        """Compare the patches of all photos with their checksums.

        Returns:
            Whether all have one: those of earlier versions have none.

        Raises:
            StoreError: some are not what was written.
        """
        for entry in self.entries.values():
            self.encoded(entry)
        return all(entry.crc is not None for entry in self.entries.values())

    def _compare(self, entry: Entry, data: Data | NDArray[np.uint8]) -> None:
        if entry.crc is not None and row_checksum(data) != entry.crc:
            raise StoreError(
                f"{str(self.path)!r} is damaged: the patches of {entry.key!r} are not what was written; "
                "delete that folder and extract again"
            )

    def rows(self, keys: Sequence[str], failed: Container[str] = ()) -> StoredPatches:
        """Patches by row, for `dejavlad.Reranker`: row i is the photo ``keys[i]``; none where it failed."""
        return StoredPatches(self, keys, failed)

    def _entry(self, key: str) -> Entry | None:
        """What is there of a photo, its key in whatever Unicode form."""
        if key in self.entries:
            return self.entries[key]
        row = self._names.find(key, loosely=False)
        return None if row is None else list(self.entries.values())[row]

    @cached_property
    def _names(self) -> Names:
        return Names(self.entries)

    @cached_property
    def _data(self) -> NDArray[np.uint8]:
        path = self.path / "patches.bin"
        if not path.exists() or not path.stat().st_size:
            return np.empty(0, np.uint8)
        return np.memmap(path, np.uint8, "r")


class StoredPatches:
    """Patches by row.

    Args:
        store: where they are.
        keys: of the photo of each row.
        failed: keys of photos that could not be described, or show nothing: they have no patches.
    """

    def __init__(self, store: PatchStore, keys: Sequence[str], failed: Container[str] = ()) -> None:
        self.store, self.keys, self._failed = store, keys, failed
        self.sizes, self.strides = store.manifest.sizes, store.manifest.strides

    def __call__(self, row: int) -> list[PatchSet]:
        """The patches of a row; none where its photo failed."""
        key = self.keys[row]
        return [] if key in self._failed else self.store.patches(key)


def read_folder(path: Path) -> tuple[PatchManifest, dict[str, Entry], Codec]:
    """What a folder says of its patches; a last line that is cut off does not count.

    Raises:
        StoreError: it is damaged or of a later format.
    """
    try:
        fields = read_json_object(path / "manifest.json")
        version = check_format(fields, FORMAT, VERSION, path)
        if version < 2 and fields.get("dtype") == "int8":
            raise StoreError(
                f"the int8 patches in {str(path)!r} were written by an earlier dejavlad, more coarsely; "
                "delete that folder and extract again"
            )
        fields = without_checksum(fields)
        del fields["format"], fields["version"]
        manifest = checked_fields(PatchManifest(**fields))
        lines = read_utf8(path / "photos.jsonl").splitlines(keepends=True)
        if any(size < 1 for size in (*manifest.sizes, *manifest.strides, manifest.dims, manifest.stride)):
            raise ValueError("sizes, strides and dimensions are 1 or more")
        whole = [Entry.from_line(line) for line in lines if line.endswith("\n")]
        if any(entry.grids and len(entry.grids) != len(manifest.sizes) for entry in whole):
            raise ValueError("a line tells of patches of other sizes")
        codec = CODECS[manifest.dtype](*_centres(path, manifest))
    except DAMAGED as error:
        raise StoreError(
            f"the patches in {str(path)!r} are damaged: {error}; delete that folder and extract again"
        ) from error
    return manifest, {entry.key: entry for entry in whole}, codec


def _centres(path: Path, manifest: PatchManifest) -> list[NDArray[np.float32]]:
    """Of product quantisation: [M, 256, S], where M * S is D or more."""
    if manifest.dtype != "pq":
        return []
    centres = read_npy(path / "centres.npy")
    parts, count, width = centres.shape if centres.ndim == 3 else (0, 0, 0)
    if count != 256 or parts * width < manifest.dims or centres.dtype.kind != "f":
        raise ValueError(f"centres.npy holds {centres.dtype} {list(centres.shape)}")
    return [centres]
