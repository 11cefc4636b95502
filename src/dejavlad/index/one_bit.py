"""The index of one bit a number: signs propose, the rows themselves decide.

Legend: N rows, D dimensions, Q queries, K answers, R candidates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from dejavlad.errors import StoreError
from dejavlad.guarded.fields import DAMAGED
from dejavlad.guarded.npy_file import map_npy, read_npy
from dejavlad.index.base import WORK_BYTES, RowSource, query_chunks, save_parts
from dejavlad.index.nearest import Nearest
from dejavlad.index.scan import ScanIndex
from dejavlad.index.signs import Codes, SignCoder, candidates_of, proposed
from dejavlad.ranking import Ranking

KINDS = ("1bit",)


class OneBitIndex(ScanIndex):
    """Search by signs (a `dejavlad.index.base.Index`); rows are kept without copying, as in ``"flat"``.

    Args:
        kind: ``"1bit"``.
        dims: D.
    """

    def __init__(self, kind: str, dims: int) -> None:
        super().__init__(kind, dims)
        self._coder: SignCoder | None = None
        self._signs: list[tuple[Any, Codes]] = []

    def search(self, queries: ArrayLike | RowSource, k: int, *, allowed: ArrayLike | None = None) -> Ranking:
        """The k nearest of what the signs propose; `Index.search` tells the arguments and errors."""
        count = candidates_of(k)
        if allowed is not None or len(self) <= count:
            return super().search(queries, k, allowed=allowed)
        size = int(np.clip(WORK_BYTES // (4 * self.dims), 1, 2048))
        n, chunks = query_chunks(queries, k, self.dims, size)
        indices = np.full((n, k), -1, dtype=np.int64)
        distances = np.full((n, k), np.inf, dtype=np.float32)
        for rows, values, square in chunks:
            if not len(rows):
                continue
            places_of = [
                (segment, proposed(coder, codes, values, count, segment.alive))
                for segment, codes, coder in self._coded()
            ]
            for at, row in enumerate(rows):
                nearest = Nearest(values[at : at + 1], square[at : at + 1], k)
                for segment, places in places_of:
                    chosen = places[at][places[at] >= 0]
                    nearest.feed(
                        segment.take(chosen),
                        segment.squares[chosen],
                        segment.ids[chosen],
                        segment.alive[chosen],
                    )
                (indices[row],), (distances[row],) = nearest.result()
        return Ranking(indices, distances)

    def _coded(self) -> list[tuple[Any, Codes, SignCoder]]:
        """Segments with their codes; those that are new are coded now."""
        coder = self._coder
        if coder is None and self._segments:
            coder = self._coder = SignCoder.learn(self._segments[0].codes)
        known = {id(segment): codes for segment, codes in self._signs}
        self._signs = [
            (segment, known[id(segment)] if id(segment) in known else self._encode(segment, coder))
            for segment in self._segments
            if coder is not None
        ]
        return [(segment, codes, coder) for segment, codes in self._signs if coder is not None]

    def _encode(self, segment: Any, coder: SignCoder) -> Codes:
        codes = np.empty((len(segment.ids), coder.bytes), np.uint8)
        for part in self._chunks(len(codes)):
            codes[part] = coder.encode(segment.decode(part))
        return codes

    def save(self, folder: Path | str) -> Path:
        """Write the index to a folder, whole or not at all; `Index.save` tells the errors."""
        coded = self._coded()
        mean = np.zeros(self.dims, np.float32) if self._coder is None else self._coder.mean_D
        width = SignCoder(mean).bytes
        codes = np.concatenate([np.empty((0, width), np.uint8), *(c[s.alive] for s, c, _ in coded)])
        parts = self._save_parts() | {
            "codes.npy": lambda path: np.save(path, codes),
            "mean.npy": lambda path: np.save(path, mean),
        }
        turned = self._coder is None or self._coder.turned
        head = {"kind": self.kind, "dims": self.dims, "count": len(self), "turned": turned}
        return save_parts(folder, head, parts)

    @classmethod
    def open(cls, folder: Path, head: dict[str, Any]) -> Self:
        """The index that `save` wrote, rows and codes memory-mapped."""
        files = dict(head.get("files", {}))
        try:
            mean, codes = read_npy(folder / files.pop("mean.npy")), None
            name = files.pop("codes.npy")
            index = super().open(folder, head | {"files": files})
            if int(head["count"]):
                codes = map_npy(folder / name)
                index._coder = SignCoder(np.asarray(mean, np.float32), head.get("turned") is True)
                wanted = (len(index._segments[0].ids), index._coder.bytes)
                if mean.shape != (index.dims,) or codes.shape != wanted or codes.dtype != np.uint8:
                    raise ValueError(f"its codes are {codes.dtype} {list(codes.shape)}, not {list(wanted)}")
                index._signs = [(index._segments[0], codes)]
        except DAMAGED as error:
            raise StoreError(f"the index in {str(folder)!r} is damaged: {error}") from error
        return index
