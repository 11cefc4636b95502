"""A whole ranking re-ranked, query by query: resumable, and within a time limit where one is given.

What is finished is kept in a folder::

    KEEP/setting.json   what is re-ranked, and how; of anything else it begins anew
    KEEP/scores.npy     float32 [Q, C] fused scores of the candidates; NaN where there are none (yet)
    KEEP/seconds.npy    float32 [Q] what each query took; NaN where it is not done

Legend: Q queries, K depth of the ranking, C candidates that are compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, PhotoError
from dejavlad.extraction.patches import Cached, FreshPatches
from dejavlad.files import naming, write_whole
from dejavlad.fitting import learn_patch_whitening
from dejavlad.guarded.npy_file import map_npy
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.model import PlaceModel
from dejavlad.patches import PatchSet
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.preset import Preset
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.ranking import Ranking
from dejavlad.rerank import PatchMatch
from dejavlad.rerank.reranker import RERANKING

Source = Callable[[int], Sequence[PatchSet]]
Described = TypeVar("Described", bound=Sized)
"""What a photo is compared by: its patches, or its local features; empty where it has none."""


Compared = TypeVar("Compared", bound=Sized, contravariant=True)


class CandidateReranker(Protocol[Compared]):
    """What scores the first candidates of a query: `Reranker` by patches, `PointReranker` by points."""

    k: int
    """How many of them it compares."""

    def scores(
        self,
        query: Compared,
        candidates: Sequence[Compared],
        distances_C: NDArray[np.floating[Any]] | None = None,
    ) -> NDArray[np.float64]:
        """Scores [C], smaller being better; the distances are those of the first ranking."""
        ...


@dataclass(frozen=True, slots=True)
class Reranked:
    """A ranking re-ranked, and how that went."""

    first: Ranking
    """The ranking before."""
    scores: NDArray[np.float32]
    """[Q, C] fused scores in the order of `first`, smaller being better; NaN where not compared."""
    seconds: NDArray[np.float32]
    """[Q] what each query took; NaN where it was left as it was."""
    order: NDArray[np.int64]
    """Queries in the order in which they were re-ranked: the least sure first."""

    @property
    def ranking(self) -> Ranking:
        """The ranking after."""
        return self.after(len(self.order))

    @property
    def done(self) -> NDArray[np.bool_]:
        """[Q] which queries were re-ranked."""
        return ~np.isnan(self.seconds)

    @property
    def spent(self) -> float:
        """Seconds that all of it took."""
        return float(np.nansum(self.seconds))

    @staticmethod
    def forget(keep: Path) -> None:
        """Take away what was kept of a ranking that is whole and written."""
        for name in ("setting.json", "scores.npy", "seconds.npy"):
            (keep / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else lies there
            keep.rmdir()

    def after(self, queries: int) -> Ranking:
        """The ranking with only so many queries re-ranked, the least sure ones."""
        indices, distances = self.first.indices.copy(), self.first.distances.copy()
        for q in self.order[:queries].tolist():
            if np.isnan(self.seconds[q]):
                continue
            compared_C = ~np.isnan(self.scores[q])
            rows_C = np.flatnonzero(compared_C)
            rows_C = rows_C[np.argsort(self.scores[q, rows_C], kind="stable")]
            rest = np.setdiff1d(np.arange(self.first.depth), rows_C)  # ascending: as they were
            indices[q] = self.first.indices[q, np.concatenate([rows_C, rest])]
            distances[q, : len(rows_C)] = self.scores[q, rows_C]
            behind = self.first.distances[q, rest]
            if len(rows_C) and len(rest):  # they go on from there, as far apart as they were
                last = min(behind[0], self.first.distances[q, rows_C.max()])
                behind = behind - last + self.scores[q, rows_C[-1]]
            distances[q, len(rows_C) :] = behind
        return Ranking(indices, distances)

    def milliseconds(self, queries: int) -> float:
        """What that takes, as a mean over all queries."""
        spent = self.seconds[self.order[:queries]]
        return float(np.nansum(spent) / max(1, len(self.seconds)) * 1000)


def rerank_all(
    reranker: CandidateReranker[Described],
    ranking: Ranking,
    queries: Callable[[int], Described],
    database: Callable[[int], Described],
    *,
    keep: Path | None = None,
    setting: Mapping[str, Any] | None = None,
    budget_ms: float | None = None,
    on_progress: OnProgress = silent,
) -> Reranked:
    """Re-rank the first candidates of all queries, the least sure queries first.

    Args:
        reranker: how; its ``k`` says how many candidates are compared.
        ranking: rows of the database for each query.
        queries: patches, or local features, of the query by its row; where it has none it stays as it was.
        database: the same by row; candidates without any stand behind those that were compared.
        keep: a folder for what is finished, so that an interrupted run goes on.
        setting: all that decides the scores besides the ranking; kept with them.
        budget_ms: milliseconds a query, as a mean over all; queries whose first ranking is surer are left
            as they were once it is spent.
        on_progress: told of each query.

    Raises:
        InputError: patches that do not fit each other, or a budget that is none.
    """
    if budget_ms is not None and not budget_ms > 0:
        raise InputError(f"--budget {budget_ms:g}: give milliseconds a query above 0")
    count = min(reranker.k, ranking.depth)
    order = least_sure_first(ranking)
    budget = np.inf if budget_ms is None else budget_ms / 1000 * ranking.n_queries
    note_text = _note_text(ranking, setting or {})
    with _kept(keep, note_text, (ranking.n_queries, count)) as (scores_QC, seconds_Q):
        earlier = int((~np.isnan(seconds_Q)).sum())
        done, spent = earlier, float(np.nansum(seconds_Q))
        on_progress(Progress(RERANKING, done, ranking.n_queries, earlier))
        for q in order.tolist():
            if spent >= budget:
                break
            if np.isnan(seconds_Q[q]):
                began = time.perf_counter()
                if (ranking.indices[q, :count] >= 0).any():  # else it has no descriptor, nor patches
                    first = ranking.indices[q, :count], ranking.distances[q, :count]
                    _rerank_one(reranker, *first, _described(queries, q), database, scores_QC[q])
                seconds_Q[q] = time.perf_counter() - began
                spent += float(seconds_Q[q])
                done += 1
                on_progress(Progress(RERANKING, done, ranking.n_queries, earlier))
        return Reranked(ranking, np.array(scores_QC), np.array(seconds_Q), order)


class MapReranker:
    """Photos of a map in the order of how well their patches match a photo; patches are made when needed.

    Args:
        model: the map's model; without any whitening it learns one for patches, from the map's photos.
        photos: the map's photos.
        preset: how.

    Raises:
        InputError: the model makes no such patches.
    """

    def __init__(self, model: PlaceModel, photos: PhotoList, preset: Preset) -> None:
        if model.whitening is None and model.patch_whitening is None:
            model = learn_patch_whitening(model, photos, preset.patches)
        self.model, self.setting = model, preset.patches_of(model)
        self.reranker, self.depth = preset.reranker(), preset.depth
        self._database = Cached(FreshPatches(model, photos, self.setting))

    def __call__(self, photo: Photo, rows_K: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in `rows_K` in their new order: the first ``depth`` compared, those behind as they were.

        Photos that cannot be read any more, or are too small for a patch, stand behind those compared.
        """
        first = _patches(FreshPatches(self.model, PhotoList([photo]), self.setting), 0)
        compared = {at: self._patches(int(row)) for at, row in enumerate(rows_K[: self.depth])}
        with_patches = [at for at, patches in compared.items() if patches]
        if not first or not with_patches:
            return np.arange(len(rows_K))
        fused = self.reranker.scores(first, [compared[at] for at in with_patches])
        best = np.array(with_patches)[np.argsort(fused, kind="stable")]
        return np.concatenate([best, np.setdiff1d(np.arange(len(rows_K)), best)])

    def compare(self, photo: Photo, row: int) -> tuple[Sequence[PatchSet], list[PatchMatch]]:
        """The photo's patches, and how they match those of one of the map; no matches without patches."""
        first = _patches(FreshPatches(self.model, PhotoList([photo]), self.setting), 0)
        patches = self._patches(row)
        return first, self.reranker.match(first, [patches])[0] if first and patches else []

    def _patches(self, row: int) -> Sequence[PatchSet]:
        return _patches(self._database, row)


def least_sure_first(ranking: Ranking) -> NDArray[np.int64]:
    """Queries, those first whose best candidate stands out least from the middle of its candidates."""
    distances_QK = np.where(ranking.indices >= 0, ranking.distances, np.nan).astype(np.float64)
    sure_Q = np.zeros(len(distances_QK))
    for q, distances_K in enumerate(distances_QK):
        known = distances_K[~np.isnan(distances_K)]
        if len(known) and np.median(known) > 0:
            sure_Q[q] = 1 - known[0] / np.median(known)
    return np.argsort(sure_Q, kind="stable")


def _rerank_one(
    reranker: CandidateReranker[Described],
    rows_C: NDArray[np.int64],
    distances_C: NDArray[np.float32],
    query: Described | None,
    database: Callable[[int], Described],
    scores_C: NDArray[np.float32],
) -> None:
    """Fill in a query's scores."""
    if query is None:
        return
    every = {at: _described(database, int(row)) for at, row in enumerate(rows_C) if row >= 0}
    candidates = {at: candidate for at, candidate in every.items() if candidate is not None}
    if candidates:
        compared = list(candidates)
        scores_C[compared] = reranker.scores(query, list(candidates.values()), distances_C[compared])


def _described(source: Callable[[int], Described], row: int) -> Described | None:
    """What a photo is compared by; None where it has nothing, or cannot be read (any more)."""
    try:
        description = source(row)
    except PhotoError:
        return None
    return description if len(description) else None


def _patches(source: Source, row: int) -> Sequence[PatchSet]:
    """Patches of a photo; none where it cannot be read (any more)."""
    try:
        return source(row)
    except PhotoError:
        return []


def _note_text(ranking: Ranking, setting: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(ranking.indices.tobytes()).hexdigest()
    return json.dumps({"ranking": digest, **setting}, sort_keys=True)


@contextlib.contextmanager
def _kept(
    keep: Path | None, text: str, shape: tuple[int, int]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Scores [Q, C] and seconds [Q] that outlast this run, where there is a folder for them."""
    if keep is None:
        yield np.full(shape, np.nan, np.float32), np.full(shape[0], np.nan, np.float32)
        return
    keep.mkdir(parents=True, exist_ok=True)
    files = {"scores.npy": shape, "seconds.npy": shape[:1]}
    note = keep / "setting.json"
    if not _same(note, text, files):
        note.unlink(missing_ok=True)
        for name, size in files.items():
            with naming(keep / name), open(keep / name, "wb") as file:
                np.save(file, np.full(size, np.nan, np.float32))
        write_whole(note, text.encode())
    scores, seconds = (map_npy(keep / name, "r+") for name in files)
    try:
        yield scores, seconds
    finally:
        for array in (scores, seconds):
            if isinstance(array, np.memmap):
                array.flush()
        del array, scores, seconds


def _same(note: Path, text: str, files: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether what an earlier run kept is of this setting, and whole."""
    try:
        arrays = [map_npy(note.with_name(name)) for name in files]
        return read_utf8(note) == text and all(
            array.shape == shape and array.dtype == np.float32
            for array, shape in zip(arrays, files.values(), strict=True)
        )
    except (OSError, ValueError):
        return False
