"""A map of places: photos, where they were taken and what they look like, in one folder.

The folder::

    MAP/map.sqlite     what is in the map; each change is one transaction, and that is the commit
    MAP/rows.bin       descriptors, float32 [N, D]; grows at the end; rows past the state's count do not count
                       (``rows.2.bin`` by turns, when it was written anew without rows of removed photos)
    MAP/model/         the model, with the vocabulary and whitening learnt from the first photos
    MAP/model.json     what the model was learnt from: an interrupted `build` goes on only with the same
    MAP/extracting/    descriptors of photos being added (a DescriptorStore: an interrupted run goes on)
    MAP/index/         a search index of many rows, which follows from them (see `map_folder.index`)
    MAP/local.sqlite   local features of the photos, if kept (see `verification.map_features`)
    MAP/extracting.shards/  the same in shards, while several machines describe them (see `map_folder.rows`)
    MAP/photos/        photos that were added over HTTP (`dejavlad serve --writable`), if any
    MAP/writer.lock    held by the one writer; readers need none

Opening reads a few numbers; photos, positions and rows are read when they are asked for, and compared with
their checksums. What a change costs does not grow with the map. (``map.json`` is that of format 1.)

Legend: N photos of the map, K candidates, D the model's descriptor size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.export.runtimes import TORCH
from dejavlad.extraction import DescriptorStore, describe
from dejavlad.local import AUTO
from dejavlad.model import PlaceModel
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.answer import Answer
from dejavlad.places.databases.database_map import DatabaseMap
from dejavlad.places.filters import Allowed, Filter, Heading, Moment, Near
from dejavlad.places.growing import as_in_map, keep_features, take_in
from dejavlad.places.locating import locate_descriptors
from dejavlad.places.map_folder.index import refusal
from dejavlad.places.map_folder.rows import STAGING, RowOptions
from dejavlad.places.map_folder.snapshot import MapSnapshot
from dejavlad.places.map_view import Floats, MapView
from dejavlad.places.opening import build_site, building, open_model
from dejavlad.places.preset import Preset
from dejavlad.places.reranking import MapReranker
from dejavlad.places.stored_map import StoredMap
from dejavlad.places.verification.points import MapVerifier, PointSetting
from dejavlad.progress import OnProgress, silent
from dejavlad.ranking import Ranking

Images = PhotoList | Sequence[Photo | Path | str | NDArray[np.uint8]]


class PlaceMap(StoredMap):
    """A map to locate photos in. Many readers may hold it open while one writer adds and removes.

    Open one with `build` or `open`; the constructor is for them.
    """

    def __init__(self, folder: Path, model: PlaceModel, database: DatabaseMap | None = None) -> None:
        self.model = model
        self.updated = 0
        """Photos whose position, heading, time, group or tags the last `build` or `add` corrected."""
        self.left_out: dict[str, str] = {}
        """Key -> reason, of the photos given to the last `build` or `add` that could not be used."""
        super().__init__(folder, model.descriptor_size, (model.title, model.fingerprint), database)

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
                from `photos` and kept with the map. None takes `dejavlad.zoo.default_model`.
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
        photos, points = PhotoList.of(photos), PointSetting.parse(local)
        folder, database = build_site(out, photos, index, min_recall)
        with building(
            model, photos, folder, database, seed=seed, workers=workers, on_progress=on_progress
        ) as fitted:
            place_map = cls(folder, fitted, database)
            if points is not None:
                place_map.features.begin(points.chosen())
            place_map._add(photos, RowOptions(batch_size, workers, ray, descriptors), on_progress, keep=False)
            place_map._follow(index, on_progress, check=True, least=min_recall or 0.0)
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
        return cls(*open_model(folder, device=device, precision=precision, runtime=runtime))

    def another(self) -> Self:
        """Another reader of the same map, with the same model, as the map is now."""
        database = self._state.another() if isinstance(self._state, DatabaseMap) else None
        return type(self)(self.folder, self.model, database)

    def share_model(self, model: PlaceModel) -> None:
        """Take another copy of the map's model, one that is open already, in place of its own."""
        self.model = self.view.model = model

    @property
    def in_database(self) -> bool:
        """Whether it lies in a database rather than in a folder."""
        return isinstance(self._state, DatabaseMap)

    def is_current(self) -> bool:
        """Whether no other process has added or removed photos since `refresh`; reads a few numbers."""
        return self._state.change() == self.snapshot.head.change

    @property
    def snapshot(self) -> MapSnapshot:
        """The map as of the last `refresh`, whose photos and positions are read as they are needed."""
        return self.view.snapshot

    def places_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Key -> where it stands in `photos`, of those keys that the map holds as they are written."""
        return self._state.places_of(self.snapshot, keys)

    def __repr__(self) -> str:
        return f"PlaceMap({self.address!r}, {len(self)} photos, {self.model.name})"

    @property
    def descriptors(self) -> Floats:
        """float32 [N, D], the descriptors of `photos`; memory-mapped until photos are removed."""
        return self.view.descriptors()

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
        answers = self.locate_descriptors(
            rows_QD[good], photos.take(good), k=k, rerank=rerank, verify=points, only=only
        )
        located = dict(zip(good, answers, strict=True))
        return [located.get(i) or Answer.empty(p, failed=failed[p.key]) for i, p in enumerate(photos)]

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
        self._read_rows()
        if not len(self):
            raise InputError(f"the map {self.address!r} is empty; add photos with `dejavlad map add`")
        return locate_descriptors(self.view, rows_QD, photos, k=k, rerank=rerank, verify=verify, only=only)

    def search(self, rows_QD: Floats, *, k: int, allowed: NDArray[np.int64] | None = None) -> Ranking:
        """The k nearest photos of the map for each descriptor, as places in `photos`.

        Args:
            rows_QD: float32 [Q, D].
            k: at most so many.
            allowed: the photos that may be answers, ascending; searched exactly, whatever the index.
        """
        return self.view.search(rows_QD, k=k, allowed=allowed)

    def descriptors_of(self, places_K: NDArray[np.int64]) -> Floats:
        """float32 [K, D], the descriptors of some of `photos`."""
        return self.view.descriptors_of(places_K)

    def allowed(self, only: Filter, photo: Photo | None = None) -> Allowed:
        """Which of `photos` pass a filter, for a query where it depends on that."""
        return self.view.allowed(only, photo)

    def reranker(self, preset: Preset) -> MapReranker:
        """What compares photos with those of the map patch by patch; kept for the next call."""
        return self.view.reranker(preset)

    def verifier(self, setting: PointSetting) -> MapVerifier:
        """What compares photos with those of the map by local features; kept for the next call."""
        return self.view.verifier(setting)

    def chosen_points(self, setting: PointSetting) -> PointSetting:
        """The setting with which photos are compared: ``auto`` takes what the map keeps, where it can."""
        return self.view.chosen_points(setting)

    def _add(self, photos: PhotoList, options: RowOptions, on_progress: OnProgress, *, keep: bool) -> int:
        """Add photos, and correct what is known of those that are there (`keep`: what is not told stays)."""
        self.updated = 0
        self._state.convert()
        photos = as_in_map(photos, self._state)
        added, self.updated = take_in(
            self._state,
            self.model,
            photos,
            self.folder / STAGING,
            options,
            on_progress,
            keep=keep,
            allow_none=len(self) > 0,
        )
        self._refresh_compacted()
        given = set(photos.keys)
        self.left_out = {key: reason for key, reason in self.failed.items() if key in given}
        if keep:
            self._follow(None, on_progress)
        keep_features(
            self.features, self.snapshot, photos, self.model, workers=options.workers, on_progress=on_progress
        )
        return added

    def _show(self, snapshot: MapSnapshot) -> None:
        self.view = MapView(self.model, snapshot, self.index, self.features)
        """The map as of now: what `locate` looks at."""

    def _release(self) -> None:
        del self.view

    def _follow(
        self, index: str | None, on_progress: OnProgress, *, check: bool = False, least: float = 0.0
    ) -> None:
        super()._follow(index, on_progress, check=check, least=least)
        self.view.searcher = None

    def _require(self, min_recall: float | None) -> None:
        """Leave an index unused whose audit finds less, and raise InputError."""
        head = None if self.index is None or min_recall is None else self.index.head()
        if self.index is not None and min_recall is not None and head is not None:
            refused = refusal(head, min_recall, self.folder)
            if refused is not None:
                self.index.refuse(head)
                raise refused
