"""What a dataset holds, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dejavlad.errors import InputError
from dejavlad.geo import Positions
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.rules import truth_text
from dejavlad.ground_truth.truth import Truth
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.search import passed_over_text

ReadSize = Callable[[Photo], tuple[int, int]]
"""A photo's height and width in pixels, from its header."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The rectangle that holds the positions of one UTM zone (or plane)."""

    zone: str | None
    """The zone; None for a plane of the user's own."""
    photos: int
    """How many photos lie in it."""
    east_m: float
    """From west to east, metres."""
    north_m: float
    """From south to north, metres."""


@dataclass(frozen=True, slots=True)
class PhotosInfo:
    """The figures of one list of photos."""

    name: str
    """The name of the list."""
    root: str
    """The folder that names are relative to."""
    photos: int
    """How many photos the list holds."""
    with_position: int
    """How many of them know where they were taken."""
    with_heading: int
    """How many know which way they look."""
    with_time: int
    """How many know when they were taken."""
    groups: int
    """Panoramas, places or drives that they are of."""
    tags: dict[str, int]
    """Tag -> how many have it, commonest first."""
    extents: tuple[Extent, ...]
    """One a zone, most photos first."""
    sizes: dict[str, int]
    """``"HxW"`` -> how many of the photos looked at, commonest first."""
    looked_at: int
    """How many photos' sizes were looked at."""
    unreadable: dict[str, str]
    """Key -> reason, of those looked at that cannot be read."""
    passed_over: str = ""
    """What lay among them and was passed over, in words; empty where nothing was, or it is no folder."""
    notes: tuple[str, ...] = ()
    """What is worth telling of how the list came about."""


@dataclass(frozen=True, slots=True)
class TruthInfo:
    """The figures of the right answers of a dataset."""

    description: dict[str, Any]
    """How the right answers are defined, as plain data (`Truth.description`)."""
    queries: int
    """How many queries there are, with or without a right answer."""
    without_truth: int
    """Queries that have no right answer."""
    fewest: int
    """Right answers of a query that has any, at least."""
    median: float
    """Right answers of a query that has any, in the middle."""
    most: int
    """Right answers of a query, at most."""


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """The figures of a dataset: those of its lists, and of its right answers."""

    name: str
    """The name of the dataset."""
    database: PhotosInfo
    """The photos of the map."""
    queries: PhotosInfo
    """The figures of the photos to recognise."""
    truth: TruthInfo | None
    """The right answers; None where they are not known."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [self.name, *(str_photos(part) for part in (self.database, self.queries))]
        if self.truth is None:
            lines.append(
                "truth: not known (no positions); say --truth frames:N, same-name or positions:METRES"
            )
        else:
            truth = self.truth
            answered = truth.queries - truth.without_truth
            lines.append(
                f"right is {truth_text(truth.description)}: {answered} of {truth.queries} queries have a "
                f"right answer, {truth.fewest} to {truth.most} each (median {truth.median:g})"
            )
        return "\n".join(lines)


def dataset_info(
    dataset: PlaceDataset, *, read_size: ReadSize | None = None, sample: int = 100
) -> DatasetInfo:
    """The figures of a dataset.

    Args:
        read_size: reads a photo's size (`dejavlad.images.read_size`); sizes are not looked at unless given.
        sample: how many photos of each list are looked at for their sizes, evenly spread.
    """
    database, queries = (
        photos_info(part, read_size=read_size, sample=sample) for part in (dataset.database, dataset.queries)
    )
    truth = truth_info(dataset.truth) if dataset.truth is not None else None
    return DatasetInfo(dataset.name, database, queries, truth)


def photos_info(photos: PhotoList, *, read_size: ReadSize | None = None, sample: int = 100) -> PhotosInfo:
    """The figures of one list; arguments as of `dataset_info`."""
    if sample < 1:
        raise InputError(f"sizes are sampled from 1 photo or more; given {sample}")
    sizes: Counter[str] = Counter()
    unreadable: dict[str, str] = {}
    looked_at = min(sample, len(photos)) if read_size is not None else 0
    if read_size is not None and looked_at:
        for row in np.linspace(0, len(photos) - 1, looked_at).round().astype(int).tolist():
            try:
                height, width = read_size(photos[row])
                sizes[f"{height}x{width}"] += 1
            except InputError as error:
                unreadable[photos[row].key] = str(error)
    positions = Positions.from_list(photos.positions)
    return PhotosInfo(
        name=photos.name,
        root=str(photos.root),
        photos=len(photos),
        with_position=int(positions.known.sum()),
        with_heading=sum(photo.heading is not None for photo in photos),
        with_time=sum(photo.time is not None for photo in photos),
        groups=len({photo.group for photo in photos} - {None}),
        tags=dict(Counter(tag for photo in photos for tag in photo.tags).most_common()),
        extents=_extents(positions),
        sizes=dict(sizes.most_common()),
        looked_at=looked_at,
        unreadable=unreadable,
        notes=photos.notes,
        passed_over="" if photos.passed_over is None else passed_over_text(photos.passed_over),
    )


def truth_info(truth: Truth) -> TruthInfo:
    """The figures of the right answers."""
    counts = truth.positives.counts
    counts_with = counts[counts > 0] if truth.answerable.any() else np.zeros(1, np.int64)
    return TruthInfo(
        description=truth.description,
        queries=truth.n_queries,
        without_truth=truth.n_without_truth,
        fewest=int(counts_with.min()),
        median=float(np.median(counts_with)),
        most=int(counts_with.max()),
    )


def str_photos(info: PhotosInfo) -> str:
    """The figures of one list as a line for a terminal."""
    parts = [f"{info.name}: {info.photos} photos", f"{info.with_position} with a position"]
    parts += [
        f"{extent.east_m:.0f} x {extent.north_m:.0f} m" + (f" in zone {extent.zone}" if extent.zone else "")
        for extent in info.extents[:3]
    ]
    if info.groups:
        parts.append(f"{info.groups} groups")
    if info.tags:
        parts.append(", ".join(f"{tag} {count}" for tag, count in list(info.tags.items())[:8]))
    if info.looked_at:
        common = ", ".join(f"{size} ({count})" for size, count in list(info.sizes.items())[:3])
        parts.append(f"height x width of {info.looked_at} looked at: {common or 'none'}")
    if info.unreadable:
        parts.append(f"{len(info.unreadable)} cannot be read")
    if info.passed_over:
        parts.append(info.passed_over)
    return "\n  ".join(["; ".join(parts), *info.notes])


def _extents(positions: Positions) -> tuple[Extent, ...]:
    zones = np.array([zone or "" for zone in positions.zones], dtype=str)
    extents = []
    for zone in sorted(set(zones[positions.known].tolist())):
        points = positions.east_north[positions.known & (zones == zone)]
        east, north = np.ptp(points, axis=0).tolist()
        extents.append(Extent(zone or None, len(points), east, north))
    return tuple(sorted(extents, key=lambda extent: -extent.photos))
