"""The plan of a district: a grid of streets, houses along every block, trees, lamps, and the drives' route.

Metres on a plane of the district's own, x to the east and y to the north; headings in degrees clockwise from
north. A face is a flat patch: one corner and the two edges that leave it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dejavlad.town.facade import catalogue
from dejavlad.town.paint import Rng, rng_of

Vector = NDArray[np.float64]
Key = tuple[str | int | float, ...]
"""What a texture is painted from (see `textures.paint`)."""

DEPTH = 9.0
"""Metres from a house's front to its back."""

PAVEMENT = 2.8
"""Metres between kerb and houses."""


@dataclass(frozen=True)
class Street:
    """A straight street across the district."""

    along_x: bool
    at: float
    """Its middle: y of a street along x, x of one along y."""
    half: float
    """Metres from the middle to the kerb."""


@dataclass(frozen=True)
class Face:
    """A patch: its corner at the texture's top left, and the edges along the texture's width and height."""

    corner: Vector
    right: Vector
    down: Vector
    texture: Key
    solid: bool = True
    """Its texture's fourth channel is what shines; otherwise what is opaque."""
    two_sided: bool = False
    triangle: bool = False
    """Only the part below the lines from the middle of its top edge to its lower corners."""
    glow: float = 0.0
    """How much a face that is not solid shines at night."""


@dataclass(frozen=True)
class Stand:
    """What is drawn upright and always faces the camera: its foot, size and texture."""

    foot: Vector
    width: float
    height: float
    texture: Key
    glow: float = 0.0


@dataclass
class District:
    """The streets, houses and routes of one part of the town."""

    seed: int
    name: str
    streets: list[Street]
    faces: list[Face] = field(default_factory=list)
    stands: list[Stand] = field(default_factory=list)
    houses: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    """Ground plan and height: x0, y0, x1, y1, metres."""
    lamps: list[Vector] = field(default_factory=list)
    route: Vector = field(default_factory=lambda: np.zeros((0, 2)))
    """[corners, 2] of the way that every drive takes."""

    @property
    def length(self) -> float:
        """The length of the route in metres."""
        return float(np.linalg.norm(np.diff(self.route, axis=0), axis=1).sum())

    def at(self, way: float) -> tuple[Vector, Vector, float]:
        """Where the route is after so many metres: place, direction, and the metres to the next corner."""
        for a, b in zip(self.route[:-1], self.route[1:], strict=True):
            long = float(np.linalg.norm(b - a))
            if way <= long or b is self.route[-1]:
                return a + (b - a) * (way / long), (b - a) / long, min(way, long - way)
            way -= long
        last = self.route[-1] - self.route[-2]
        return self.route[-1], last / np.linalg.norm(last), 0.0


def plan_district(seed: int, name: str, length: float) -> District:
    """Lay out a district whose route is at least `length` metres long; the same for the same arguments."""
    rng = rng_of(seed, "plan", name)
    across = 2
    while _spans(across, across) < length / 62:
        across += 1
    up = across
    while up > 2 and _spans(across, up - 1) >= length / 62:
        up -= 1
    xs = np.cumsum(rng.uniform(66, 92, across + 2))
    ys = np.cumsum(rng.uniform(66, 92, up + 2))
    columns = [Street(False, float(x), float(rng.uniform(4.3, 5.6))) for x in xs]
    rows = [Street(True, float(y), float(rng.uniform(4.3, 5.6))) for y in ys]
    district = District(seed, name, columns + rows)
    west, east, corners = columns[1].at, columns[-2].at, []
    for i, row in enumerate(rows[1:-1]):
        ends = (west, east) if i % 2 == 0 else (east, west)
        corners += [(ends[0], row.at), (ends[1], row.at)]
    district.route = np.asarray(corners)
    number = 0
    for a, b in pairwise(columns):
        for c, d in pairwise(rows):
            block = (
                a.at + a.half + PAVEMENT,
                c.at + c.half + PAVEMENT,
                b.at - b.half - PAVEMENT,
                d.at - d.half - PAVEMENT,
            )
            number = _block(district, rng, block, number)
    for street in district.streets:
        _furnish(district, rng, street, columns, rows)
    return district


def _spans(across: int, up: int) -> int:
    """Blocks that the route passes: along each row, and up between rows."""
    return (across - 1) * up + up - 1


def _block(district: District, rng: Rng, block: tuple[float, float, float, float], number: int) -> int:
    x0, y0, x1, y1 = block
    sides = (
        ((x0, y0), (x1, y0), (0.0, -1.0), True),
        ((x1, y1), (x0, y1), (0.0, 1.0), True),
        ((x0, y1 - DEPTH), (x0, y0 + DEPTH), (-1.0, 0.0), False),
        ((x1, y0 + DEPTH), (x1, y1 - DEPTH), (1.0, 0.0), False),
    )
    for start, end, normal, corners in sides:
        a, b, n = np.asarray(start), np.asarray(end), np.asarray(normal)
        widths = list(_widths(rng, float(np.linalg.norm(b - a))))
        u = (b - a) / np.linalg.norm(b - a)
        place, heights = a.copy(), float(rng.uniform(8, 14))
        for i, width in enumerate(widths):
            ends = (corners and i == 0, corners and i == len(widths) - 1)
            if not any(ends) and rng.random() < 0.07:
                _yard(district, rng, place, u, n, width, number)
            else:
                height = float(np.clip(heights + rng.normal(0, 2), 6.5, 18))
                _house(district, rng, place, u, n, width, height, ends, number)
            place = place + u * width
            number += 1
    return number


def _widths(rng: Rng, length: float) -> Iterator[float]:
    cuts = [float(rng.uniform(6, 13))]
    while sum(cuts) < length:
        cuts.append(float(rng.uniform(6, 13)))
    yield from (c * length / sum(cuts) for c in cuts)


def _upright(place: Vector, height: float) -> Vector:
    return np.array([place[0], place[1], height])


def _house(
    district: District,
    rng: Rng,
    a: Vector,
    u: Vector,
    n: Vector,
    width: float,
    height: float,
    ends: tuple[bool, bool],
    number: int,
) -> None:
    seed, name = district.seed, district.name
    faces = district.faces
    designs = catalogue(seed)
    kind = int(rng.integers(len(designs)))
    key = (name, number)
    b, out = a + u * width, np.array([n[0], n[1], 0.0])
    along = np.array([u[0], u[1], 0.0])
    sizes = (round(width, 2), round(height, 2))
    fall = np.array([0.0, 0.0, -height])
    faces.append(Face(_upright(a, height), along * width, fall, ("facade", *key, kind, *sizes)))
    for corner, start in ((ends[0], a - n * DEPTH), (ends[1], b)):
        right = out * DEPTH if start is not b else -out * DEPTH
        side: Key = ("side", number % 3, kind, DEPTH, round(height))
        if corner:
            side = ("facade", *key, kind, DEPTH, sizes[1])
        faces.append(Face(_upright(start, height), right, fall, side))
    if rng.random() < 0.75:
        rise = float(rng.uniform(2.2, 4.0))
        eaves = _upright(a + n * 0.35, height - 0.05)
        back = -out * (DEPTH / 2 + 0.35) + np.array([0, 0, rise])
        roof: Key = ("roof", int(rng.integers(24)))
        faces.append(Face(eaves + back, along * width, -back, roof))
        top = np.array([0.0, 0.0, rise])
        for start, right in ((a - n * DEPTH, out * DEPTH), (b, -out * DEPTH)):
            gable: Key = ("gable", kind, round(rise, 1))
            faces.append(Face(_upright(start, height) + top, right, -top, gable, triangle=True))
        if rng.random() < 0.6:
            _chimney(district, rng, a, u, n, width, height + rise)
        height += rise * 0.6
    x0, x1 = sorted((float(a[0]), float((b - n * DEPTH)[0])))
    y0, y1 = sorted((float(a[1]), float((b - n * DEPTH)[1])))
    district.houses.append((x0, y0, x1, y1, height))
    if rng.random() < 0.3:  # an awning
        w = min(3.0, width - 1)
        left = a + u * float(rng.uniform(0.4, width - w - 0.4))
        cloth: Key = ("awning", int(rng.integers(12)))
        faces.append(
            Face(_upright(left, 3.2), along * w, out * 1.3 + np.array([0, 0, -0.6]), cloth, two_sided=True)
        )
    if rng.random() < 0.35:  # a sign across the pavement
        foot = a + u * float(rng.uniform(0.5, width - 0.5))
        sign: Key = ("sign", int(rng.integers(40)))
        for start, right in ((foot + n * 0.15, out), (foot + n * 1.05, -out)):
            faces.append(Face(_upright(start, 3.9), right * 0.9, np.array([0, 0, -0.7]), sign))
    if rng.random() < 0.4:
        _bays(district, rng, a, u, n, width, sizes[1], (*key, kind))


def _chimney(district: District, rng: Rng, a: Vector, u: Vector, n: Vector, width: float, top: float) -> None:
    foot = a + u * float(rng.uniform(0.1, 0.8)) * width - n * (DEPTH / 2 - 0.6)
    out, along = np.array([n[0], n[1], 0.0]), np.array([u[0], u[1], 0.0])
    fall = np.array([0.0, 0.0, -2.2])
    start = _upright(foot, top + 0.9)
    for corner, right in (
        (start, along * 1.1),
        (start + along * 1.1, -out * 0.7),
        (start - out * 0.7, out * 0.7),
    ):
        district.faces.append(Face(corner, right, fall, ("gable", 2, 1.0)))


def _bays(
    district: District, rng: Rng, a: Vector, u: Vector, n: Vector, width: float, height: float, key: Key
) -> None:
    """Balconies, or an oriel, that stand out from the front."""
    out, along = np.array([n[0], n[1], 0.0]), np.array([u[0], u[1], 0.0])
    wide = min(2.6, width * 0.4)
    left = a + u * float(rng.uniform(0.4, width - wide - 0.4))
    if rng.random() < 0.4 and height > 8:
        tall = height - 4.2 - float(rng.uniform(0.5, 2.5))
        start = _upright(left + n * 0.8, 4.0 + tall)
        fall = np.array([0.0, 0.0, -tall])
        front: Key = ("oriel", *key, round(wide, 2), round(tall, 2))
        district.faces.append(Face(start, along * wide, fall, front))
        plain: Key = ("gable", key[2], 3.0)
        district.faces.append(Face(start - out * 0.8, out * 0.8, fall, plain))
        district.faces.append(Face(start + along * wide, -out * 0.8, fall, plain))
        return
    rail: Key = ("railing", int(rng.integers(6)))
    for storey in range(1 + int(rng.integers(3))):
        z = 4.1 + 3.1 * storey
        if z > height - 2.5:
            break
        start = _upright(left + n * 0.9, z + 1.0)
        fall = np.array([0.0, 0.0, -1.0])
        district.faces.append(Face(start, along * wide, fall, rail, solid=False, two_sided=True))
        for side in (start - out * 0.9, start - out * 0.9 + along * wide):
            district.faces.append(Face(side, out * 0.9, fall, rail, solid=False, two_sided=True))
        slab: Key = ("gable", 4, 1.0)
        under = _upright(left, z)
        district.faces.append(Face(under, along * wide, out * 0.9, slab, two_sided=True))


def _yard(district: District, rng: Rng, a: Vector, u: Vector, n: Vector, width: float, number: int) -> None:
    """A gap in the row: a wall, and trees behind it."""
    along = np.array([u[0], u[1], 0.0]) * width
    wall: Key = ("wall", int(rng.integers(8)))
    high = float(rng.uniform(1.5, 2.6))
    district.faces.append(Face(_upright(a, high), along, np.array([0.0, 0.0, -high]), wall))
    for _ in range(3):
        foot = a + u * float(rng.uniform(1, width - 1)) - n * float(rng.uniform(2, 7))
        size = float(rng.uniform(5, 9))
        district.stands.append(Stand(_upright(foot, 0), size * 0.8, size, ("tree", int(rng.integers(10)))))


def _furnish(district: District, rng: Rng, street: Street, columns: list[Street], rows: list[Street]) -> None:
    """Lamps, trees, posts and bins along both pavements, away from crossings."""
    across = columns if street.along_x else rows
    first, last = across[0].at, across[-1].at
    trees = rng.random() < 0.45
    gap = float(rng.uniform(11, 17))
    for side in (-1, 1):
        line = street.at + side * (street.half + 0.6)
        for i, way in enumerate(np.arange(first, last, gap / 2)):
            way = float(way + rng.uniform(-1, 1))
            if min(abs(way - c.at) - c.half for c in across) < 4.5:
                continue
            place = np.array([way, line, 0.0] if street.along_x else [line, way, 0.0])
            if i % 4 == (0 if side > 0 else 2):
                district.stands.append(Stand(place, 1.1, 5.6, ("lamp", 0), glow=1.0))
                district.lamps.append(place)
            elif i % 2 and trees and rng.random() < 0.7:
                size = float(rng.uniform(4.5, 7.5))
                tree: Key = ("tree", int(rng.integers(10)))
                district.stands.append(Stand(place, size * 0.75, size, tree))
            elif rng.random() < 0.25:
                what = int(rng.integers(6))
                district.stands.append(Stand(place, 0.8, 2.6 if what < 4 else 1.1, ("post", what)))
