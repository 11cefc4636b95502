"""A map of places: photos, where they were taken and what they look like, in one folder.

The folder::

    MAP/map.sqlite     what is in the map; each change is one transaction, and that is the commit
    MAP/rows.bin       descriptors, float32 [N, D]; grows at the end; rows past the state's count do not count
    MAP/model/         the model, with the vocabulary and whitening learnt from the first photos
    MAP/model.json     what the model was learnt from: an interrupted `build` goes on only with the same
    MAP/extracting/    descriptors of photos being added (a DescriptorStore: an interrupted run goes on)
    MAP/local.sqlite   local features of the photos, where the map keeps them (see `map_features`)
    MAP/writer.lock    held by the one writer; readers need none

Opening reads a few numbers; photos, positions and rows are read when they are asked for, and compared with
their checksums. What a change costs does not grow with the map. (``map.json`` is that of format 1.)

Legend: N photos of the map, K candidates, D the model's descriptor size.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import (
    InputError,
    PhotoError,
    StoreBusyError,
    StoreError,
    StoreMismatchError,
    UnknownNameError,
)
from dejavlad.extraction import DescriptorStore, PhotoTable, at_unit_length, describe, extract
from dejavlad.extraction.writer import StoreWriter
from dejavlad.failures import NO_DESCRIPTOR
from dejavlad.index import Index, build_index
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
    stand_out,
)
from dejavlad.places.database_map import MADE, DatabaseFeatures, DatabaseMap, DatabaseRows
from dejavlad.places.fitted_model import fit_cached
from dejavlad.places.info import MapInfo
from dejavlad.places.located_position import located_position
from dejavlad.places.map_features import FILE as LOCAL
from dejavlad.places.map_features import MapFeatures
from dejavlad.places.map_state import (
    OLD_STATE,
    ROWS,
    STATE,
    MapSnapshot,
    MapState,
    Moved,
    is_map,
    records_of,
)
from dejavlad.places.points import (
    Checked,
    MapVerifier,
    PointSetting,
)
from dejavlad.places.preset import Preset
from dejavlad.places.reranking import MapReranker
from dejavlad.places.verified_confidence import (
    KNOWN,
    Evidence,
    reason,
    search_confidence,
    verified_confidence,
)
from dejavlad.progress import OnProgress, silent
from dejavlad.ranking import Ranking
from dejavlad.storage import PhotoRecord, discard, one_writer
from dejavlad.zoo import (
    default_model,
    load_model,
)

STAGING = "extracting"
FILES = {OLD_STATE, ROWS, MADE, "model", "model.json", STAGING, "writer.lock"}
FILES |= {f"{OLD_STATE}.partial", "model.json.partial", ".model.partial", ".model.before"}
FILES |= {
    state + ending for state in (STATE, LOCAL) for ending in ("", "-journal", ".partial", ".partial-journal")
}

SAME_PLACE = 25.0
"""Photos within so many metres show one place."""
SAME_STRETCH = 0.05
"""Photos without positions show one place within this share of the list, as frames of a drive do."""
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
            on_progress: called with each step.

        Raises:
            InputError: no photos, none that can be read, or a model that is batch-dependent (see
                `PlaceModel.together`).
            StoreMismatchError: `out` was begun from another model, other photos or another seed.
            StoreBusyError: another process is building there.
        """
        database = DatabaseMap(str(out)) if is_address(out) else None
        folder, photos = Path(out) if database is None else database.work, PhotoList.of(photos)
        if not len(photos):
            raise InputError("a map needs at least one photo; given none")
        points = PointSetting.parse(local)
        model = default_model()[0] if model is None else model
        base = model if isinstance(model, PlaceModel) else load_model(model, seed=seed)
        if not base.alone and not base.together:
            raise InputError(
                f"model {base.name!r} is batch-dependent: what it says of a photo depends on the photos "
                "described beside it, so that its maps depend on chance; take another model, or insist with "
                "--batch-dependent (model.together = True)"
            )
        exists = database is not None and database.prepare()
        folder.mkdir(parents=True, exist_ok=True)
        with one_writer(folder), nullcontext() if database is None else database.named():
            strange = {entry.name for entry in folder.iterdir()} - FILES
            if strange:
                raise StoreError(f"{str(folder)!r} is no map: it holds {min(strange)!r}; give another --out")
            model = fit_cached(
                base, photos, folder / "model", seed=seed, workers=workers, on_progress=on_progress
            )
            model.together = base.together
            if database is not None and not exists:
                database.create(model.fingerprint, model.descriptor_size, photos.root, photos.name)
            place_map = cls(folder, model, database)
            if points is not None:
                place_map.features.begin(points.chosen())
            place_map._add(photos, batch_size, workers, on_progress, keep=False)
        return place_map

    @classmethod
    def open(cls, folder: str | Path, *, device: str = "auto", precision: str = "fp32") -> Self:
        """Open a map that `build` made.

        Args:
            folder: the map's folder, or the address of a database.
            device: where the model runs.
            precision: what it computes in.

        Raises:
            StoreError: there is no map, it was never finished, or it is damaged.
        """
        if is_address(folder):
            database = DatabaseMap(str(folder))
            if not database.fetch():
                raise StoreError(
                    f"there is no map at {str(folder)!r}: make one with "
                    f"`dejavlad map build PHOTOS --out {folder}`"
                )
            model = load_model(database.work / "model", device=device, precision=precision)
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
        return cls(folder, load_model(folder / "model", device=device, precision=precision))

    def refresh(self) -> None:
        """See what another process has added or removed since."""
        snapshot, size = self._state.snapshot(), self.model.descriptor_size
        if snapshot.head.dims != size:
            hint = "Its model was changed after it was built; build it anew in another folder."
            raise StoreMismatchError(self.address, {"dims": (snapshot.head.dims, size)}, hint)
        self._snapshot = snapshot
        self._index: Index | None = None
        self._rerankers: dict[Preset, MapReranker] = {}
        self._state.validate(snapshot)
        self._verifiers: dict[PointSetting, MapVerifier] = {}

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
        )

    def _names(self) -> tuple[str, ...]:
        return tuple(self.photos.keys)

    def add(
        self, photos: Images, *, batch_size: int = 8, workers: int = 0, on_progress: OnProgress = silent
    ) -> int:
        """Add photos; those that are there already are skipped, those that changed since are described anew.

        What `photos` tells of a photo that is there (position, heading, time, group, tags) takes the place of
        what the map holds; what it does not tell stays.

        Returns:
            How many photos were added or described anew.

        Raises:
            InputError: a photo of another folder has the name of one in the map.
            StoreBusyError: another process is writing there.
        """
        with one_writer(self.folder):
            self.refresh()
            return self._add(PhotoList.of(photos), batch_size, workers, on_progress, keep=True)

    def remove(self, names: Sequence[str]) -> int:
        """Take photos out of the map by their keys, however written (`dejavlad.names`).

        The files of the photos stay where they are.

        Returns:
            How many were removed.

        Raises:
            UnknownNameError: the map has no such photo; nothing is removed.
            StoreBusyError: another process is writing there.
        """
        with one_writer(self.folder):
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
            self.refresh()
            self.features.keep(self._snapshot.rows.tolist())
        return len(keys)

    def move(self, old: str | Path, new: str | Path) -> Moved:
        """Photos that lay at `old` (a file, or a folder with all below it) lie at `new` now.

        Nothing is described anew: a file of the same size counts as the same photo. Names in the map stay,
        but for photos that moved within the folder that their names are relative to.

        Raises:
            InputError: no photo of the map lies at `old`, nothing is at `new`, or two would share a name.
            StoreBusyError: another process is writing there.
        """
        with one_writer(self.folder):
            self._state.convert()
            moved = self._state.move(Path(old), Path(new))
            self.refresh()
        return moved

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
            batch_size: photos described at once.
            workers: threads that decode photos.
            on_progress: called with each step.

        Raises:
            InputError: no photos, none that can be read, k below 1, or an empty map.
            UnknownNameError: no such kind of local features.
        """
        photos, points = PhotoList.of(photos), PointSetting.parse(verify)
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
            self.locate_descriptors(rows_QD[good], photos.take(good), k=k, rerank=rerank, verify=points)
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
    ) -> list[Answer]:
        """As `locate`, from descriptors of `photos` that this map's model made.

        Args:
            rows_QD: float32 [Q, D], brought to unit length; a row of zeros is of a photo that shows nothing.
            photos: what they are descriptors of.
            k: how many places to tell, at most.
            rerank: as `locate` takes it.
            verify: likewise.
        """
        if k < 1:
            raise InputError(f"-k {k}: ask for at least 1 place")
        if not len(self):
            raise InputError(f"the map {self.address!r} is empty; add photos with `dejavlad map add`")
        rows_QD, _ = at_unit_length(np.asarray(rows_QD, np.float32), "the queries")
        rows_QD = np.asarray(rows_QD)
        ranking = self.search(rows_QD, k=max(k, CANDIDATES))
        reorder = None if rerank is None or not rows_QD.any() else self.reranker(rerank)
        points = PointSetting.parse(verify)
        check = None if points is None or not rows_QD.any() else self.verifier(points)
        return [
            self._answer(photo, row_D, ranking.indices[i], ranking.distances[i], k, reorder, check)
            if row_D.any()
            else Answer(photo.key, photo.path, (), 0.0, False, failed=NO_DESCRIPTOR)
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
            kept = self.features.setting()
            chosen = setting
            if kept is not None and setting.kind == AUTO and kept.kind in ("sift", best_kind()[0]):
                chosen = replace(setting, kind=kept.kind, points=kept.points, longest=kept.longest)
            chosen = chosen.chosen()
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

    def _features_of(self, photo: int) -> LocalFeatures | None:
        """The local features that the map keeps of one of `photos`."""
        return self.features.get(int(self._snapshot.rows[photo]))

    def search(self, rows_QD: Floats, *, k: int) -> Ranking:
        """The k nearest photos of the map for each descriptor, as places in `photos`."""
        rows = self._snapshot.file_rows
        if isinstance(rows, DatabaseRows) and not rows.fits:
            return rows.search(rows_QD, min(k, len(self)))
        if self._index is None:
            self._index = build_index("flat", _FileRows(self._snapshot.file_rows.all(), self._snapshot.rows))
        ranking = self._index.search(rows_QD, min(k, len(self)))
        photos = np.where(ranking.indices < 0, -1, np.searchsorted(self._snapshot.rows, ranking.indices))
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
    ) -> Answer:
        while True:
            best = distinct_places(distances_K, self._same_place(near_K), self.descriptors_of(near_K))
            if len(best) == PLACES or len(near_K) == len(self):
                break
            wider = self.search(row_D[None], k=4 * len(near_K))
            near_K, distances_K = wider.indices[0], wider.distances[0]
        places = Evidence(stand_out(distances_K[best]), len(best))
        sure, why, evidence = search_confidence(places), "", None
        agreed = uncertainty = None
        order = np.arange(len(near_K)) if reorder is None else reorder(photo, near_K)
        if check is not None:
            checked = check(photo, near_K, distances_K, self._same_place(near_K))
            order = checked.order if reorder is None else order
            first = int(order[0])
            if first in checked.compared:
                evidence = self._evidence(checked, first, near_K, places)
                sure = verified_confidence(evidence)
                why = reason(evidence, self._snapshot.photo(int(near_K[first])).key)
                positions = {at: self._snapshot.photo(int(near_K[at])).position for at in checked.compared}
                agreed, uncertainty = located_position(first, checked.compared, positions)
            else:
                why = f"not verified: {checked.unread or self._unverified(int(near_K[first]))}"
        nearest = [self._snapshot.photo(i) for i in near_K[order[:k]].tolist()]
        matches = tuple(
            Match(near.key, near.path, float(d), float(1 - d * d / 2), near.position)
            for near, d in zip(nearest, distances_K[order[:k]].tolist(), strict=True)
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

    def _evidence(
        self, checked: Checked, first: int, near_K: NDArray[np.int64], places: Evidence
    ) -> Evidence:
        """What speaks for the first of the candidates, beside what the search says."""
        pair = checked.compared[first]
        other = ~self._same_place(near_K)[first]
        runner_up = max((next_.inliers for at, next_ in checked.compared.items() if other[at]), default=0)
        return replace(
            places, inliers=pair.inliers, coverage=min(pair.nearness.coverage), runner_up=runner_up
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
        apart_KK = self._snapshot.positions.take(places_K).distances()
        stretch = max(3, round(SAME_STRETCH * len(self)))
        in_sequence = np.abs(places_K[:, None] - places_K) <= stretch
        return np.where(np.isnan(apart_KK), in_sequence, apart_KK <= SAME_PLACE)

    def _add(
        self, photos: PhotoList, batch_size: int, workers: int, on_progress: OnProgress, *, keep: bool
    ) -> int:
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
        added = self._describe(photos.take(new), batch_size, workers, on_progress) if new else 0
        discard(self.folder / STAGING)
        self.refresh()
        self._keep_features(photos, workers, on_progress)
        return added

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
        rows = self._snapshot.rows
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

    def _describe(self, photos: PhotoList, batch_size: int, workers: int, on_progress: OnProgress) -> int:
        """Describe photos aside, where a run that is cut off goes on, and take them in at once."""
        staging = self.folder / STAGING

        def described() -> DescriptorStore:
            return extract(
                self.model,
                photos,
                staging,
                batch_size=batch_size,
                workers=workers,
                allow_none=len(self) > 0,  # photos that failed before are tried again
                on_progress=on_progress,
            )

        _throw_away_unless_usable(staging)
        try:
            store = described()
        except StoreMismatchError:  # left by a run at another precision
            discard(staging)
            store = described()
        done = np.flatnonzero(store.done)
        self._state.add(store.manifest.table.take(done), store.rows, done, store.failed)
        return len(done)

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
        return PhotoList(
            named, root=photos.root, name=photos.name, notes=photos.notes, passed_over=photos.passed_over
        )


@dataclass(frozen=True, slots=True, eq=False)
class _MapPhotos:
    """The photos of a map by row, each read when it is needed."""

    snapshot: MapSnapshot

    def __getitem__(self, row: int, /) -> Photo:
        record = self.snapshot.record(row)
        if record.identity[2]:  # its name may by chance be that of a file
            raise PhotoError(record.photo.key, FROM_ARRAY)
        return record.photo


@dataclass(frozen=True, slots=True, eq=False)
class _FileRows:
    """A `RowSource`: all rows of a map's file, those of removed photos counting for nothing."""

    rows: Floats
    """[rows of the file, D]."""
    photos: NDArray[np.int64]
    """[N] the row of each photo."""
    complete: ClassVar[bool] = True

    @property
    def done(self) -> NDArray[np.bool_]:
        """[rows of the file] whether a photo has the row."""
        done = np.zeros(len(self.rows), np.bool_)
        done[self.photos] = True
        return done


def _throw_away_unless_usable(staging: Path) -> None:
    """What an earlier run described aside is taken up; half-cleared or damaged, it goes."""
    if not staging.exists():
        return
    try:
        with StoreWriter(staging):
            pass
    except StoreBusyError:
        raise
    except StoreError:
        discard(staging)


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
