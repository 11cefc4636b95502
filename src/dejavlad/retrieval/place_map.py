"""A map of places: photos, where they were taken and what they look like, in one folder.

The folder::

    MAP/map.json       what is in the map; replaced whole, and its replacement is the commit
    MAP/rows.bin       descriptors, float32 [N, D]; grows at the end; rows past map.json's count do not count
    MAP/model/         the model, with the vocabulary and whitening learnt from the first photos
    MAP/model.json     what the model was learnt from: an interrupted `build` goes on only with the same
    MAP/extracting/    descriptors of photos being added (a DescriptorStore: an interrupted run goes on)
    MAP/writer.lock    held by the one writer; readers need none

Legend: N photos of the map, K candidates, D the model's descriptor size.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import filelock
import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, StoreBusyError, StoreError, StoreMismatchError, UnknownNameError
from dejavlad.extraction import PhotoTable, describe, extract
from dejavlad.geo import Positions
from dejavlad.index import Index, build_index
from dejavlad.model import PlaceModel, load_model
from dejavlad.photo import Photo, PhotoList
from dejavlad.progress import OnProgress, silent
from dejavlad.ranking import Ranking
from dejavlad.retrieval.answer import Answer, Match
from dejavlad.retrieval.catalogue import Catalogue
from dejavlad.retrieval.confidence import PLACES, confidence, distinct_places, stand_out
from dejavlad.retrieval.info import MapInfo
from dejavlad.retrieval.learnt import learn_once
from dejavlad.retrieval.points import Checked, MapVerifier, PointSetting
from dejavlad.retrieval.preset import Preset
from dejavlad.retrieval.reranking import MapReranker
from dejavlad.retrieval.verified_confidence import (
    Evidence,
    reason,
    search_confidence,
    verified_confidence,
)

FILES = {"map.json", "map.json.partial", "rows.bin", "model", "model.json", "extracting", "writer.lock"}

SAME_PLACE = 25.0
"""Photos within so many metres show one place."""
SAME_STRETCH = 0.05
"""Photos without positions show one place within this share of the list, as frames of a drive do."""
CANDIDATES = 200
"""K: neighbours looked at for each query, more where they all show a few places."""

Floats = NDArray[np.float32]
Images = PhotoList | Sequence[Photo | Path | str | NDArray[np.uint8]]


class PlaceMap:
    """A map to locate photos in. Many readers may hold it open while one writer adds and removes.

    Open one with `build` or `open`; the constructor is for them.
    """

    def __init__(self, folder: Path, model: PlaceModel) -> None:
        self.folder, self.model = folder, model
        self.refresh()

    @classmethod
    def build(
        cls,
        model: PlaceModel | str | Path,
        photos: Images,
        out: str | Path,
        *,
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
        on_progress: OnProgress = silent,
    ) -> Self:
        """Make a map; run again after an interruption, it goes on.

        Args:
            model: a model or its name; where its vocabulary and whitening are not learnt yet, they are learnt
                from `photos` and kept with the map.
            photos: what the map holds; a photo that cannot be read is listed in `failed` and left out.
            out: the folder to make.
            batch_size: photos described at once.
            workers: threads that decode photos.
            seed: of what is learnt.
            on_progress: called with each step.

        Raises:
            InputError: no photos, or none that can be read.
            StoreMismatchError: `out` was begun from another model, other photos or another seed.
            StoreBusyError: another process is building there.
        """
        folder, photos = Path(out), PhotoList.of(photos)
        if not len(photos):
            raise InputError("a map needs at least one photo; given none")
        base = model if isinstance(model, PlaceModel) else load_model(model, seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        with _one_writer(folder):
            strange = {entry.name for entry in folder.iterdir()} - FILES
            if strange:
                raise StoreError(f"{str(folder)!r} is no map: it holds {min(strange)!r}; give another --out")
            model = learn_once(
                base, photos, folder / "model", seed=seed, workers=workers, on_progress=on_progress
            )
            place_map = cls(folder, model)
            place_map._add(photos, batch_size, workers, on_progress)
        return place_map

    @classmethod
    def open(cls, folder: str | Path, *, device: str = "auto", precision: str = "fp32") -> Self:
        """Open a map that `build` made.

        Raises:
            StoreError: there is no map, it was never finished, or it is damaged.
        """
        folder = Path(folder)
        if not (folder / "map.json").exists():
            begun = (folder / "model.json").exists()
            raise StoreError(
                f"there is no map at {str(folder)!r}: "
                + (
                    "it was never finished; run the same `dejavlad map build` again"
                    if begun
                    else "make one with `dejavlad map build MODEL PHOTOS --out MAP`"
                )
            )
        return cls(folder, load_model(folder / "model", device=device, precision=precision))

    def refresh(self) -> None:
        """See what another process has added or removed since."""
        path = self.folder / "map.json"
        size = self.model.descriptor_size
        self._catalogue = Catalogue.load(path) if path.exists() else Catalogue.empty(size)
        if self._catalogue.dims != size:
            raise StoreMismatchError(self.folder, {"dims": (self._catalogue.dims, size)})
        self._rows_ND = _map_rows(self.folder / "rows.bin", self._catalogue.n_rows, size)
        self._index: Index | None = None
        self._rerankers: dict[Preset, MapReranker] = {}
        self._verifiers: dict[PointSetting, MapVerifier] = {}
        self._places = Positions.from_list(self.photos.positions)

    def __len__(self) -> int:
        return len(self._catalogue.table)

    def __repr__(self) -> str:
        return f"PlaceMap({str(self.folder)!r}, {len(self)} photos, {self.model.name})"

    @property
    def photos(self) -> PhotoList:
        """The photos of the map, in the order in which they came."""
        return self._catalogue.table.photos

    @property
    def failed(self) -> dict[str, str]:
        """Key -> reason, of the photos that could not be described."""
        return self._catalogue.failed

    @property
    def descriptors(self) -> Floats:
        """float32 [N, D], the descriptors of `photos`; memory-mapped until photos are removed."""
        rows = self._catalogue.rows
        untouched = len(rows) == len(self._rows_ND) and bool((np.diff(rows) == 1).all())
        return self._rows_ND if untouched else self._rows_ND[rows]

    def info(self) -> MapInfo:
        """What is in the map, in figures."""
        return MapInfo.of(self.folder, self.model, self.photos, self.failed)

    def add(
        self, photos: Images, *, batch_size: int = 8, workers: int = 0, on_progress: OnProgress = silent
    ) -> int:
        """Add photos; those that are there already are skipped, those that changed since are described anew.

        Returns:
            How many photos were added or described anew.

        Raises:
            InputError: a photo of another folder has the name of one in the map.
            StoreBusyError: another process is writing there.
        """
        with _one_writer(self.folder):
            self.refresh()
            return self._add(PhotoList.of(photos), batch_size, workers, on_progress)

    def remove(self, names: Sequence[str]) -> int:
        """Take photos out of the map by their keys; the files of the photos stay where they are.

        Returns:
            How many were removed.

        Raises:
            UnknownNameError: the map has no such photo; nothing is removed.
            StoreBusyError: another process is writing there.
        """
        with _one_writer(self.folder):
            self.refresh()
            there = set(self._catalogue.table.keys) | set(self.failed)
            for name in names:
                if name not in there:
                    raise UnknownNameError("photo in the map", name, there)
            self._commit(self._catalogue.without(names))
        return len(set(names))

    def locate(
        self,
        photos: Images,
        *,
        k: int = 5,
        batch_size: int = 8,
        workers: int = 0,
        rerank: Preset | None = None,
        verify: PointSetting | None = None,
        on_progress: OnProgress = silent,
    ) -> list[Answer]:
        """Where were these photos taken?

        Args:
            photos: files or arrays; one that cannot be read gets an answer that says why.
            k: how many places to tell, at most.
            rerank: compare the nearest photos patch by patch, and tell those that match best first; how sure
                the map is does not depend on it.
            verify: compare the nearest photos by local features that agree in space: those seen from nearby
                come first (unless `rerank` orders them), and how sure the map is depends on it.
            batch_size: photos described at once.
            workers: threads that decode photos.
            on_progress: called with each step.

        Raises:
            InputError: no photos, none that can be read, k below 1, or an empty map.
        """
        photos = PhotoList.of(photos)
        rows_QD, failed = describe(
            self.model, photos, batch_size=batch_size, workers=workers, on_progress=on_progress
        )
        good = [i for i, photo in enumerate(photos) if photo.key not in failed]
        found = iter(
            self.locate_descriptors(rows_QD[good], photos.take(good), k=k, rerank=rerank, verify=verify)
        )
        return [
            next(found)
            if photo.key not in failed
            else Answer(photo.key, photo.path, (), 0.0, False, failed=failed[photo.key])
            for photo in photos
        ]

    def locate_descriptors(
        self,
        rows_QD: Floats,
        photos: PhotoList,
        *,
        k: int = 5,
        rerank: Preset | None = None,
        verify: PointSetting | None = None,
    ) -> list[Answer]:
        """As `locate`, from descriptors of `photos` that this map's model made.

        Args:
            rows_QD: float32 [Q, D], of unit length.
            photos: what they are descriptors of.
            k: how many places to tell, at most.
            rerank: as `locate` takes it.
            verify: likewise.
        """
        if k < 1:
            raise InputError(f"-k {k}: ask for at least 1 place")
        if not len(self):
            raise InputError(f"the map {str(self.folder)!r} is empty; add photos with `dejavlad map add`")
        ranking = self.search(rows_QD, k=max(k, CANDIDATES))
        reorder = None if rerank is None else self.reranker(rerank)
        check = None if verify is None else self.verifier(verify)
        return [
            self._answer(photo, row_D, ranking.indices[i], ranking.distances[i], k, reorder, check)
            for i, (photo, row_D) in enumerate(zip(photos, rows_QD, strict=True))
        ]

    def reranker(self, preset: Preset) -> MapReranker:
        """What compares photos with those of the map patch by patch; kept for the next call."""
        if preset not in self._rerankers:
            self._rerankers[preset] = MapReranker(self.model, self.photos, preset)
        return self._rerankers[preset]

    def verifier(self, setting: PointSetting) -> MapVerifier:
        """What compares photos with those of the map by local features; kept for the next call."""
        if setting not in self._verifiers:
            self._verifiers[setting] = MapVerifier(self.photos, setting.chosen())
        return self._verifiers[setting]

    def search(self, rows_QD: Floats, *, k: int) -> Ranking:
        """The k nearest photos of the map for each descriptor, as places in `photos`."""
        if self._index is None:
            self._index = build_index("flat", self.descriptors)
        return self._index.search(rows_QD, min(k, len(self)))

    def _answer(
        self,
        photo: Photo,
        row_D: Floats,
        near_K: NDArray[np.int64],
        distances_K: Floats,
        k: int,
        reorder: MapReranker | None,
        check: MapVerifier | None,
    ) -> Answer:
        while True:
            best = distinct_places(distances_K, self._same_place(near_K), self.descriptors_of(near_K))
            if len(best) == PLACES or len(near_K) == len(self):
                break
            wider = self.search(row_D[None], k=4 * len(near_K))
            near_K, distances_K = wider.indices[0], wider.distances[0]
        standing = stand_out(distances_K[best])
        sure, why, evidence = confidence(standing), "", None
        order = np.arange(len(near_K)) if reorder is None else reorder(photo, near_K)
        if check is not None:
            checked = check(photo, near_K, distances_K)
            order = checked.order if reorder is None else order
            first = int(order[0])
            if first in checked.compared:
                evidence = self._evidence(checked, first, near_K, standing, len(best))
                sure = verified_confidence(evidence)
                why = reason(evidence, self.photos[int(near_K[first])].key)
            else:
                sure = search_confidence(Evidence(standing, len(best)))
                why = "not verified: the map's photo cannot be read any more"
        matches = tuple(
            Match(
                self.photos[i].key,
                self.photos[i].path,
                float(d),
                float(1 - d * d / 2),
                self.photos[i].position,
            )
            for i, d in zip(near_K[order[:k]].tolist(), distances_K[order[:k]].tolist(), strict=True)
        )
        return Answer(
            photo.key, photo.path, matches, sure, sure >= 0.5, standing, evidence=evidence, reason=why
        )

    def _evidence(
        self, checked: Checked, first: int, near_K: NDArray[np.int64], standing: float, places: int
    ) -> Evidence:
        """What speaks for the first of the candidates."""
        found = checked.compared[first]
        other = ~self._same_place(near_K)[first]
        runner_up = max((of.inliers for at, of in checked.compared.items() if other[at]), default=0)
        return Evidence(standing, places, found.inliers, min(found.nearness.coverage), runner_up)

    def descriptors_of(self, places_K: NDArray[np.int64]) -> Floats:
        """float32 [K, D], the descriptors of some of `photos`."""
        return np.asarray(self._rows_ND[self._catalogue.rows[places_K]])

    def _same_place(self, places_K: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[K, K] whether two photos of the map are known to show one place."""
        apart_KK = self._places.take(places_K).distances()
        stretch = max(3, round(SAME_STRETCH * len(self)))
        in_sequence = np.abs(places_K[:, None] - places_K) <= stretch
        return np.where(np.isnan(apart_KK), in_sequence, apart_KK <= SAME_PLACE)

    def _add(self, photos: PhotoList, batch_size: int, workers: int, on_progress: OnProgress) -> int:
        old = self._catalogue
        now = PhotoTable.look(photos, lambda _: (0, 0))
        self._refuse_namesakes(now)
        new = np.flatnonzero(now.rows_in(old.table) < 0)
        if not len(new):
            self._commit(old)
            return 0
        extracting = self.folder / "extracting"
        store = extract(
            self.model,
            photos.take(new),
            extracting,
            batch_size=batch_size,
            workers=workers,
            on_progress=on_progress,
        )
        done = np.flatnonzero(store.done)
        rows = old.n_rows + np.arange(len(done))
        _append_rows(self.folder / "rows.bin", old.n_rows, store.rows, done)
        added = old.with_photos(store.manifest.table.take(done), rows, old.n_rows + len(done), store.failed)
        del store
        self._commit(added)
        shutil.rmtree(extracting)
        return len(done)

    def _refuse_namesakes(self, now: PhotoTable) -> None:
        there = {photo.key: photo.path for photo in self.photos}
        for photo in now.photos:
            path = there.get(photo.key)
            if photo.pixels is None and path is not None and path.absolute() != photo.path.absolute():
                raise InputError(
                    f"the map holds {photo.key!r} of {str(path.parent)!r} already; photos of another folder "
                    f"need other names: add a folder above both, or make another map"
                )

    def _commit(self, catalogue: Catalogue) -> None:
        catalogue.save(self.folder / "map.json")
        self.refresh()


@contextlib.contextmanager
def _one_writer(folder: Path) -> Iterator[None]:
    lock = filelock.FileLock(folder / "writer.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise StoreBusyError(folder) from None
    try:
        yield
    finally:
        lock.release()


def _append_rows(path: Path, n_rows: int, rows_MD: NDArray[Any], chosen: NDArray[np.int64]) -> None:
    """Write rows from row `n_rows` on, over whatever an interrupted run left there."""
    size = rows_MD.shape[1] * 4
    with open(path, "r+b" if path.exists() else "w+b") as file:
        file.seek(n_rows * size)
        for start in range(0, len(chosen), 1024):
            file.write(np.ascontiguousarray(rows_MD[chosen[start : start + 1024]], dtype="<f4").tobytes())
        file.flush()
        os.fsync(file.fileno())


def _map_rows(path: Path, n_rows: int, dims: int) -> Floats:
    if n_rows == 0:
        return np.empty((0, dims), np.float32)
    if not path.exists() or path.stat().st_size < n_rows * dims * 4:
        raise StoreError(
            f"{str(path)!r} is cut short: {n_rows} rows of {dims} are missing; build the map again"
        )
    return np.memmap(path, dtype="<f4", mode="r", shape=(n_rows, dims))
