"""One writer of a store of patches: locks it, drops what was cut off, appends photos (see `store`)."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dejavlad.extraction.patches.codec import CODECS, Codec
from dejavlad.extraction.patches.store import FORMAT, VERSION, Entry, Identity, PatchManifest, read_folder
from dejavlad.extraction.writer import COMMIT_SECONDS
from dejavlad.files import write_whole
from dejavlad.guarded.json_file import read_json_object, with_checksum
from dejavlad.names import Names
from dejavlad.patches import PatchSet
from dejavlad.storage import FolderWriter, disk_errors, write_npy
from dejavlad.storage.rows import row_checksum

WORTH_PACKING = 0.5
"""A store is written anew where less than this share of its bytes still counts."""
PACKED_DATA, PACKED_LINES = "packed.bin.partial", "packed.jsonl.partial"
COPIED = 1 << 24
"""Bytes that are copied at a time."""


class PatchWriter(FolderWriter):
    """One writer of a folder of patches; use as a context, then `put` photo by photo.

    Args:
        path: the folder, made if need be.
        manifest: what makes the patches.

    Raises:
        StoreMismatchError: the folder holds patches made otherwise.
        StoreBusyError: another process writes there.
        StoreError: the folder holds something else, is damaged, or cannot be written.
    """

    KIND = "a store of patches"
    OWN = frozenset({"manifest.json", "photos.jsonl", "patches.bin", "centres.npy"})

    def __init__(self, path: Path, manifest: PatchManifest) -> None:
        super().__init__(path)
        self.manifest = manifest
        self.entries: dict[str, Entry] = {}
        self._earlier: tuple[Names, list[Entry]] | None = None
        self.codec: Codec | None = None
        self._pending: list[Entry] = []
        self._since = 0.0
        self._data: io.BufferedRandom | None = None

    def _close(self) -> None:
        if self._data is not None:
            self._data.close()

    def learn(self, centres_MCS: NDArray[np.float32]) -> None:
        """Write from now on by product quantisation with these centres."""
        with disk_errors(self.path):
            write_npy(self.path / "centres.npy", centres_MCS)
        self.codec = CODECS["pq"](centres_MCS)

    def has(self, key: str, identity: Identity) -> bool:
        """Whether the patches of a photo are there, of the file as it is now."""
        entry = self.entries.get(key) or self._other_form(key)
        return entry is not None and entry.identity == identity

    def _other_form(self, key: str) -> Entry | None:
        """What an earlier run wrote of a photo whose key had another Unicode form."""
        if key.isascii():
            return None
        if self._earlier is None:
            self._earlier = Names(self.entries), list(self.entries.values())
        names, entries = self._earlier
        row = names.find(key, loosely=False)
        return None if row is None else entries[row]

    def put(self, key: str, identity: Identity, patches: Sequence[PatchSet], failed: str = "") -> None:
        """Write the patches of a photo, or why it has none."""
        assert self.codec is not None
        self.put_encoded(*encoded(self.codec, key, identity, patches, failed))

    def put_encoded(self, entry: Entry, data: bytes) -> None:
        """Write the patches of a photo that are encoded already; their place is the end of the file."""
        assert self._data is not None
        if not self._pending:
            self._since = time.monotonic()
        with disk_errors(self.path):
            offset = self._data.seek(0, os.SEEK_END)
            self._data.write(data)
        self._pending.append(replace(entry, offset=offset, crc=row_checksum(data)))
        if time.monotonic() - self._since >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Make all photos put so far permanent."""
        pending, self._pending = self._pending, []
        if not pending or self._data is None:
            return
        with disk_errors(self.path):
            self._data.flush()
            os.fsync(self._data.fileno())
            with open(self.path / "photos.jsonl", "ab") as file:
                file.write("".join(entry.to_line() for entry in pending).encode())
                file.flush()
                os.fsync(file.fileno())
        self.entries.update((entry.key, entry) for entry in pending)

    def _open(self) -> None:
        self._finish_packing()
        if (self.path / "manifest.json").is_file():
            head = read_json_object(self.path / "manifest.json")
            if head.get("dtype") != "pq" or (self.path / "centres.npy").is_file():
                manifest, self.entries, self.codec = read_folder(self.path)
                manifest.check(self.manifest, self.path)
            self._drop_what_was_cut_off()
        else:
            fields = {"format": FORMAT, "version": VERSION, **asdict(self.manifest)}
            write_whole(self.path / "photos.jsonl", b"")
            write_whole(
                self.path / "manifest.json", json.dumps(with_checksum(fields), separators=(",", ":")).encode()
            )
        if self.codec is None and self.manifest.dtype != "pq":
            self.codec = CODECS[self.manifest.dtype]()
        data = self.path / "patches.bin"
        self._data = open(data, "r+b" if data.exists() else "w+b")  # noqa: SIM115 (closed on exit)

    def _drop_what_was_cut_off(self) -> None:
        """Lines whose patches are not all there go, then bytes that no line tells of, then waste."""
        data = self.path / "patches.bin"
        data_bytes = data.stat().st_size if data.exists() else 0
        kept = {key: entry for key, entry in self.entries.items() if self._end(entry) <= data_bytes}
        text = "".join(entry.to_line() for entry in kept.values()).encode()
        if (self.path / "photos.jsonl").read_bytes() != text:
            write_whole(self.path / "photos.jsonl", text)
        self.entries = kept
        end = max((self._end(entry) for entry in kept.values()), default=0)
        if end < data_bytes:
            with open(data, "r+b") as file:
                file.truncate(end)
        counts = sum(self._end(entry) - entry.offset for entry in kept.values())
        if counts < WORTH_PACKING * end:
            self._pack()

    def _end(self, entry: Entry) -> int:
        if self.codec is None:
            return entry.offset
        return entry.offset + sum(self.codec.bytes_of(h * w, self.manifest.dims) for h, w in entry.grids)

    def _pack(self) -> None:
        """Write the patches that count one after the other, into files that then take the old ones' place.

        The new lines are whole before the new bytes move; `_finish_packing` ends what is cut off between.
        """
        packed: list[Entry] = []
        partial = self.path / PACKED_DATA
        with open(self.path / "patches.bin", "rb") as source, open(partial, "wb") as target:
            for entry in sorted(self.entries.values(), key=lambda entry: entry.offset):
                left = self._end(entry) - entry.offset
                packed.append(replace(entry, offset=target.tell()))
                source.seek(entry.offset)
                while left:
                    part = source.read(min(COPIED, left))
                    target.write(part)
                    left -= len(part)
            target.flush()
            os.fsync(target.fileno())
        write_whole(self.path / PACKED_LINES, "".join(entry.to_line() for entry in packed).encode())
        partial.replace(self.path / "patches.bin")
        self._finish_packing()
        self.entries = {entry.key: entry for entry in packed}

    def _finish_packing(self) -> None:
        """Bytes that have moved get their lines; otherwise nothing has happened yet."""
        lines, data = self.path / PACKED_LINES, self.path / PACKED_DATA
        if lines.exists() and not data.exists():
            lines.replace(self.path / "photos.jsonl")
        for left in (lines, data):  # in this order: lines alone mean that the bytes have moved
            left.unlink(missing_ok=True)


def encoded(
    codec: Codec, key: str, identity: Identity, patches: Sequence[PatchSet], failed: str = ""
) -> tuple[Entry, bytes]:
    """The patches of a photo as they are written, and their line, but for their place in the file."""
    data = b"".join(
        codec.encode(patch_set.descriptors.float().cpu().numpy(), patch_set.grid) for patch_set in patches
    )
    return Entry(key, identity, 0, tuple(patch_set.grid for patch_set in patches), failed), data
