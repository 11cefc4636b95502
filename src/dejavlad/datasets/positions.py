"""Where the photos of a list were taken: metadata, their names, a table, a track by time, or camera poses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dejavlad.datasets.metadata import Metadata, read_metadata, time_notes
from dejavlad.datasets.moments import NO_OFFSET, TimeOffset, zone_text
from dejavlad.datasets.name_matching import match_names
from dejavlad.datasets.oxts import oxts_above, oxts_folder, placed_by_oxts
from dejavlad.datasets.poses import (
    GROUND,
    PosesGiven,
    centres_of,
    ground,
    is_poses,
    no_time_within,
    off_ground,
    read_poses,
    split_poses,
)
from dejavlad.datasets.positions_csv import Fix, apply_fix, read_positions
from dejavlad.datasets.suspect import at_zero
from dejavlad.datasets.tracks import Track, TrackGiven, read_track, split_track
from dejavlad.datasets.utm_names import from_utm_name
from dejavlad.errors import InputError
from dejavlad.exif import ZONES
from dejavlad.geo import Position
from dejavlad.photo import Photo, PhotoList

WORDS = ("exif", "utm-names", "auto", "none")
"""Sources of positions that are no files."""
BESIDE = "positions.csv"
"""The file that `auto` looks for in the root of a list."""


def with_positions(
    photos: PhotoList, source: str | Path | None, *, time_offset: TimeOffset | str | None = None
) -> PhotoList:
    """The same photos with what `source` tells of where, when and which way they were taken.

    `PhotoList.notes` of the result says how many photos have a position and from what, what was left out and
    why, and what was assumed of times.

    Args:
        photos: the list.
        source: ``exif`` (`metadata`: EXIF, XMP, and the files beside photos); ``utm-names``; ``none`` or None
            (as they are); the path of a table (`positions_csv`), of a track (`tracks`), of poses (`poses`) or
            of a raw drive of KITTI (`oxts`); or ``auto``: as they are where all of them know theirs, else
            `BESIDE` in the list's root where there is one, else what the names tell, and EXIF where they do
            not.
        time_offset: what is to be added to the photos' own times, or what `TimeOffset.parse` reads.

    Raises:
        InputError: no such source, a file that cannot be used, names of another form, or a time offset for
            positions that do not go by time.
    """
    offset = time_offset if isinstance(time_offset, TimeOffset) else TimeOffset.parse(time_offset)
    if source is None or source == "none":
        _timeless(offset, "without positions there are no times to shift; give --positions too")
        return photos
    if source == "auto":
        return _auto(photos, offset)
    if source == "exif":
        return from_metadata(photos, offset)
    if source == "utm-names":
        _timeless(offset, "positions in names do not go by time")
        return from_names(photos)
    if (track := split_track(source)) is not None:
        return from_track(photos, track, offset)
    poses = split_poses(source)
    if is_poses(poses.path):
        return from_poses(photos, poses, offset)
    if (drive := oxts_folder(source)) is not None:
        _timeless(offset, "KITTI's frames go by their numbers")
        return from_oxts(photos, drive)
    if str(source).lower().endswith((".csv", ".tsv")) or Path(source).is_file():
        return from_csv(photos, Path(source), offset=offset)
    raise InputError(
        f"positions {str(source)!r}: valid are {', '.join(WORDS)}, a CSV file, a track "
        "(.gpx, .kml, .kmz), or poses (.txt of KITTI, TUM or COLMAP, images.bin, .csv of EuRoC, KITTI's oxts)"
    )


def _timeless(offset: TimeOffset, why: str) -> None:
    if offset:
        raise InputError(f"--time-offset {offset.text}: {why}")


def _auto(photos: PhotoList, offset: TimeOffset) -> PhotoList:
    if len(photos) and all(photos.positions):
        _timeless(offset, f"the photos of {photos.name} know their positions already; give --positions")
        return photos
    if (beside := photos.root / BESIDE).is_file():
        return from_csv(photos, beside, offset=offset)
    if (drive := oxts_above(photos)) is not None:
        return from_oxts(photos, drive)
    named = [from_utm_name(photo) for photo in photos]
    if named and all(named):
        return from_names(photos)
    rest = PhotoList(
        [photo for photo, new in zip(photos, named, strict=True) if new is None],
        root=photos.root,
        name=photos.name,
    )
    told = read_metadata(rest)
    if not any(named) and not any(data.position or data.time is not None or data.zero for data in told):
        return photos
    by_key = dict(zip(rest.keys, told, strict=True))
    data = [by_key.get(photo.key, Metadata()) for photo in photos]
    new = [
        name or _of_metadata(photo, at, offset) for photo, name, at in zip(photos, named, data, strict=True)
    ]
    sources = ["names" if name else at.source for name, at in zip(named, data, strict=True)]
    zeros = [i for i, at in enumerate(data) if at.zero]
    return _placed(photos, new, sources, zeros=zeros, notes=_metadata_notes(data, offset), strict=False)


def from_metadata(photos: PhotoList, offset: TimeOffset = NO_OFFSET) -> PhotoList:
    """With the position, direction and time of EXIF, XMP and files beside photos, where they have them."""
    data = read_metadata(photos)
    new = [_of_metadata(photo, at, offset) for photo, at in zip(photos, data, strict=True)]
    zeros = [i for i, at in enumerate(data) if at.zero]
    notes = _metadata_notes(data, offset)
    return _placed(photos, new, [at.source for at in data], zeros=zeros, notes=notes, strict=False)


def from_exif(photos: PhotoList) -> PhotoList:
    """See `from_metadata`."""
    return from_metadata(photos)


def from_names(photos: PhotoList) -> PhotoList:
    """With what ``@east@north@...`` names tell.

    Raises:
        InputError: no name has this form.
    """
    new = [from_utm_name(photo) for photo in photos]
    what = "has a name that tells its position, as @east@north@zone@letter@... does"
    return _placed(photos, new, ["names"] * len(new), what=what)


def from_csv(
    photos: PhotoList,
    path: Path,
    fixes: Mapping[str, Fix] | None = None,
    offset: TimeOffset = NO_OFFSET,
) -> PhotoList:
    """With what a table tells (`positions_csv`), matched by names (`match_names`).

    Args:
        photos: the list.
        path: the file.
        fixes: what it tells, by the list's names, where it was read already.
        offset: what is to be added to the file's times.

    Raises:
        InputError: the file cannot be used, or names none of the photos.
    """
    fixes = read_positions(path) if fixes is None else fixes
    names, rows = list(fixes), list(fixes.values())
    matches = match_names([photo.name for photo in photos], names, photos.root)
    of_photo = [None if row is None else rows[row] for row in matches.rows]
    what = f"is named in {str(path)!r}, whose first name is {names[0]!r}" if names else f"is in {str(path)!r}"
    notes = []
    if matches.ambiguous:
        first = photos[matches.ambiguous[0]].name
        text = (
            f"{len(matches.ambiguous)} photos (e.g. {first!r}) share their bare name with others, and "
            f"{path.name} does not tell them apart: write their folders into it"
        )
        what += f": {text}"
        notes.append(text)
    unused = len(rows) - sum(fix is not None for fix in of_photo)
    if unused:
        notes.append(f"{path.name} tells of {unused} photos that are not in {photos.name}")
    times = [(fix.time, fix.zoned) if fix else (None, True) for fix in of_photo]
    new = [
        None if fix is None else _shifted(apply_fix(photo, fix), fix.time, fix.zoned, offset)
        for photo, fix in zip(photos, of_photo, strict=True)
    ]
    zeros = [i for i, fix in enumerate(of_photo) if fix is not None and fix.zero]
    notes += time_notes(times, offset)
    return _placed(photos, new, [path.name] * len(new), zeros=zeros, notes=notes, what=what)


def from_track(
    photos: PhotoList,
    given: TrackGiven | Path,
    offset: TimeOffset = NO_OFFSET,
) -> PhotoList:
    """With the positions of a GPS track at the photos' times (`Photo.time`, else `metadata`).

    Args:
        photos: the list.
        given: the track, and what is to be added to the photos' times (the moment of time 0 for videos).
        offset: what is to be added besides, and the zone of clocks that tell none.

    Raises:
        InputError: the file cannot be used, or no photo was taken while the track was recorded.
    """
    given = given if isinstance(given, TrackGiven) else TrackGiven(given)
    track = read_track(given.path)
    told = read_metadata(photos)
    times = [
        (photo.time, True) if photo.time not in (None, data.time) else (data.time, data.zoned)
        for photo, data in zip(photos, told, strict=True)
    ]
    at = [
        None if time is None else offset.apply(time + given.shift, zoned or given.shift != 0)
        for time, zoned in times
    ]
    new: list[Photo | None] = []
    for photo, time in zip(photos, at, strict=True):
        position = None if time is None else track.at(time, given.gap)
        new.append(None if position is None else replace(photo, position=position, time=time))
    known = [time for time in at if time is not None]
    if photos and not any(new):
        raise InputError(_no_place(photos, known, times, track, given, offset))
    notes = [*track.notes, *_why_unplaced(new, at, track, given.gap)]
    notes += time_notes(times if given.shift == 0 else [], offset, sum(data.stale for data in told))
    if given.shift and not offset.seconds and abs(given.shift) < 1e8:
        notes.append(f"{given.shift:+g} s were added to the photos' times")
    return _placed(photos, new, [given.path.name] * len(new), notes=notes)


def from_poses(photos: PhotoList, given: PosesGiven | Path, offset: TimeOffset = NO_OFFSET) -> PhotoList:
    """With the camera centres that a file of poses tells, in a plane of its own.

    Args:
        photos: the list.
        given: poses of KITTI, TUM, EuRoC or COLMAP, and which axes are east and north.
        offset: what is to be added to the photos' times, where the poses go by time.

    Raises:
        InputError: the file cannot be used, or tells of none of the photos.
    """
    given = given if isinstance(given, PosesGiven) else PosesGiven(given)
    path = given.path
    poses = read_poses(path)
    if poses.times is None:
        _timeless(offset, f"the poses of {str(path)!r} do not go by time")
    axes = given.axes or GROUND[poses.kind]
    notes = list(poses.notes)
    if off_ground(poses.centres, axes):
        notes.append(
            f"{path} extends far along the axis that is left out of {axes}: say which two are the ground, as "
            f"{path.name}:xz"
        )
    centres = centres_of(photos, poses, path, rate=given.rate, offset=offset)
    new = [
        None if centre is None else replace(photo, position=Position(*ground(centre, axes)))
        for photo, centre in zip(photos, centres, strict=True)
    ]
    return _placed(photos, new, [path.name] * len(new), notes=notes, what=f"has a pose in {str(path)!r}")


def from_oxts(photos: PhotoList, folder: Path) -> PhotoList:
    """With the readings of a raw drive of KITTI.

    Raises:
        InputError: it holds none, or photos are not named by their frames' numbers.
    """
    new = placed_by_oxts(photos, folder)
    return _placed(photos, new, ["oxts"] * len(new), what=f"has a reading in {str(folder)!r}")


def _of_metadata(photo: Photo, data: Metadata, offset: TimeOffset) -> Photo:
    told = replace(
        photo,
        position=data.position or photo.position,
        heading=data.heading if data.heading is not None else photo.heading,
    )
    return _shifted(told, data.time, data.zoned, offset)


def _shifted(photo: Photo, time: float | None, zoned: bool, offset: TimeOffset) -> Photo:
    """The photo at a time, with what is to be added to it."""
    return photo if time is None else replace(photo, time=offset.apply(time, zoned))


def _metadata_notes(data: Sequence[Metadata], offset: TimeOffset) -> list[str]:
    times = [(at.time, at.zoned) for at in data]
    return time_notes(times, offset, sum(at.stale for at in data))


def _why_unplaced(
    new: Sequence[Photo | None], times: Sequence[float | None], track: Track, gap: float
) -> list[str]:
    """Why some photos have no position by a track."""
    counts: Counter[str] = Counter()
    for photo, time in zip(new, times, strict=True):
        if time is None:
            counts["have no time"] += 1
        elif photo is None and track.times[0] <= time <= track.times[-1]:
            counts[f"fall into a gap of the track of over {gap:g} s"] += 1
        elif photo is None:
            counts["were taken before or after the track"] += 1
    return [f"{', '.join(f'{count} photos {why}' for why, count in counts.items())}"] if counts else []


def _no_place(
    photos: PhotoList,
    known: Sequence[float],
    times: Sequence[tuple[float | None, bool]],
    track: Track,
    given: TrackGiven,
    offset: TimeOffset,
) -> str:
    """Why a track tells the position of no photo, and what to type."""
    path = str(given.path)
    if not known:
        return (
            f"none of the {len(photos)} photos of {photos.name} (e.g. {photos[0].name!r}) has a time, which "
            f"the track {path!r} goes by: give a CSV file of times, or of positions"
        )
    first, last = (_utc(float(time)) for time in track.times[[0, -1]])
    if any(track.times[0] <= time <= track.times[-1] for time in known):
        why = no_time_within(f"the track {path!r}", known, track.times, given.gap)
        return f"{why} ({path}:gap=300 joins points up to 300 s apart)"
    text = (
        f"none of the {len(photos)} photos of {photos.name} (e.g. {photos[0].name!r}) has a time within the "
        f"track {path!r}, {first} to {last} UTC: they are of {_utc(min(known))} to {_utc(max(known))}"
    )
    unzoned = [time for time, zoned in times if time is not None and not zoned]
    if unzoned and offset.zone is None:
        fitting = {
            zone: sum(track.at(offset.apply(time, True) - zone, given.gap) is not None for time in unzoned)
            for zone in ZONES
        }
        best = max(fitting, key=lambda zone: (fitting[zone], -abs(zone)))
        if fitting[best]:
            return (
                f"{text}, by clocks without a time zone, taken for UTC; with --time-offset {zone_text(best)} "
                f"{fitting[best]} of them would"
            )
    return f"{text} (--time-offset SECONDS, or {path}:SECONDS, adds so many to photos' times)"


def _utc(time: float) -> str:
    try:
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return f"{time:g} s"


def _placed(
    photos: PhotoList,
    new: Sequence[Photo | None],
    sources: Sequence[str],
    *,
    zeros: Sequence[int] = (),
    notes: Sequence[str] = (),
    what: str = "",
    strict: bool = True,
) -> PhotoList:
    """The list with its new photos, and notes of what they know.

    Args:
        photos: the list as it was.
        new: the photos with what is told of them; None where nothing is.
        sources: what tells each photo's position.
        zeros: rows whose position is 0,0, and was left out already.
        notes: what else is to be said.
        what: what none of the photos has, where all lack it.
        strict: whether it is an error that no photo is told of.

    Raises:
        InputError: no photo is told of.
    """
    if strict and photos and not any(new):
        raise InputError(
            f"none of the {len(photos)} photos of {photos.name} (e.g. {photos[0].name!r}) {what}"
        )
    both = [told or old for told, old in zip(new, photos, strict=True)]
    lost = at_zero([photo.position for photo in both])
    both = [replace(photo, position=None) if i in lost else photo for i, photo in enumerate(both)]
    both, unlike = _one_plane(both)
    counts = Counter(
        source if told is not None and source else "before"
        for photo, told, source in zip(both, new, sources, strict=True)
        if photo.position is not None
    )
    lacking = [photo.name for photo in both if photo.position is None]
    origin = " and ".join(
        f"{count} from {source}" if source != "before" else f"{count} had one"
        for source, count in counts.most_common()
    )
    if len(counts) == 1 and "before" not in counts:
        origin = f"from {next(iter(counts))}"
    text = f"{photos.name}: {len(both) - len(lacking)} of {len(both)} photos have a position"
    text += f" ({origin})" if origin else ""
    if lacking and len(lacking) < len(both):
        text += (
            f"; {len(lacking)} of {len(both)} photos of {photos.name} have no position, e.g. {lacking[0]!r}"
        )
    said = [text]
    if all_zeros := {*zeros, *lost}:
        said.append(_zeros_text(photos, all_zeros))
    if unlike:
        said.append(
            f"{len(unlike)} positions are on another kind of plane (with a UTM zone, or without) than the "
            f"others, and are left out, e.g. that of {unlike[0]!r}"
        )
    extra = [
        note if note.startswith(photos.name) else f"{photos.name}: {note}" for note in (*said[1:], *notes)
    ]
    return PhotoList(
        both,
        root=photos.root,
        name=photos.name,
        notes=(*photos.notes, text, *extra),
        passed_over=photos.passed_over,
    )


def without_zeros(photos: PhotoList) -> PhotoList:
    """The list without positions that are 0,0 (`suspect.at_zero`), and a note of how many these were."""
    lost = at_zero(photos.positions)
    if not lost:
        return photos
    kept = [replace(photo, position=None) if i in lost else photo for i, photo in enumerate(photos)]
    note = f"{photos.name}: {_zeros_text(photos, lost)}"
    return PhotoList(
        kept, root=photos.root, name=photos.name, notes=(*photos.notes, note), passed_over=photos.passed_over
    )


def _zeros_text(photos: PhotoList, rows: Collection[int]) -> str:
    return (
        f"{len(rows)} positions are 0,0, which means none, and are left out, e.g. that of "
        f"{photos[min(rows)].name!r}"
    )


def _one_plane(photos: list[Photo]) -> tuple[list[Photo], list[str]]:
    """The photos without positions that cannot be compared with those of most, and the names of these."""
    zoned = Counter(photo.position.zone is not None for photo in photos if photo.position is not None)
    if len(zoned) < 2:
        return photos, []
    keep = zoned.most_common(1)[0][0]
    unlike = [p.name for p in photos if p.position is not None and (p.position.zone is not None) != keep]
    return [
        replace(p, position=None) if p.position is not None and (p.position.zone is not None) != keep else p
        for p in photos
    ], unlike
