"""What changes in a map when photos are added; the caller holds the map's lock.

Legend: N photos of the map.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dejavlad.errors import InputError, PhotoError
from dejavlad.extraction import PhotoTable
from dejavlad.extraction.merge import drop_shares
from dejavlad.local import describe_local
from dejavlad.local_features import LocalFeatures
from dejavlad.model import PlaceModel
from dejavlad.names import same_form, unicode_variants
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.databases.database_features import DatabaseFeatures
from dejavlad.places.databases.database_map import DatabaseMap
from dejavlad.places.map_folder.records import records_of
from dejavlad.places.map_folder.rows import RowOptions, rows_of
from dejavlad.places.map_folder.snapshot import MapSnapshot
from dejavlad.places.map_folder.state import MapState
from dejavlad.places.verification.map_features import MapFeatures
from dejavlad.progress import OnProgress
from dejavlad.storage import PhotoRecord, discard

FEATURES_AT_ONCE = 64
"""Photos whose local features are written together."""


def take_in(
    state: MapState | DatabaseMap,
    model: PlaceModel,
    photos: PhotoList,
    staging: Path,
    options: RowOptions,
    on_progress: OnProgress,
    *,
    keep: bool,
    allow_none: bool,
) -> tuple[int, int]:
    """Add the photos that are new or changed, and correct what is known of the others.

    Args:
        photos: by the names that the map has for them, see `as_in_map`.
        staging: the folder in which photos are described aside; cleared in the end.
        keep: facts that `photos` do not tell stay as they are.
        allow_none: be content where no photo could be described.

    Returns:
        How many photos were added or described anew, and of how many the facts were corrected.

    Raises:
        InputError: a photo of another folder has the name of one in the map.
    """
    table = PhotoTable.look(photos, lambda _: (0, 0))
    mapped = state.lookup(table.keys)
    _refuse_namesakes(table.photos, mapped)
    facts: dict[int, PhotoRecord] = {}
    new: list[int] = []
    for row, record in enumerate(records_of(table)):
        place, known = mapped.get(record.photo.key, (-1, record))
        if place < 0 or known.identity != record.identity:
            new.append(row)
            continue
        corrected = known.with_facts(record.photo, keep=keep)
        if corrected != known:
            facts[place] = corrected
    if facts:
        state.update(facts)
    added = 0
    if new:
        for part, rows, chosen, failed in rows_of(
            model, photos.take(new), staging, options, allow_none=allow_none, on_progress=on_progress
        ):
            state.add(part, rows, chosen, failed)
            added += len(part)
    discard(staging)
    drop_shares(staging)
    return added, len(facts)


def as_in_map(photos: PhotoList, state: MapState | DatabaseMap) -> PhotoList:
    """The photos, by the names that the map has for their files.

    So a photo is in the map once, though it is given alone, by a folder above that of the map, or with its
    name in another Unicode form, as other systems write it. Two files whose names differ so are two photos.
    """
    names = {photo.key: _other_names(photo) for photo in photos}
    records = state.lookup([key for own, others in names.items() for key in (own, *others)])
    named, used = [], set(photos.keys)
    for photo in photos:
        if photo.key not in records or not _same_path(records[photo.key][1].photo.path, photo.path):
            for key, name in names[photo.key].items():
                if key in records and key not in used and _same_file(records[key][1].photo.path, photo.path):
                    photo = replace(photo, name=name)
                    used.add(key)
                    break
        named.append(photo)
    return photos.like(named)


def _other_names(photo: Photo) -> dict[str, str]:
    """Key -> name, of what a map may call the photo's file: each end of its path, in each Unicode form."""
    names = [photo.name]
    if photo.pixels is None:
        parts = photo.path.absolute().parts
        names += ["/".join(parts[start:]) for start in range(1, len(parts))]
    forms = dict.fromkeys(form for name in names for form in (name, *unicode_variants(name)))
    return {replace(photo, name=form).key: form for form in forms if form != photo.name}


def keep_features(
    features: MapFeatures | DatabaseFeatures,
    snapshot: MapSnapshot,
    photos: PhotoList,
    model: PlaceModel,
    *,
    workers: int,
    on_progress: OnProgress,
) -> None:
    """Make the local features that the map is to keep and has not yet, but of photos that cannot be read.

    Args:
        photos: those just added, some perhaps in memory.
        model: the map's; features are made where it runs.
    """
    setting = features.setting()
    if setting is None:
        return
    rows = snapshot.row_numbers.tolist()
    features.keep(rows)
    done = features.rows()
    given = {photo.key: photo for photo in photos}
    missing, listed = [], []
    for i, row in enumerate(rows):
        if row not in done:
            record = snapshot.record(i)
            photo = given.get(record.photo.key, record.photo)
            if photo.pixels is not None or not record.identity[2]:
                missing.append(row)
                listed.append(photo)
    if not listed:
        return
    batch: dict[int, LocalFeatures] = {}
    extractor = setting.extractor(device=model.device)
    for at, made in describe_local(extractor, listed, workers=workers, on_progress=on_progress):
        if not isinstance(made, PhotoError):
            batch[missing[at]] = made
        if len(batch) >= FEATURES_AT_ONCE:
            features.put(batch)
            batch = {}
    if batch:
        features.put(batch)


def _same_path(first: Path, second: Path) -> bool:
    """Whether two paths are written alike, but for their Unicode form."""
    return same_form(first.absolute().as_posix()) == same_form(second.absolute().as_posix())


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
