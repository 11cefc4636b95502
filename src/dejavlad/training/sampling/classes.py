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
from dataclasses import dataclass, field, replace

import numpy as np

from dejavlad.errors import InputError
from dejavlad.ground_truth import PlaceDataset
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.photo import View
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.sampling.focal import Floats, bearings, faces, focal_points
from dejavlad.training.sampling.squares import Square, square_of
from dejavlad.training.sampling.tuples import Rows

LATERAL, FRONTAL = "lateral", "frontal"
FIELD_OF_VIEW = 55.4
"""Degrees that a view cut of a panorama reaches from left to right, as 512 of SF-XL's 3328 pixels do."""
EXACTLY = 0.01
"""Degrees by which a view that was cut may look past its point."""
FEWEST = 2
"""Classes of a group, below which there is nothing to tell apart."""


@dataclass(frozen=True, slots=True)
class ClassGroup:
    """Classes that lie apart, which one layer for each view learns to tell apart."""

    key: tuple[int, int, int]
    """Which squares and sectors: their numbers modulo N, N and L."""
    views: dict[str, dict[Square, Rows]]
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
    n_photos: int = 0
    """How many there are in all."""


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
    left_out: Counter[str] = Counter()
    squares: dict[Square, list[int]] = {}
    for number, photo in enumerate(photos):
        if (square := square_of(photo, config)) is not None:
            squares.setdefault(square, []).append(number)
        else:
            left_out["without a position" if photo.position is None else "without a heading"] += 1
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
    return Grouping(tuple(groups[: config.groups or None]), dict(left_out), len(photos))


def cut_focal_views(photos: Sequence[Photo], config: TrainConfig) -> list[Photo]:
    """Of panoramas, the views of the focal points of their squares: two each, or one where both are the same.

    Photos without a position or heading are left out, views that are cut already stay as they are.
    """
    cut = [photo for photo in photos if photo.view is not None]
    whole = [
        replace(photo, group=photo.group or photo.key)
        for photo in photos
        if photo.view is None and None not in (photo.position, photo.heading)
    ]
    squares: dict[Square | None, list[int]] = {}
    for number, photo in enumerate(whole):
        squares.setdefault(square_of(photo, config), []).append(number)
    views: dict[int, list[Photo]] = {}
    for numbers in squares.values():
        members = [whole[number] for number in numbers]
        positions_N2 = _positions(members)
        for point_2 in _focal_points(members, positions_N2, config):
            bearing_N = bearings(positions_N2, point_2)
            for number, photo, bearing in zip(numbers, members, bearing_N.tolist(), strict=True):
                if not math.isnan(bearing):
                    views.setdefault(number, []).append(_towards(photo, bearing))
    made = [view for number in range(len(whole)) for view in views.get(number, [])]
    return cut + list({view.key: view for view in made}.values())


def with_focal_views(dataset: PlaceDataset, config: TrainConfig) -> PlaceDataset:
    """What is learnt from: the dataset, or where views are to be cut of panoramas, these views.

    Raises:
        InputError: a heading or position of every photo is unknown.
    """
    if config.mining != "classes" or config.classes != "focal" or config.focal_views != "cut":
        return dataset
    photos = [*dataset.queries, *dataset.database]
    views = cut_focal_views(photos, config)
    if not views:
        known = Counter({"without a heading": sum(photo.position is not None for photo in photos)})
        raise InputError(_nothing_known(dataset.name, len(photos), known, by_heading=False))
    database = dataset.database.like(views)
    return PlaceDataset(dataset.name, database, PhotoList([], root=database.root, name=dataset.queries.name))


def in_groups(dataset: PlaceDataset, config: TrainConfig) -> tuple[PlaceDataset, Grouping | None]:
    """What classes are learnt from, so that nothing is looked at in vain: of a city, eight of fifty groups.

    `group_classes` makes the same groups of it.

    Returns:
        The dataset (or the views of its panoramas) without photos of squares of no group, and the groups by
        the photos' numbers before; the dataset itself and None where no classes are learnt.

    Raises:
        InputError: as `group_classes`.
    """
    if config.mining != "classes":
        return dataset, None
    dataset = with_focal_views(dataset, config)
    grouping = group_classes([*dataset.queries, *dataset.database], config, dataset.name)
    keys = {key for group in grouping.groups for classes in group.views.values() for key in classes}
    queries, database = (
        photos.take([row for row, photo in enumerate(photos) if square_of(photo, config) in keys])
        for photos in (dataset.queries, dataset.database)
    )
    return PlaceDataset(dataset.name, database, queries), grouping


def _towards(panorama: Photo, bearing: float) -> Photo:
    assert panorama.heading is not None
    yaw = round((bearing - panorama.heading) % 360, 6) % 360
    return replace(panorama, view=View(yaw, FIELD_OF_VIEW), heading=(panorama.heading + yaw) % 360)


def _focal_points(
    members: Sequence[Photo], positions_N2: Floats, config: TrainConfig
) -> tuple[Floats, Floats]:
    """Of the photos of a square: those of one panorama count once for where the way goes."""
    first: dict[tuple[object, ...], int] = {}
    for i, (photo, at) in enumerate(zip(members, positions_N2.tolist(), strict=True)):
        first.setdefault((photo.group, photo.time, *at), i)
    return focal_points(positions_N2[list(first.values())], config.focal_distance)


def _positions(members: Sequence[Photo]) -> Floats:
    return np.array([[photo.position.east, photo.position.north] for photo in members])  # type: ignore[union-attr]


def _facing(
    photos: Sequence[Photo], squares: dict[Square, list[int]], config: TrainConfig
) -> dict[str, dict[Square, list[int]]]:
    """View -> square -> its photos that look at the square's focal point of that view."""
    tolerance = config.focal_tolerance if config.focal_views == "choose" else EXACTLY
    views: dict[str, dict[Square, list[int]]] = {LATERAL: {}, FRONTAL: {}}
    for key, numbers in squares.items():
        members = [photos[number] for number in numbers]
        positions_N2 = _positions(members)
        headings_N = np.array([photo.heading for photo in members], np.float64)
        points = _focal_points(members, positions_N2, config)
        for view, point_2 in zip(views, points, strict=True):
            facing_N = faces(headings_N, bearings(positions_N2, point_2), tolerance)
            views[view][key] = [
                number for number, is_facing in zip(numbers, facing_N, strict=True) if is_facing
            ]
    return views


def _groups(enough: dict[str, dict[Square, Rows]], config: TrainConfig) -> list[ClassGroup]:
    """Groups with two classes in some view, those with most classes first."""
    groups: dict[tuple[int, int, int], dict[str, dict[Square, Rows]]] = {}
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
        recipe = "" if by_heading else "--config cosplace "
        return (
            f"{name}: none of {n} photos has a heading, and classes go by them. Names tell it in their ninth "
            f"field (@east@north@zone@band@lat@lon@panorama@tile@heading@...), EXIF or a positions.csv "
            f"with a column heading too; or sort by squares alone ({recipe}--set place_sector=0 "
            "group_sectors=1)"
        )
    return (
        f"{name}: none of {n} photos has a position, and classes are squares of the ground. Names tell it "
        "(@east@north@...), EXIF or a positions.csv beside them too"
    )


def _too_few(
    name: str,
    views: dict[str, dict[Square, list[int]]],
    enough: dict[str, dict[Square, Rows]],
    config: TrainConfig,
) -> str:
    sizes = sorted((len(numbers) for classes in views.values() for numbers in classes.values()), reverse=True)
    second = max([2, *sizes[1:2]])
    n_enough = sum(map(len, enough.values()))
    return (
        f"{name}: no group has two classes of at least {config.class_photos} photos: {n_enough} of "
        f"{len(sizes)} classes have so many, and the largest have {', '.join(map(str, sizes[:3]))}. Take "
        f"smaller classes (--set class_photos={second}), larger squares "
        f"(place_size={2 * config.place_size:g}) or denser groups "
        f"(group_squares={max(1, config.group_squares // 2)})"
    )
