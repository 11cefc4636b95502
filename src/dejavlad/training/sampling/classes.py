"""Photos sorted into classes, and classes into groups in which all lie apart (CosPlace, EigenPlaces).

A class is a square of the ground, divided by the photos' headings (Berton et al., CVPR 2022, 3.1), or by the
point that they look at (Berton et al., ICCV 2023, 3.2). Neighbouring classes show the same things, so that no
loss may part them: classes of one group lie some squares and sectors from each other.

Legend: M photos, N squares between classes of a group, L sectors between them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dejavlad.errors import InputError
from dejavlad.photo import Photo
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.sampling.focal import bearings, faces, focal_points
from dejavlad.training.sampling.tuples import Rows

Key = tuple[str, int, int, int]
"""Of a class: UTM zone, squares east and north, sector of headings."""
LATERAL, FRONTAL = "lateral", "frontal"
FEWEST = 2
"""Classes of a group, below which there is nothing to tell apart."""


@dataclass(frozen=True, slots=True)
class ClassGroup:
    """Classes that lie apart, which one layer for each view learns to tell apart."""

    key: tuple[int, int, int]
    """Which squares and sectors: their numbers modulo N, N and L."""
    views: dict[str, dict[Key, Rows]]
    """View -> class -> numbers of its photos (int64, ascending); classes in the order of their keys. With
    headings there is one view, ``""``; with focal points these are `LATERAL` and `FRONTAL`, as far as they
    have two classes."""

    @property
    def n_classes(self) -> int:
        """Classes of all views."""
        return sum(map(len, self.views.values()))


@dataclass(frozen=True, slots=True)
class Grouping:
    """All groups of a run, and what is in none."""

    groups: tuple[ClassGroup, ...]
    """In the order in which they take turns: those with most classes first."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Why photos are in no class -> how many."""


def group_classes(photos: Sequence[Photo], config: TrainConfig, name: str = "photos") -> Grouping:
    """Sort photos into classes, and these into groups.

    Args:
        photos: with positions, and headings where classes go by them.
        config: see its ``place_size``, ``place_sector``, ``classes``, ``group_squares``, ``group_sectors``,
            ``groups``, ``class_photos``, ``focal_distance`` and ``focal_tolerance``.
        name: of the dataset, for messages.

    Raises:
        InputError: positions or headings are not known, or no group has two classes with photos enough.
    """
    by_heading = config.classes == "heading"
    needs_heading = not by_heading or config.place_sector > 0
    left_out: Counter[str] = Counter()
    squares: dict[Key, list[int]] = {}
    for number, photo in enumerate(photos):
        if photo.position is None:
            left_out["without a position"] += 1
        elif needs_heading and photo.heading is None:
            left_out["without a heading"] += 1
        else:
            squares.setdefault(_key(photo, config), []).append(number)
    if not squares:
        raise InputError(_nothing_known(name, len(photos), left_out, by_heading))
    views = {"": squares} if by_heading else _facing(photos, squares, config)
    enough = {
        view: {
            key: np.array(numbers, np.int64)
            for key, numbers in sorted(classes.items())
            if len(numbers) >= config.class_photos
        }
        for view, classes in views.items()
    }
    used = {number for classes in enough.values() for rows in classes.values() for number in rows.tolist()}
    if unused := sum(map(len, squares.values())) - len(used):
        what = "" if by_heading else ", or that face no focal point"
        left_out[f"in classes of fewer than {config.class_photos}{what}"] = unused
    groups = _groups(enough, config)
    if not groups:
        raise InputError(_too_few(name, views, enough, config))
    return Grouping(tuple(groups[: config.groups or None]), dict(left_out))


def _key(photo: Photo, config: TrainConfig) -> Key:
    at = photo.position
    assert at is not None
    sector = 0
    if config.classes == "heading" and config.place_sector:
        assert photo.heading is not None
        sector = math.floor(photo.heading / config.place_sector)
    size = config.place_size
    return at.zone or "", math.floor(at.east / size), math.floor(at.north / size), sector


def _facing(
    photos: Sequence[Photo], squares: dict[Key, list[int]], config: TrainConfig
) -> dict[str, dict[Key, list[int]]]:
    """View -> square -> its photos that look at the square's focal point of that view."""
    views: dict[str, dict[Key, list[int]]] = {LATERAL: {}, FRONTAL: {}}
    for key, numbers in squares.items():
        members = [photos[number] for number in numbers]
        positions_N2 = np.array([[photo.position.east, photo.position.north] for photo in members])  # type: ignore[union-attr]
        headings_N = np.array([photo.heading for photo in members], np.float64)
        # Of a panorama, photos in several directions may be there: it counts once for where the way goes.
        first: dict[tuple[object, ...], int] = {}
        for i, (photo, at) in enumerate(zip(members, positions_N2.tolist(), strict=True)):
            first.setdefault((photo.group, photo.time, *at), i)
        once = list(first.values())
        points = focal_points(positions_N2[once], config.focal_distance)
        for view, point_2 in zip(views, points, strict=True):
            facing_N = faces(headings_N, bearings(positions_N2, point_2), config.focal_tolerance)
            views[view][key] = [
                number for number, is_facing in zip(numbers, facing_N, strict=True) if is_facing
            ]
    return views


def _groups(enough: dict[str, dict[Key, Rows]], config: TrainConfig) -> list[ClassGroup]:
    """Groups with two classes in some view, those with most classes first."""
    groups: dict[tuple[int, int, int], dict[str, dict[Key, Rows]]] = {}
    squares = config.group_squares
    sectors = config.group_sectors if config.classes == "heading" else 1
    for view, classes in enough.items():
        for key, rows in classes.items():
            _, east, north, sector = key
            group = groups.setdefault((east % squares, north % squares, sector % sectors), {})
            group.setdefault(view, {})[key] = rows
    made = [
        ClassGroup(key, {view: classes for view, classes in views.items() if len(classes) >= FEWEST})
        for key, views in groups.items()
    ]
    return sorted((group for group in made if group.views), key=lambda group: (-group.n_classes, group.key))


def _nothing_known(name: str, n: int, left_out: Counter[str], by_heading: bool) -> str:
    if left_out["without a heading"]:
        else_type = (
            "; or sort by squares alone (--set place_sector=0 group_sectors=1)"
            if by_heading
            else "; or sort by squares alone (--config cosplace --set place_sector=0 group_sectors=1)"
        )
        return (
            f"{name}: none of {n} photos has a heading, and classes go by them. Names tell it in their ninth "
            f"field (@east@north@zone@band@lat@lon@panorama@tile@heading@...), EXIF or a positions.csv "
            f"with a column heading too{else_type}"
        )
    return (
        f"{name}: none of {n} photos has a position, and classes are squares of the ground. Names tell it "
        "(@east@north@...), EXIF or a positions.csv beside them too"
    )


def _too_few(
    name: str,
    views: dict[str, dict[Key, list[int]]],
    enough: dict[str, dict[Key, Rows]],
    config: TrainConfig,
) -> str:
    sizes = sorted((len(numbers) for classes in views.values() for numbers in classes.values()), reverse=True)
    n_enough = sum(map(len, enough.values()))
    return (
        f"{name}: no group has two classes of at least {config.class_photos} photos: {n_enough} of "
        f"{len(sizes)} classes have so many, and the largest have {', '.join(map(str, sizes[:3]))}. Take "
        f"smaller classes (--set class_photos=...), larger squares (place_size={2 * config.place_size:g}) or "
        f"denser groups (group_squares={max(1, config.group_squares // 2)})"
    )
