"""A dataset: the photos of a map, the photos to recognise, and what counts as right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.ground_truth.truth import Truth, leave_one_out, truth_positions
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.notes import without_zeros

Where = Sequence[Position | None] | NDArray[np.floating]
"""Positions, or [N, 2] metres east and north (degrees latitude and longitude if told so); NaN: not known."""

Images = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class PlaceDataset:
    """Where the photos are and what counts as right; free of any model.

    Raises:
        InputError: the truth is of other numbers of photos.
    """

    name: str
    """What the dataset is called in results."""
    database: PhotoList
    """The photos of the map."""
    queries: PhotoList
    """The photos whose place is to be recognised, in the order of the truth's rows."""
    truth: Truth | None = None
    """The right answers; None where they are not known."""
    protocol: str | None = None
    """How the truth was found, as the command writes it, e.g. ``positions:25``."""

    def __post_init__(self) -> None:
        if self.truth is None:
            return
        given = (len(self.database), len(self.queries))
        of_truth = (self.truth.n_database, self.truth.n_queries)
        if given != of_truth:
            raise InputError(
                f"{self.name}: the truth is of {of_truth[0]} database photos and {of_truth[1]} queries, "
                f"the lists hold {given[0]} and {given[1]}"
            )

    @classmethod
    def from_arrays(
        cls,
        names: Sequence[str],
        positions: Where | None = None,
        query_names: Sequence[str] | None = None,
        query_positions: Where | None = None,
        *,
        images: Images | None = None,
        query_images: Images | None = None,
        radius: float = 25.0,
        zone: str | None = None,
        degrees: bool = False,
        truth: Truth | None = None,
        root: str | Path = ".",
        name: str = "arrays",
    ) -> PlaceDataset:
        """A dataset from what is in memory.

        Args:
            names: the database's photos, paths relative to `root` (or just names, where `images` are given).
            positions: where each was taken.
            query_names: the queries; the database's photos themselves unless given, each left out of its own
                ranking.
            query_positions: where each query was taken.
            images: uint8 RGB [H, W, 3] of each database photo; read from the files unless given.
            query_images: the same of the queries.
            radius: a photo this many metres away, or fewer, is right.
            zone: UTM zone of arrays of metres, e.g. ``"33N"``.
            degrees: arrays of positions hold latitude and longitude.
            truth: the right answers, instead of those within `radius`.
            root: the folder that names are relative to.
            name: what the dataset is called.

        Raises:
            InputError: numbers of names, positions and images differ, or a position is none.
        """
        database = _listed(names, positions, images, zone, degrees, Path(root), f"{name}:database")
        if query_names is None:
            if query_positions is not None or query_images is not None:
                raise InputError("queries have positions or images but no names; give query_names")
            queries = PhotoList(database, root=root, name=f"{name}:queries")
        else:
            queries = _listed(
                query_names, query_positions, query_images, zone, degrees, Path(root), f"{name}:queries"
            )
        protocol = None
        if truth is None and any(database.positions) and any(queries.positions):
            truth, protocol = truth_positions(database, queries, radius), f"positions:{radius:g}"
            if query_names is None:
                truth, protocol = leave_one_out(truth, database, queries), f"{protocol},leave-one-out"
        return cls(name, database, queries, truth, protocol)


def _listed(
    names: Sequence[str],
    positions: Where | None,
    images: Images | None,
    zone: str | None,
    degrees: bool,
    root: Path,
    called: str,
) -> PhotoList:
    where = [None] * len(names) if positions is None else _places(positions, zone, degrees)
    pixels = [None] * len(names) if images is None else list(images)
    for what, count in (("positions", len(where)), ("images", len(pixels))):
        if count != len(names):
            raise InputError(f"{called}: {len(names)} names but {count} {what}")
    photos = (
        Photo(str(name), Path(name) if image is not None else root / name, position=at, pixels=image)
        for name, at, image in zip(names, where, pixels, strict=True)
    )
    return without_zeros(PhotoList(photos, root=root, name=called))


def _places(positions: Where, zone: str | None, degrees: bool) -> list[Position | None]:
    if not isinstance(positions, np.ndarray) and all(p is None or isinstance(p, Position) for p in positions):
        return list(positions)
    rows = np.asarray(positions, np.float64)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise InputError(f"positions are [N, 2]; given {list(rows.shape)}")
    places: list[Position | None] = []
    for a, b in rows.tolist():
        if a != a or b != b:
            places.append(None)
        else:
            places.append(utm_from_latlon(a, b) if degrees else Position(a, b, zone))
    return places
