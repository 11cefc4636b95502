"""A map of places: photos, where they were taken and what they look like, in one folder.

The folder::

    MAP/map.sqlite     what is in the map; each change is one transaction, and that is the commit
    MAP/rows.bin       descriptors, float32 [N, D]; grows at the end; rows past the state's count do not count
                       (``rows.2.bin`` by turns, when it was written anew without rows of removed photos)
    MAP/model/         the model, with the vocabulary and whitening learnt from the first photos
    MAP/model.json     what the model was learnt from: an interrupted `build` goes on only with the same
    MAP/extracting/    descriptors of photos being added (a DescriptorStore: an interrupted run goes on)
    MAP/index/         a search index that follows from the rows (see `map_index`), where there are many
    MAP/local.sqlite   local features of the photos, where the map keeps them (see `map_features`)
    MAP/extracting.shards/  the same in shards, while several machines describe them (see `map_rows`)
    MAP/photos/        photos that were added over HTTP (`dejavlad serve --writable`), if any
    MAP/writer.lock    held by the one writer; readers need none

Opening reads a few numbers; photos, positions and rows are read when they are asked for, and compared with
their checksums. What a change costs does not grow with the map. (``map.json`` is that of format 1.)

Legend: N photos of the map, K candidates, D the model's descriptor size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import (
    InputError,
    PhotoError,
    StoreError,
    StoreMismatchError,
    UnknownNameError,
)
from dejavlad.export.runtimes import TORCH
from dejavlad.extraction import DescriptorStore, PhotoTable, at_unit_length, describe
from dejavlad.extraction.merge import drop_shares
from dejavlad.failures import NO_DESCRIPTOR
from dejavlad.local import AUTO, best_kind, describe_local
from dejavlad.local_features import LocalFeatures
from dejavlad.model import PlaceModel
from dejavlad.names import Names, same_form, unicode_variants
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.address import is_address
from dejavlad.places.answer import (
    Answer,
    Match,
)
from dejavlad.places.confidence import (
    PLACES,
    distinct_places,
    same_place,
    stand_out,
)
from dejavlad.places.database_map import MADE, DatabaseFeatures, DatabaseMap
from dejavlad.places.database_rows import DatabaseRows
from dejavlad.places.filters import Allowed, Facts, Filter, Heading, Moment, Near
from dejavlad.places.fitted_model import fit_cached
from dejavlad.places.info import MapInfo
from dejavlad.places.located_position import located_position
from dejavlad.places.map_features import FILE as LOCAL
from dejavlad.places.map_features import MapFeatures
from dejavlad.places.map_index import FOLDER as INDEX
from dejavlad.places.map_index import KINDS as INDEXES
from dejavlad.places.map_index import IndexHead, MapIndex, MapSearch, refusal
from dejavlad.places.map_rows import SHARES, STAGING, RowOptions, refuse_batch_dependent, rows_of
from dejavlad.places.map_state import (
    DEAD_BYTES,
    DEAD_SHARE,
    OLD_STATE,
    ROW_FILES,
    STATE,
    MapSnapshot,
    MapState,
    Moved,
    is_map,
    records_of,
)
from dejavlad.places.points import (
    MapVerifier,
    PointSetting,
)
from dejavlad.places.preset import Preset
from dejavlad.places.reranking import MapReranker
from dejavlad.places.row_copy import FOLDER as COPY
from dejavlad.places.verified_confidence import (
    KNOWN,
    Evidence,
    reason,
    search_confidence,
    verified_confidence,
)
from dejavlad.progress import OnProgress, silent
from dejavlad.ranking import Ranking
from dejavlad.storage import MappedRows, PhotoRecord, discard, one_writer, refuse_others
from dejavlad.zoo import (
    default_model,
    load_model,
)

FILES = {
    OLD_STATE,
    *ROW_FILES,
    INDEX,
    COPY,
    MADE,
    "model",
    "model.json",
    STAGING,
    *SHARES,
    "writer.lock",
    "photos",
}
FILES |= {f"{OLD_STATE}.partial", "model.json.partial", ".model.partial", ".model.before"}
FILES |= {
    state + ending for state in (STATE, LOCAL) for ending in ("", "-journal", ".partial", ".partial-journal")
}

CANDIDATES = 200
"""K: neighbours looked at for each query, more where they all show a few places."""
FEATURES_AT_ONCE = 64
"""Photos whose local features are written together."""
FROM_ARRAY = "it was given as an array, whose pixels the map does not keep"

Floats = NDArray[np.float32]
Images = PhotoList | Sequence[Photo | Path | str | NDArray[np.uint8]]


class PlaceMap:
    """A map to locate photos in. Many readers may hold it open while one writer adds and removes.

    Open one with `build` or `open`; the constructor is for them.
    """

    def __init__(self, folder: Path, model: PlaceModel, database: DatabaseMap | None = None) -> None:
        self.folder, self.model = folder, model
        self.address = str(folder) if database is None else str(database.address)
        """The folder, or where its database is."""
        self.features: MapFeatures | DatabaseFeatures
        """The local features that the map keeps, if any."""
        self.features = MapFeatures(folder) if database is None else database.features
        self.updated = 0
        """Photos whose position, heading, time, group or tags the last `build` or `add` corrected."""
        self.index = None if database else MapIndex(folder, model.descriptor_size, model.fingerprint)
        """The search index of a map in a folder."""
        self._state = database or MapState(folder, model.descriptor_size)
        self.refresh()

    @classmethod
    def build(
        cls,
        model: PlaceModel | str | Path | None,
        photos: Images,
        out: str | Path,
        *,
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
        local: PointSetting | str | None = None,
        descriptors: DescriptorStore | None = None,
        ray: str | None = None,
        index: str | None = None,
        min_recall: float | None = None,
        on_progress: OnProgress = silent,
    ) -> Self:
        """Make a map; run again after an interruption, it goes on.

        Run again over a finished map, positions, headings, times, groups and tags follow `photos`; no photo
        that is the same file as before is described anew.

        Args:
            model: a model or its name; where its vocabulary and whitening are not learnt yet, they are learnt
                from `photos` and kept with the map. None takes `dejavlad.model.default_model`.
            photos: what the map holds; a photo that cannot be read, or shows nothing, is listed in `failed`
                and left out.
            out: the folder to make, or the address of a database (`dejavlad.places.address`).
            batch_size: photos described at once.
            workers: threads that decode photos.
            seed: of what is learnt.
            local: keep local features of the photos, by this setting or kind (``"auto"``: the best that is
                installed), so that `locate` need not read the photos again. None keeps none, unless the map
                does already.
            descriptors: a store of `model` that describes `photos` already; what it lacks, and what has
                changed since, is described.
            ray: describe on the machines of a Ray cluster, as `dejavlad.extract` does.
            index: how the map is searched: ``"exact"``, ``"float16"``, ``"int8"``, ``"1bit"``, ``"ivf"``,
                ``"hnsw"`` or ``"auto"`` (by the number of photos); None leaves it as it is, auto at first.
            min_recall: refuse an index whose audit finds less: the map is then whole and searched exactly.
            on_progress: called with each step.

        Raises:
            InputError: no photos, none that can be read, a model that is batch-dependent (see
                `PlaceModel.together`), or an index below `min_recall`.
            UnknownNameError: no such index.
            StoreMismatchError: `out` was begun from another model, other photos or another seed.
            StoreBusyError: another process is building there.
        """
        database = DatabaseMap(str(out)) if is_address(out) else None
        folder, photos = Path(out) if database is None else database.work, PhotoList.of(photos)
        if not len(photos):
            raise InputError("a map needs at least one photo; given none")
        points = PointSetting.parse(local)
        if database is not None and (index is not None or min_recall is not None):
            raise InputError(
                "the rows of a map in a database are compared exactly; --index and --min-recall are for maps "
                "in a folder"
            )
        if index is not None and index not in INDEXES:
            raise UnknownNameError("index", index, INDEXES)
        if min_recall is not None and not 0 <= min_recall <= 1:
            raise InputError(f"--min-recall {min_recall:g}: give a share of 0 to 1")
        model = default_model()[0] if model is None else model
        base = model if isinstance(model, PlaceModel) else load_model(model, seed=seed)
        refuse_batch_dependent(base)
        rows = RowOptions(batch_size, workers, ray, descriptors)
        exists = database is not None and database.prepare()
        folder.mkdir(parents=True, exist_ok=True)
        with one_writer(folder), nullcontext() if database is None else database.named():
            refuse_others(folder, FILES, "a map")
            model = fit_cached(
                base, photos, folder / "model", seed=seed, workers=workers, on_progress=on_progress
            )
            model.together = base.together
            if database is not None and not exists:
                database.create(model.fingerprint, model.descriptor_size, photos.root, photos.name)
            place_map = cls(folder, model, database)
            if points is not None:
                place_map.features.begin(points.chosen())
            place_map._add(photos, rows, on_progress, keep=False)
            place_map._follow(index, on_progress, check=True, least=min_recall or 0.0)
            if min_recall is not None:
                place_map._require(min_recall)
        return place_map

    @classmethod
    def open(
        cls, folder: str | Path, *, device: str = "auto", precision: str = "fp32", runtime: str = TORCH
    ) -> Self:
        """Open a map that `build` made.

        Args:
            folder: the map's folder, or the address of a database.
            device: where the model runs.
            precision: what it computes in.
            runtime: what computes the network, as `dejavlad.load_model` takes it: one whose answers differ
                from those that the map was made of is refused.

        Raises:
            InputError: a runtime that cannot compute this model, or answers otherwise.
            MissingExtraError: the runtime is not installed.
            StoreError: there is no map, it was never finished, or it is damaged.
        """
        if is_address(folder):
            database = DatabaseMap(str(folder))
            if not database.fetch():
                raise StoreError(
                    f"there is no map at {str(folder)!r}: make one with "
                    f"`dejavlad map build PHOTOS --out {folder}`"
                )
            model = load_model(database.work / "model", device=device, precision=precision, runtime=runtime)
            return cls(database.work, model, database)
        folder = Path(folder)
        if not is_map(folder):
            unfinished = (folder / "model.json").exists()
            raise StoreError(
                f"there is no map at {str(folder)!r}: "
                + (
                    "it was never finished; run the same `dejavlad map build` again"
                    if unfinished
                    else "make one with `dejavlad map build PHOTOS --out MAP`"
                )
            )
        model = load_model(folder / "model", device=device, precision=precision, runtime=runtime)
        return cls(folder, model)

    def refresh(self) -> None:
        """See what another process has added or removed since."""
        snapshot, size = self._state.snapshot(), self.model.descriptor_size
        if snapshot.head.dims != size:
            hint = "Its model was changed after it was built; build it anew in another folder."
            raise StoreMismatchError(self.address, {"dims": (snapshot.head.dims, size)}, hint)
        self._snapshot = snapshot
        self._search: MapSearch | None = None
        self._facts: Facts | None = None
        self._rerankers: dict[Preset, MapReranker] = {}
        self._state.validate(snapshot)
        self._verifiers: dict[PointSetting, MapVerifier] = {}

    def another(self) -> Self:
        """Another reader of the same map, with the same model, as the map is now."""
        if not isinstance(self._state, DatabaseMap):
            return type(self)(self.folder, self.model)
        return type(self)(self.folder, self.model, self._state.another())

    @property
    def in_database(self) -> bool:
        """Whether it lies in a database rather than in a folder."""
        return isinstance(self._state, DatabaseMap)

    def is_current(self) -> bool:
        """Whether no other process has added or removed photos since `refresh`; reads a few numbers."""
        return self._state.change() == self._snapshot.head.change

    @property
    def snapshot(self) -> MapSnapshot:
        """The map as of the last `refresh`, whose photos and positions are read as they are needed."""
        return self._snapshot

    def places_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Key -> where it stands in `photos`, of those keys that the map holds as they are written."""
        return self._state.places_of(self._snapshot, keys)

    def __len__(self) -> int:
        return self._snapshot.head.photos

    def __repr__(self) -> str:
        return f"PlaceMap({self.address!r}, {len(self)} photos, {self.model.name})"

    @property
    def photos(self) -> PhotoList:
        """The photos of the map, in the order in which they came."""
        return self._snapshot.photos

    @property
    def failed(self) -> dict[str, str]:
        """Key -> reason, of the photos that could not be described, or show nothing (see `failures`)."""
        return self._snapshot.failed

    @property
    def descriptors(self) -> Floats:
        """float32 [N, D], the descriptors of `photos`; memory-mapped until photos are removed."""
        rows, file_ND = self._snapshot.rows, self._snapshot.file_rows.all()
        return file_ND if len(rows) == len(file_ND) else np.asarray(file_ND[rows])

    def info(self) -> MapInfo:
        """What is in the map, in figures."""
        head = self._snapshot.head
        setting = self.features.setting()
        return MapInfo.of(
            self.address,
            self.model,
            head.photos,
            head.with_position,
            self.failed,
            self._names,
            None if setting is None else setting.kind,
            self._state.bytes(),
            self._index_head(),
        )

    def _names(self) -> tuple[str, ...]:
        return tuple(self.photos.keys)

    def add(
        self,
        photos: Images,
        *,
        batch_size: int = 8,
        workers: int = 0,
        descriptors: DescriptorStore | None = None,
        ray: str | None = None,
        on_progress: OnProgress = silent,
    ) -> int:
        """Add photos; those that are there already are skipped, those that changed since are described anew.

        What `photos` tells of a photo that is there (position, heading, time, group, tags) takes the place of
        what the map holds; what it does not tell stays. `descriptors` and `ray` are as in `build`.

        Returns:
            How many photos were added or described anew.

        Raises:
            InputError: a photo of another folder has the name of one in the map.
            StoreBusyError: another process is writing there.
        """
        with self._changing():
            self.refresh()
            rows = RowOptions(batch_size, workers, ray, descriptors)
            return self._add(PhotoList.of(photos), rows, on_progress, keep=True)

    def remove(self, names: Sequence[str]) -> int:
        """Take photos out of the map by their keys, however written (`dejavlad.names`).

        The files of the photos stay where they are.

        Returns:
            How many were removed.

        Raises:
            UnknownNameError: the map has no such photo; nothing is removed.
            StoreBusyError: another process is writing there.
        """
        with self._changing():
            self.refresh()
            self._state.convert()
            records = self._state.lookup(names)
            keys = {name for name in names if name in records or name in self.failed}
            if unknown := [name for name in names if name not in keys]:
                known = [*self.photos.keys, *self.failed]
                written_otherwise = Names(known)
                for name in unknown:
                    row = written_otherwise.find(name)
                    if row is None:
                        raise UnknownNameError("photo in the map", name, known)
                    keys.add(known[row])
            self._state.remove(keys)
            self._refresh_compacted()
            self.features.keep(self._snapshot.row_numbers.tolist())
        return len(keys)

    def move(self, old: str | Path, new: str | Path) -> Moved:
        """Photos that lay at `old` (a file, or a folder with all below it) lie at `new` now.

        Nothing is described anew: a file of the same size counts as the same photo. Names in the map stay,
        but for photos that moved within the folder that their names are relative to.

        Raises:
            InputError: no photo of the map lies at `old`, nothing is at `new`, or two would share a name.
            StoreBusyError: another process is writing there.
        """
        with self._changing():
            self._state.convert()
            moved = self._state.move(Path(old), Path(new))
            self.refresh()
        return moved

    def compact(self) -> int:
        """Free the rows of photos that were removed or described anew; `remove` and `add` do it by themselves
        once more than half of the rows, and 4 MB, are of no photo.

        Returns:
            How many bytes were freed.

        Raises:
            StoreBusyError: another process is writing there.
        """
        if isinstance(self._state, DatabaseMap):
            raise InputError(f"{self.address} keeps its own disk in order; compact a map in a folder")
        with self._changing():
            self._state.convert()
            return self._compact(self._state)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the map's lock; a version of a map in a database cannot be changed."""
        if isinstance(self._state, DatabaseMap):
            self._state.refuse_version()
        with one_writer(self.folder):
            yield

    def _compact(self, state: MapState, share: float = 0.0, least_bytes: int = 1) -> int:
        del self._snapshot, self._search, self._verifiers  # a mapped file cannot be removed on Windows
        try:
            freed = state.compact(share=share, least_bytes=least_bytes)
        finally:
            self.refresh()
        if freed:
            self._follow(None, silent)
        return freed

    def _refresh_compacted(self) -> None:
        """See the map as it is now, its rows compacted where that is worth it."""
        if isinstance(self._state, DatabaseMap):
            self.refresh()
            return
        with contextlib.suppress(StoreError):  # a full disk, say: the map is whole without it
            self._compact(self._state, DEAD_SHARE, DEAD_BYTES)

    def check(self, on_progress: OnProgress = silent) -> bool:
        """Compare all numbers of the map with their checksums.

        Returns:
            Whether there are any: a map of format 1 has none until it is changed.

        Raises:
            StoreError: something is not what was written.
        """
        self.features.check()
        return self._state.check(on_progress)

    def locate(
        self,
        photos: Images,
        *,
        k: int = 5,
        batch_size: int = 8,
        workers: int = 0,
        rerank: Preset | None = None,
        verify: PointSetting | str | None = AUTO,
        near: Near | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        heading: Heading | None = None,
        on_progress: OnProgress = silent,
    ) -> list[Answer]:
        """Where were these photos taken?

        Args:
            photos: files or arrays; one that cannot be read, or shows nothing, gets an answer that says why.
            k: how many places to tell, at most.
            rerank: compare the nearest photos patch by patch, and tell those that match best first; how sure
                the map is does not depend on it.
            verify: compare the nearest photos by local features that agree in space: those seen from nearby
                come first (unless `rerank` orders them), and how sure the map is depends on it. A setting, or
                a kind of features: ``"auto"`` takes those that the map keeps, else the best kind that is
                installed; ``"none"`` or None leaves it at how far the best place stands out, by which a map
                of fewer than ten places is never sure. Photos of a map made of arrays cannot be read again
                and are verified only where the map keeps local features (`build`); `Answer.reason` says so.
            near: look only at photos of the map near there: ``"LAT,LON,METRES"``, ``"exif:METRES"`` (from
                each photo's own position), or a position (or latitude and longitude) and metres.
            after: only at photos taken then or later: ISO 8601, or seconds since 1970.
            before: then or earlier.
            heading: only at those that look that way: ``"DEGREES+-TOLERANCE"``. Photos of which that is not
                known are left out, and counted in `Answer.searched`; what passes is searched exactly.
            batch_size: photos described at once.
            workers: threads that decode photos.
            on_progress: called with each step.

        Raises:
            InputError: no photos, none that can be read, k below 1, or an empty map.
            UnknownNameError: no such kind of local features.
        """
        photos, points = PhotoList.of(photos), PointSetting.parse(verify)
        only = Filter.of(near, after, before, heading)
        rows_QD, failed = describe(
            self.model,
            photos,
            batch_size=batch_size,
            workers=workers,
            blank_too=True,
            on_progress=on_progress,
        )
        good = [i for i, photo in enumerate(photos) if photo.key not in failed]
        answers = iter(
            self.locate_descriptors(
                rows_QD[good], photos.take(good), k=k, rerank=rerank, verify=points, only=only
            )
        )
        return [
            next(answers)
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
        verify: PointSetting | str | None = AUTO,
        only: Filter | None = None,
    ) -> list[Answer]:
        """As `locate`, from descriptors of `photos` that this map's model made.

        Args:
            rows_QD: float32 [Q, D], brought to unit length; a row of zeros is of a photo that shows nothing.
            photos: what they are descriptors of.
            k: how many places to tell, at most.
            rerank: as `locate` takes it.
            verify: likewise.
            only: which photos of the map may be answers.
        """
        if k < 1:
            raise InputError(f"-k {k}: ask for at least 1 place")
        if not len(self):
            raise InputError(f"the map {self.address!r} is empty; add photos with `dejavlad map add`")
        rows_QD, _ = at_unit_length(np.asarray(rows_QD, np.float32), "the queries")
        rows_QD = np.asarray(rows_QD)
        depth = max(k, CANDIDATES)
        ranking = self.search(rows_QD, k=depth) if only is None else None
        reorder = None if rerank is None or not rows_QD.any() else self.reranker(rerank)
        points = PointSetting.parse(verify)
        check = None if points is None or not rows_QD.any() else self.verifier(points)
        shared = None if only is None or only.own else self.allowed(only)
        answers = []
        for i, (photo, row_D) in enumerate(zip(photos, rows_QD, strict=True)):
            if not row_D.any():
                answers.append(Answer(photo.key, photo.path, (), 0.0, False, failed=NO_DESCRIPTOR))
                continue
            if ranking is not None:
                near = ranking.indices[i], ranking.distances[i]
                answers.append(self._answer(photo, row_D, *near, k, reorder, check))
                continue
            assert only is not None
            allowed = shared or self.allowed(only, photo)
            searched = allowed.to_dict()
            if not len(allowed.rows):
                reason = allowed.reason
                answers.append(
                    Answer(photo.key, photo.path, (), 0.0, False, reason=reason, searched=searched)
                )
                continue
            nearby = self.search(row_D[None], k=depth, allowed=allowed.rows)
            near = nearby.indices[0], nearby.distances[0]
            answer = self._answer(photo, row_D, *near, k, reorder, check, allowed.rows)
            answers.append(replace(answer, searched=searched))
        return answers

    def allowed(self, only: Filter, photo: Photo | None = None) -> Allowed:
        """Which of `photos` pass a filter, for a query where it depends on that."""
        if self._facts is None:
            self._facts = Facts.of_numbers(self._snapshot.numbers)
        return only.allowed(self._facts, photo)

    def reranker(self, preset: Preset) -> MapReranker:
        """What compares photos with those of the map patch by patch; kept for the next call."""
        if preset not in self._rerankers:
            self._rerankers[preset] = MapReranker(self.model, self.photos, preset)
        return self._rerankers[preset]

    def verifier(self, setting: PointSetting) -> MapVerifier:
        """What compares photos with those of the map by local features; kept for the next call."""
        if setting not in self._verifiers:
            kept, chosen = self.features.setting(), self.chosen_points(setting)
            same = kept is not None and (kept.kind, kept.points, kept.longest) == (
                *(chosen.kind, chosen.points),
                chosen.longest,
            )
            self._verifiers[setting] = MapVerifier(
                _MapPhotos(self._snapshot),
                chosen,
                stored=self._features_of if same else None,
                device=self.model.device,
            )
        return self._verifiers[setting]

    def chosen_points(self, setting: PointSetting) -> PointSetting:
        """The setting with which photos are compared: ``auto`` takes what the map keeps, where it can."""
        kept = self.features.setting()
        if kept is not None and setting.kind == AUTO and kept.kind in ("sift", best_kind()[0]):
            setting = replace(setting, kind=kept.kind, points=kept.points, longest=kept.longest)
        return setting.chosen()

    def _features_of(self, photo: int) -> LocalFeatures | None:
        """The local features that the map keeps of one of `photos`."""
        return self.features.get(int(self._snapshot.row_numbers[photo]))

    def search(self, rows_QD: Floats, *, k: int, allowed: NDArray[np.int64] | None = None) -> Ranking:
        """The k nearest photos of the map for each descriptor, as places in `photos`.

        Args:
            rows_QD: float32 [Q, D].
            k: at most so many.
            allowed: the photos that may be answers, ascending; searched exactly, whatever the index.
        """
        rows, file_rows = self._snapshot.rows, self._snapshot.file_rows
        if isinstance(file_rows, DatabaseRows) and not file_rows.fits:
            return file_rows.search(rows_QD, min(k, len(self) if allowed is None else len(allowed)), allowed)
        if self._search is None:
            self._search = MapSearch(self.index, self._index_head(), file_rows, rows)
        if allowed is None:
            ranking = self._search(rows_QD, min(k, len(self)))
        else:
            ranking = self._search(rows_QD, min(k, len(allowed)), rows[allowed])
        photos = np.where(ranking.indices < 0, -1, np.searchsorted(rows, ranking.indices))
        return Ranking(photos, ranking.distances)

    def _answer(
        self,
        photo: Photo,
        row_D: Floats,
        near_K: NDArray[np.int64],
        distances_K: Floats,
        k: int,
        reorder: MapReranker | None,
        check: MapVerifier | None,
        allowed: NDArray[np.int64] | None = None,
    ) -> Answer:
        most = len(self) if allowed is None else len(allowed)
        while True:
            near_K, distances_K = near_K[near_K >= 0], distances_K[near_K >= 0]
            same_KK = self._same_place(near_K)
            best = distinct_places(distances_K, same_KK, self.descriptors_of(near_K))
            if len(best) == PLACES or len(near_K) >= most:
                break
            wider = self.search(row_D[None], k=4 * len(near_K), allowed=allowed)
            if (wider.indices[0] >= 0).sum() <= len(near_K):
                break  # an approximate index has no more
            near_K, distances_K = wider.indices[0], wider.distances[0]
        places = Evidence(stand_out(distances_K[best]), len(best))
        sure, why, evidence = search_confidence(places), "", None
        agreed = uncertainty = None
        order = np.arange(len(near_K)) if reorder is None else reorder(photo, near_K)
        if check is not None:
            checked = check(photo, near_K, distances_K, same_KK)
            order = checked.order if reorder is None else order
            first = int(order[0])
            if first in checked.compared:
                rivals = check.rivals(first, checked.compared, near_K, same_KK[first])
                evidence = places.verified(checked.compared[first], rivals)
                sure = verified_confidence(evidence)
                why = reason(evidence, self._snapshot.photo(int(near_K[first])).key)
                positions = {at: self._snapshot.photo(int(near_K[at])).position for at in checked.compared}
                agreed, uncertainty = located_position(first, checked.compared, positions)
            else:
                why = f"not verified: {checked.unread or self._unverified(int(near_K[first]))}"
        nearest = [self._snapshot.photo(i) for i in near_K[order[:k]].tolist()]
        agreeing = {} if check is None else {at: pair.inliers for at, pair in checked.compared.items()}
        matches = tuple(
            Match(near.key, near.path, float(d), float(1 - d * d / 2), near.position, agreeing.get(at))
            for near, d, at in zip(nearest, distances_K[order[:k]].tolist(), order[:k].tolist(), strict=True)
        )
        return Answer(
            photo.key,
            photo.path,
            matches,
            sure,
            sure >= KNOWN,
            places.standing,
            evidence=evidence,
            reason=why,
            agreed=agreed,
            uncertainty_m=uncertainty,
        )

    def _unverified(self, photo: int) -> str:
        """Why one of `photos` could not be compared."""
        record = self._snapshot.record(photo)
        why = FROM_ARRAY if record.identity[2] else "it cannot be read any more"
        return f"{record.photo.key} of the map could not be compared: {why}"

    def descriptors_of(self, places_K: NDArray[np.int64]) -> Floats:
        """float32 [K, D], the descriptors of some of `photos`."""
        return np.asarray(self._snapshot.file_rows.take(self._snapshot.rows[places_K]))

    def _same_place(self, places_K: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[K, K] whether two photos of the map are known to show one place."""
        return same_place(places_K, self._snapshot.positions.take(places_K).distances(), len(self))

    def _add(self, photos: PhotoList, options: RowOptions, on_progress: OnProgress, *, keep: bool) -> int:
        """Add photos, and correct what is known of those that are there (`keep`: what is not told stays)."""
        self._state.convert()
        photos = self._as_in_map(photos)
        now = PhotoTable.look(photos, lambda _: (0, 0))
        mapped = self._state.lookup(now.keys)
        _refuse_namesakes(now.photos, mapped)
        facts: dict[int, PhotoRecord] = {}
        new: list[int] = []
        for row, record in enumerate(records_of(now)):
            place, known = mapped.get(record.photo.key, (-1, record))
            if place < 0 or known.identity != record.identity:
                new.append(row)
                continue
            corrected = known.with_facts(record.photo, keep=keep)
            if corrected != known:
                facts[place] = corrected
        if facts:
            self._state.update(facts)
        self.updated = len(facts)
        added = self._describe(photos.take(new), options, on_progress) if new else 0
        discard(self.folder / STAGING)
        drop_shares(self.folder / STAGING)
        self._refresh_compacted()
        if keep:
            self._follow(None, on_progress)
        self._keep_features(photos, options.workers, on_progress)
        return added

    def _index_head(self) -> IndexHead | None:
        """What its index is; None of a map without."""
        return None if self.index is None else self.index.head()

    def _require(self, min_recall: float) -> None:
        """Leave an index unused whose audit finds less.

        Raises:
            InputError: so it is.
        """
        head = self._index_head()
        if self.index is None or head is None:
            return
        refused = refusal(head, min_recall, self.folder)
        if refused is not None:
            self.index.refuse(head)
            raise refused

    def _follow(
        self, index: str | None, on_progress: OnProgress, *, check: bool = False, least: float = 0.0
    ) -> None:
        """Bring the index up to the photos."""
        rows, alive = self._snapshot.file_rows, self._snapshot.rows
        if self.index is not None and isinstance(rows, MappedRows):
            self.index.follow(rows, alive, index, on_progress, check=check, least=least)
            self._search = None

    def _keep_features(self, photos: PhotoList, workers: int, on_progress: OnProgress) -> None:
        """Make the local features that the map is to keep and has not yet, but of photos that cannot be read.

        Args:
            photos: those just added, some perhaps in memory.
            workers: threads that decode.
            on_progress: told of each batch.
        """
        setting = self.features.setting()
        if setting is None:
            return
        rows = self._snapshot.row_numbers
        self.features.keep(rows.tolist())
        done = self.features.rows()
        missing = [i for i, row in enumerate(rows.tolist()) if row not in done]
        if not missing:
            return
        given = {photo.key: photo for photo in photos}
        records = [self._snapshot.record(i) for i in missing]
        listed = [(i, given.get(r.photo.key, r.photo)) for i, r in zip(missing, records, strict=True)]
        listed = [
            (i, photo)
            for (i, photo), r in zip(listed, records, strict=True)
            if photo.pixels is not None or not r.identity[2]
        ]
        extractor = setting.extractor(device=self.model.device)
        batch: dict[int, LocalFeatures] = {}
        for at, features in describe_local(
            extractor, [photo for _, photo in listed], workers=workers, on_progress=on_progress
        ):
            if isinstance(features, PhotoError):
                continue
            batch[int(rows[listed[at][0]])] = features
            if len(batch) >= FEATURES_AT_ONCE:
                self.features.put(batch)
                batch = {}
        if batch:
            self.features.put(batch)

    def _describe(self, photos: PhotoList, options: RowOptions, on_progress: OnProgress) -> int:
        """Describe photos, or take the rows that are there already, and take each part in at once."""
        staging, added = self.folder / STAGING, 0
        parts = rows_of(
            self.model, photos, staging, options, allow_none=len(self) > 0, on_progress=on_progress
        )
        for table, rows, chosen, failed in parts:
            self._state.add(table, rows, chosen, failed)
            added += len(table)
        return added

    def _as_in_map(self, photos: PhotoList) -> PhotoList:
        """The photos, by the names that the map has for them where these differ in their Unicode form alone.

        So it is where a collection came from another system. Two files whose names differ so are two photos.
        """
        variants = {photo.key: unicode_variants(photo.key) for photo in photos}
        records = self._state.lookup([v for key, forms in variants.items() for v in (key, *forms)])
        named = []
        for photo in photos:
            if photo.key not in records:
                for form in variants[photo.key]:
                    if form in records and _same_file(records[form][1].photo.path, photo.path):
                        photo = replace(photo, name=records[form][1].photo.name)
                        break
            named.append(photo)
        return photos.like(named)


@dataclass(frozen=True, slots=True, eq=False)
class _MapPhotos:
    """The photos of a map by row, each read when it is needed."""

    snapshot: MapSnapshot

    def __getitem__(self, row: int, /) -> Photo:
        record = self.snapshot.record(row)
        if record.identity[2]:  # its name may by chance be that of a file
            raise PhotoError(record.photo.key, FROM_ARRAY)
        return record.photo


def _same_path(one: Path, other: Path) -> bool:
    """Whether two paths are written alike, but for their Unicode form."""
    return same_form(one.absolute().as_posix()) == same_form(other.absolute().as_posix())


def _same_file(mapped: Path, current: Path) -> bool:
    """Whether a path of the map, written in another Unicode form, is that of the file that is here now."""
    try:
        return _same_path(mapped, current) and (not mapped.exists() or mapped.samefile(current))
    except OSError:
        return False


def _refuse_namesakes(photos: PhotoList, records: dict[str, tuple[int, PhotoRecord]]) -> None:
    for photo in photos:
        if photo.pixels is not None or photo.key not in records:
            continue
        path = records[photo.key][1].photo.path
        if not _same_path(path, photo.path):
            raise InputError(
                f"the map holds {photo.key!r} of {str(path.parent)!r} already; photos of another folder need "
                f"other names: add a folder above both, or make another map; photos that lie elsewhere "
                f"now are moved: `dejavlad map move MAP OLD NEW`"
            )
