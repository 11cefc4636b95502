"""The search index of a map: a cache beside its rows, which follows from them and can be made anew.

The folder::

    MAP/index/index.sqlite   what it is, how many rows it covers, the audit; each change is one transaction
    MAP/index/codes.bin      a code a row, in the order of ``rows.bin``; grows at the end
    MAP/index/faiss/         of ``ivf`` and ``hnsw``

Rows that it does not cover yet are looked at one by one. Where it is damaged, or of other rows or another
model, the map is searched exactly until it is made anew, by the next `build` at the latest. Photos that are
removed stay in it and are passed over. So adding and removing photos cost what changes.

Legend: N rows of the map's file, D numbers, Q queries, K answers.
"""

from __future__ import annotations

import mmap
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, MissingExtraError, StoreError, UnknownNameError
from dejavlad.index import Index, build_index, codes, open_index
from dejavlad.index.nearest import Nearest
from dejavlad.index.signs import SignCoder
from dejavlad.places.map_folder.in_memory_rows import InMemoryRows
from dejavlad.places.map_folder.snapshot import MapRows
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.ranking import Ranking
from dejavlad.storage import MappedRows, RowFile, State, discard
from dejavlad.storage.rows import CHUNKS
from dejavlad.storage.state import put_values

FOLDER = "index"
AUTO, EXACT = "auto", "exact"
FAISS_KINDS = ("ivf", "hnsw")
KINDS = (AUTO, EXACT, *codes.KINDS, *FAISS_KINDS)
"""What ``--index`` takes."""
MANY = 100_000
"""From so many rows on, auto takes one bit a number."""
GOOD = 0.99
"""Where the audit finds less recall than that, auto takes 8 bits a number, which lose nothing."""
TAIL, TAIL_SHARE = 1000, 0.1
"""`ivf` and `hnsw` are made anew when more rows than that are not in them."""
AT_ONCE = 8192
QUERIES = 1024
"""Queries that are compared with so many rows at once."""
TOUCHED = 4096
"""Rows read here and there until their pages are given back; each may bring some neighbours along."""
AUDITED, SEED, DEPTH = 200, 0, 10
AGAIN = "run `dejavlad map build` again, which makes the index anew"
MAKING = "indexing"

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class IndexHead:
    """What the index is."""

    wanted: str
    """What was asked for."""
    kind: str
    """What it is."""
    dims: int
    fingerprint: str
    """Of the model."""
    rows: int = 0
    """Rows that it covers."""
    seal: int = 0
    """Checksum of the first and the last of them."""
    generation: int = 0
    """How often the rows had been numbered anew, see `MappedRows`."""
    error: float = 0.0
    """How far a row lies from what its code says, at most."""
    mean: list[float] = field(default_factory=list)
    """Of ``1bit``: what is subtracted."""
    turned: bool = False
    """Of ``1bit``: whether descriptors are turned first; older ones are made anew by the next build."""
    audit: dict[str, Any] = field(default_factory=dict)
    """Recall, see `audit`."""
    refused: bool = False
    """Whether the audit was below what was asked for; then it is not used."""


class MapIndex:
    """Makes and reads the index of one map; changes are made under the map's lock.

    Args:
        map_folder: the map.
        dims: D.
        fingerprint: of the map's model.
    """

    def __init__(self, map_folder: Path, dims: int, fingerprint: str) -> None:
        self.folder, self.dims, self.fingerprint = map_folder / FOLDER, dims, fingerprint
        self.state = State(self.folder / "index.sqlite", "dejavlad-map-index", 1, (CHUNKS,), AGAIN)

    def head(self) -> IndexHead | None:
        """What there is; None where there is nothing that can be used."""
        if not self.state.exists():
            return None
        with suppress(StoreError, TypeError), self.state.reading() as connection:
            head = IndexHead(**self.state.value(connection, "index"))
            if (head.dims, head.fingerprint) == (self.dims, self.fingerprint) and head.kind in KINDS:
                return head
        return None

    def follow(
        self,
        rows: MappedRows,
        alive: Ids,
        wanted: str | None,
        on_progress: OnProgress = silent,
        *,
        check: bool = False,
        least: float = 0.0,
        audited: bool = True,
    ) -> IndexHead | None:
        """Bring it up to the map's rows, and ask it where it is new; None where none is needed.

        Args:
            rows: the map's rows.
            alive: the rows of its photos.
            wanted: one of `KINDS`; None as it was, else auto.
            on_progress: told of rows.
            check: compare all of it with its checksums, and make it anew where it is damaged; else only its
                size is looked at, so that adding a photo costs the same however many there are.
            least: recall below which auto takes another kind, beside `GOOD`.
            audited: ask a new index what it loses; what is exact by its bounds (int8) need not be.

        Raises:
            UnknownNameError: no such kind.
            MissingExtraError: faiss is needed.
        """
        if wanted is not None and wanted not in KINDS:
            raise UnknownNameError("index", wanted, KINDS)
        head = self.head()
        if wanted is None and head is None and len(alive) < MANY:
            discard(self.folder)  # what cannot be used, and is not needed
            return None
        kind_wanted = wanted or (AUTO if head is None else head.wanted)
        kind = kind_wanted
        if kind_wanted == AUTO:
            kind = EXACT if len(alive) < MANY else "1bit"
            if head is not None and head.wanted == AUTO and kind == "1bit" and head.kind != EXACT:
                kind = head.kind
        new = head is None or head.kind != kind or not self.fits(head, rows) or not self._whole(head, check)
        if new or head is None:
            head = self._begin(kind_wanted, kind, rows)
        elif head.wanted != kind_wanted:
            head = replace(head, wanted=kind_wanted)
            self._put(head)
        head = self._grow(head, rows, alive, on_progress)
        again = head.refused and (wanted is not None or least > 0)
        if audited and (new or not head.audit or again):  # also one that was cut off
            head = replace(head, audit=audit(self, head, rows, alive), refused=False)
            self._put(head)
        loses = head.audit.get("recall@1", 1.0) < max(GOOD, least)
        if kind_wanted == AUTO and kind == "1bit" and loses and (new or least > 0):
            head = self._grow(self._begin(kind_wanted, "int8", rows), rows, alive, on_progress)
            head = replace(head, audit=audit(self, head, rows, alive))
            self._put(head)
        return head

    def refuse(self, head: IndexHead) -> None:
        """Leave it unused: the map is searched exactly."""
        self._put(replace(head, refused=True))

    def fits(self, head: IndexHead, rows: MappedRows) -> bool:
        """Whether it is of these rows."""
        return (
            head.generation == rows.generation
            and head.rows <= len(rows.rows_ND)
            and head.seal == _seal(rows, head.rows)
        )

    def _whole(self, head: IndexHead, check: bool) -> bool:
        try:
            if head.kind in FAISS_KINDS:
                if check or not (self.folder / "faiss" / "index.json").exists():
                    self.graph(head)
            elif head.kind in codes.KINDS:
                if check:
                    self.codes(head)
                    if head.kind == "1bit" and not head.turned:
                        return False
                self.file(self.coder(head)).map(head.rows)
        except StoreError:
            return False
        return True

    def coder(self, head: IndexHead) -> codes.Coder:
        """What made the codes."""
        mean = np.array(head.mean or np.zeros(self.dims), np.float32)
        return codes.Coder(head.kind, self.dims, SignCoder(mean, head.turned))

    def file(self, coder: codes.Coder) -> RowFile:
        """Where they lie."""
        return RowFile(self.folder / "codes.bin", coder.bytes, AGAIN, "u1")

    def codes(self, head: IndexHead) -> NDArray[np.uint8]:
        """uint8 [rows, W], memory-mapped and compared with their checksums.

        Raises:
            StoreError: they are damaged.
        """
        file = self.file(self.coder(head))
        with self.state.reading() as connection:
            chunks = file.chunks(connection)
        return MappedRows(file, head.rows, chunks).all()

    def graph(self, head: IndexHead) -> Index:
        """The faiss index.

        Raises:
            StoreError: it is damaged, or not the one that the head tells of.
        """
        index = open_index(self.folder / "faiss")
        ids = index.ids
        if index.kind != head.kind or index.dims != self.dims or (len(ids) and ids.max() >= head.rows):
            raise StoreError(f"the index in {str(self.folder)!r} is of another state of the map; {AGAIN}")
        return index

    def _begin(self, wanted: str, kind: str, rows: MappedRows) -> IndexHead:
        discard(self.folder)
        self.folder.mkdir(parents=True)
        coder = codes.Coder.learn(kind, rows.rows_ND) if kind in codes.KINDS else None
        mean = coder.signs.mean_D.tolist() if coder is not None and kind == "1bit" else []
        head = IndexHead(wanted, kind, self.dims, self.fingerprint, generation=rows.generation)
        head = replace(head, mean=mean, turned=bool(mean))
        self.state.create(lambda connection: put_values(connection, {"index": asdict(head)}))
        return head

    def _grow(self, head: IndexHead, rows: MappedRows, alive: Ids, on_progress: OnProgress) -> IndexHead:
        count = len(rows.rows_ND)
        if head.kind in FAISS_KINDS:
            if count - head.rows <= (max(TAIL, TAIL_SHARE * head.rows) if head.rows else 0):
                return head
            on_progress(Progress(MAKING, 0, count))
            index = build_index(head.kind, np.empty((0, self.dims), np.float32))
            index.add(rows.take(alive), alive)
            index.save(self.folder / "faiss")
            on_progress(Progress(MAKING, count, count))
            head = replace(head, rows=count, seal=_seal(rows, count))
            self._put(head)
            return head
        if head.kind not in codes.KINDS or count == head.rows:
            return head
        coder = self.coder(head)
        file, error = self.file(coder), head.error
        for first in range(head.rows, count, AT_ONCE):
            last = min(first + AT_ONCE, count)
            made, off = coder.encode(rows.take(np.arange(first, last)))
            error = max(error, off)
            file.append(first, made, np.arange(last - first))
            on_progress(Progress(MAKING, last, count))
        start = head.rows
        head = replace(head, rows=count, seal=_seal(rows, count), error=error)
        self._put(head, lambda connection: file.note(connection, start, count))
        return head

    def _put(self, head: IndexHead, change: Callable[[sqlite3.Connection], None] | None = None) -> None:
        with self.state.writing() as connection:
            if change is not None:
                change(connection)
            put_values(connection, {"index": asdict(head)})


class MapSearch:
    """Searches the rows of a map as of one moment.

    Args:
        index: the map's index; None where it has none.
        head: what it is; None searches exactly.
        rows: the map's rows.
        alive: the rows of its photos, ascending.
    """

    def __init__(self, index: MapIndex | None, head: IndexHead | None, rows: MapRows, alive: Ids) -> None:
        self.rows, self.alive, self.kind = rows, alive, EXACT
        self._flat: Index | None = None
        self._covered = self._touched = 0
        self._tail = alive[:0]
        self._mask = np.zeros(len(rows), np.bool_)
        self._mask[alive] = True
        self._codes: NDArray[np.uint8] | None = None
        self._graph: Index | None = None
        if index is None or head is None or not isinstance(rows, MappedRows):
            return
        if head.refused or head.kind == EXACT or not index.fits(head, rows):
            return
        with suppress(StoreError, MissingExtraError):
            if head.kind in FAISS_KINDS:
                self._graph = index.graph(head)
                gone = self._graph.ids
                self._graph.remove(gone[~self._mask[gone]])
            else:
                self._coder, self._error = index.coder(head), head.error
                self._codes = index.codes(head)
            self.kind, self._covered = head.kind, head.rows
            self._tail = alive[np.searchsorted(alive, head.rows) :]

    def __call__(self, queries_QD: Floats, k: int, allowed: Ids | None = None) -> Ranking:
        """The k nearest rows of the map's file for each query.

        Args:
            queries_QD: float32.
            k: K.
            allowed: the rows that may be answers, ascending; these are all looked at.
        """
        if allowed is not None:
            return self.exactly(queries_QD, k, allowed)
        if self._covered == 0:
            if self._flat is None:
                self._flat = build_index("flat", InMemoryRows(self.rows.all(), self._mask))
            return self._flat.search(queries_QD, k)
        try:
            return self._coarsely(queries_QD, k)
        finally:
            _let_go(self.rows)

    def exactly(self, queries_QD: Floats, k: int, allowed: Ids) -> Ranking:
        """The nearest of some rows, all of which are looked at."""
        seen = np.flatnonzero(queries_QD.any(axis=1))
        indices, distances = _nothing(len(queries_QD), k)
        for start in range(0, len(seen), QUERIES):
            good = seen[start : start + QUERIES]
            values = np.ascontiguousarray(queries_QD[good])
            nearest = Nearest(values, np.einsum("bd,bd->b", values, values), k)
            for first in range(0, len(allowed), AT_ONCE):
                ids = allowed[first : first + AT_ONCE]
                rows = self._take(ids)
                nearest.feed(rows, np.einsum("nd,nd->n", rows, rows), ids, np.asarray(rows.any(axis=1)))
            indices[good], distances[good] = nearest.result()
        return Ranking(indices, distances)

    def _take(self, rows: Ids) -> Floats:
        taken = np.asarray(self.rows.take(rows), np.float32)
        self._touched += len(rows)
        if self._touched > TOUCHED:
            _let_go(self.rows)
            self._touched = 0
        return taken

    def _coarsely(self, queries_QD: Floats, k: int) -> Ranking:
        covered, good = self._covered, np.flatnonzero(queries_QD.any(axis=1))
        if self._graph is not None:
            ranking = self._graph.search(queries_QD, k)
        else:
            assert self._codes is not None
            indices, distances = _nothing(len(queries_QD), k)
            values = np.ascontiguousarray(queries_QD[good])
            if len(good):
                indices[good], distances[good] = self._coder.search(
                    self._codes, values, k, self._mask[:covered], self._take, self._error
                )
            ranking = Ranking(indices, distances)
        tail = self._tail
        return ranking if not len(tail) else _joined(ranking, self.exactly(queries_QD, k, tail), k)


def audit(index: MapIndex, head: IndexHead, rows: MappedRows, alive: Ids) -> dict[str, Any]:
    """What an index loses: photos of the map asked for their nearest others, exactly and through the index.

    Returns:
        ``rows`` asked; ``recall@1`` and ``recall@10`` without a filter, and ``filtered`` (recall@10) with one
        that leaves a tenth of the rows.
    """
    rng = np.random.default_rng(SEED)
    if len(alive) < 2:
        return {}
    chosen = np.sort(rng.choice(alive, min(AUDITED, len(alive)), replace=False))
    sample = np.sort(rng.choice(alive, max(1, len(alive) // 10), replace=False))
    through = MapSearch(index, head, rows, alive)
    if head.kind != EXACT and through.kind == EXACT:
        raise StoreError(f"the index in {str(index.folder)!r} cannot be read back; {AGAIN}")
    queries = np.asarray(rows.take(chosen), np.float32)
    depth = min(DEPTH + 1, len(alive))
    exact = through.exactly(queries, depth, alive)
    seen = through(queries, depth)
    filtered_exact = through.exactly(queries, min(DEPTH, len(sample)), sample)
    filtered = through(queries, min(DEPTH, len(sample)), sample)
    return {
        "rows": len(chosen),
        "recall@1": _share(seen, exact, chosen, 1),
        f"recall@{DEPTH}": _share(seen, exact, chosen, depth - 1),
        "filtered": _share(filtered, filtered_exact, None, filtered.depth),
    }


def refusal(head: IndexHead, least: float, folder: Path) -> InputError | None:
    """What to say where the audit is below `least`."""
    recall = min(head.audit.get("recall@1", 1.0), head.audit.get("filtered", 1.0))
    if recall >= least:
        return None
    return InputError(
        f"index {head.kind}: recall {recall:.3f} of {head.audit['rows']} rows, below --min-recall {least:g}; "
        f"the map {str(folder)!r} is whole and searched exactly; build it again with --index int8 or exact, "
        f"or a lower --min-recall"
    )


def _share(ranking: Ranking, exact: Ranking, own: Ids | None, depth: int) -> float:
    """Share of the nearest that are among the answers, each query's own row left out; ties count."""
    hits = total = 0
    for query in range(exact.n_queries):
        right, near = exact.indices[query], ranking.indices[query]
        if own is not None:
            right, near = right[right != own[query]], near[near != own[query]]
        right, near = right[:depth], near[:depth]
        total += int((right >= 0).sum())
        hits += len(np.intersect1d(right[right >= 0], near))
    return hits / total if total else 1.0


def _joined(one_part: Ranking, other: Ranking, k: int) -> Ranking:
    indices = np.concatenate([one_part.indices, other.indices], axis=1)
    distances = np.concatenate([one_part.distances, other.distances], axis=1)
    order = np.lexsort((np.where(indices < 0, np.iinfo(np.int64).max, indices), distances), axis=1)[:, :k]
    return Ranking(np.take_along_axis(indices, order, axis=1), np.take_along_axis(distances, order, axis=1))


def _nothing(n: int, k: int) -> tuple[Ids, Floats]:
    return np.full((n, k), -1, np.int64), np.full((n, k), np.inf, np.float32)


def _seal(rows: MappedRows, count: int) -> int:
    if not count:
        return 0
    ends = np.ascontiguousarray(rows.rows_ND[[0, count - 1]])
    return zlib.crc32(ends.tobytes())


def _let_go(rows: MapRows) -> None:
    """Rows that were looked at need not stay in this process's memory; the system keeps what it can."""
    mapped = getattr(rows.rows_ND, "_mmap", None) if isinstance(rows, MappedRows) else None
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        with suppress(OSError, ValueError):
            mapped.madvise(mmap.MADV_DONTNEED)
