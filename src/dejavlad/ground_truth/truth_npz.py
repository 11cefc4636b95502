"""Patch-NetVLAD's ground truth: an ``.npz`` of positions and the radius within which a photo is right.

``utmQ`` [Q, 2] and ``utmDb`` [N, 2] are metres on one plane, row by row in the order of the image lists;
``posDistThr`` is the radius in metres, inclusive.

Legend: Q queries, N database photos.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.files import replacing
from dejavlad.geo import Position, Positions, latlon, utm_from_latlon
from dejavlad.ground_truth.frames import FrameRule, frames_of
from dejavlad.guarded.zip_archive import read_npz
from dejavlad.photo import PhotoList
from dejavlad.positions.diagnosis import without_zero_rows

Floats = NDArray[np.float64]

_DIRECTIONS = ((1.0, 0.0), (1.0, 1.0))
"""Steps from one row to the next where frame numbers stand in for positions."""


@dataclass(frozen=True, slots=True)
class TruthPositions:
    """Where the photos of two lists were taken, and how far apart is right.

    Raises:
        InputError: an array is not [N, 2], a position or the radius is not a finite number, or the radius is
            negative.
    """

    database: Floats
    """float64 [N, 2], east and north of the database's photos in metres."""
    queries: Floats
    """float64 [Q, 2], east and north of the queries in metres."""
    radius: float
    """Metres within which a photo is right, that distance included."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "database", _checked("the database", self.database))
        object.__setattr__(self, "queries", _checked("the queries", self.queries))
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise InputError(f"the radius is 0 metres or more; given {self.radius}")

    @classmethod
    def of_frames(cls, database: PhotoList, queries: PhotoList, rule: FrameRule) -> Self:
        """Right are the frames that a rule tells (`frames_of`): each photo lies at (its number, 0).

        Raises:
            InputError: which frames are the same is not known.
        """
        frames = frames_of(database, queries, rule)
        database_N2, queries_Q2 = (
            np.stack([numbers, np.zeros_like(numbers)], axis=1).astype(np.float64)
            for numbers in (frames.database, frames.queries)
        )
        return cls(database_N2, queries_Q2, float(rule.tolerance))

    @classmethod
    def of_photos(cls, database: PhotoList, queries: PhotoList, radius: float) -> Self:
        """From the positions of the photos.

        The file knows no UTM zones: where there are several, all positions are put on the plane of the
        commonest one, if the same photos are right there.

        Raises:
            InputError: photos have no position (how many, and the first one), only some have a zone, or no
                single plane tells the same photos right.
        """
        for called, photos in (("database", database), ("queries", queries)):
            lacking = [photo.key for photo in photos if photo.position is None]
            if lacking:
                raise InputError(
                    f"{len(lacking)} of {len(photos)} photos of the {called} have no position, first "
                    f"{lacking[0]!r}; give them with --positions (exif, utm-names or a CSV file)"
                )
        database_at, queries_at = (Positions.from_list(photos.positions) for photos in (database, queries))
        zones = Counter((*database_at.zones, *queries_at.zones))
        if len(zones) <= 1:
            return cls(database_at.east_north, queries_at.east_north, radius)
        right = database_at.within(queries_at, radius)  # refuses zones beside none
        zone = str(zones.most_common(1)[0][0])
        plane = [_on_plane(listed.positions, zone) for listed in (database, queries)]
        made = cls(plane[0], plane[1], radius)
        if not all(map(np.array_equal, made.right(), right)):
            raise InputError(
                f"the photos lie in the UTM zones {', '.join(sorted(map(str, zones)))}, and the file holds "
                f"positions on one plane: on that of {zone}, other photos would be within {radius:g} m; "
                f"use --truth positions:{radius:g} instead"
            )
        return made

    def right(self) -> list[NDArray[np.int64]]:
        """For each query the database rows at most `radius` metres away, ascending."""
        database, queries = (
            Positions(without_zero_rows(rows), [None] * len(rows)) for rows in (self.database, self.queries)
        )
        return database.within(queries, self.radius)

    @property
    def tolerance(self) -> int | None:
        """Rows within which row i is right for query i, where positions stand for frame numbers; else None.

        That is where row i of both lists lies at (i, 0), or at (i, i) as in the original's nordland file.
        """
        for step in _DIRECTIONS:
            if all(
                np.array_equal(rows, np.arange(len(rows))[:, None] * np.array(step))
                for rows in (self.database, self.queries)
            ):
                squared = sum(s * s for s in step)
                return math.isqrt(math.floor(min(self.radius, 1e9) ** 2 / squared))
        return None


def read_truth_npz(path: str | Path) -> TruthPositions:
    """Read a ground-truth file of Patch-NetVLAD.

    Raises:
        InputError: there is none, it lacks one of the three arrays, or they are not positions.
    """
    path = Path(path)
    names = ("utmDb", "utmQ", "posDistThr")
    try:
        database, queries, radius = read_npz(path, names).values()
        if radius.size != 1 or radius.dtype.kind not in "iuf":
            raise ValueError(f"posDistThr is one number, not {radius.dtype} {list(radius.shape)}")
        return TruthPositions(database, queries, float(radius.reshape(-1)[0]))
    except FileNotFoundError:
        raise InputError(f"there is no truth file {str(path)!r}") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} is no truth file of Patch-NetVLAD (.npz with utmDb [N, 2], utmQ [Q, 2] and "
            f"posDistThr): {error}"
        ) from error


def write_truth_npz(path: str | Path, truth: TruthPositions) -> Path:
    """Write a ground-truth file that Patch-NetVLAD reads; replaced whole.

    Raises:
        InputError: the name does not end in ``.npz``.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise InputError(f"a truth file's name ends in .npz; given {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez(file, utmQ=truth.queries, utmDb=truth.database, posDistThr=np.float64(truth.radius))
    return path


def _checked(called: str, given: NDArray[np.generic]) -> Floats:
    array = np.asarray(given)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iuf":
        turned = "; turn it: one row a photo" if array.ndim == 2 and array.shape[0] == 2 else ""
        raise InputError(
            f"positions of {called} are numbers [N, 2]; given {array.dtype} {list(array.shape)}{turned}"
        )
    metres = array.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(metres).all(axis=1))
    if len(wrong):
        raise InputError(
            f"{len(wrong)} of {len(metres)} positions of {called} are not finite numbers, first that of row "
            f"{wrong[0]}"
        )
    return metres


def _on_plane(positions: list[Position | None], zone: str) -> Floats:
    placed = np.empty((len(positions), 2))
    for i, position in enumerate(positions):
        if position is not None and position.zone != zone:
            position = utm_from_latlon(*latlon(position), zone=zone)
        placed[i] = (position.east, position.north) if position is not None else np.nan
    return placed
