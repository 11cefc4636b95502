"""What is in the streets on one drive only: parked and passing cars, people."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dejavlad.town.objects import PAINTS, WIDE, profile
from dejavlad.town.paint import Rng, rng_of
from dejavlad.town.plan import District, Face, Stand, Vector


def traffic(district: District, drive: str) -> tuple[list[Face], list[Stand]]:
    """The cars and people that one drive meets; the same for the same district and drive.

    Args:
        district: the streets.
        drive: the drive's name.
    """
    rng = rng_of(district.seed, "traffic", district.name, drive)
    faces: list[Face] = []
    people: list[Stand] = []
    busy = float(rng.uniform(0.3, 0.7))
    for street in district.streets:
        across = [s for s in district.streets if s.along_x != street.along_x]
        first, last = across[0].at, across[-1].at
        ahead = np.array([1.0, 0.0] if street.along_x else [0.0, 1.0])
        aside = np.array([ahead[1], -ahead[0]])
        middle = np.array([0.0, street.at] if street.along_x else [street.at, 0.0])
        for side in (-1, 1):
            way = first + 8.0
            while way < last - 8:
                way += float(rng.uniform(5.4, 7.5))
                free = min(abs(way - s.at) - s.half for s in across)
                if free > 6 and rng.random() < busy:
                    shift = side * (street.half - WIDE / 2 - 0.15)
                    kind = _kind(rng)
                    faces += car(middle + ahead * way + aside * shift, ahead * side, kind)
                if free > 3 and rng.random() < 0.3:
                    shift = side * (street.half + float(rng.uniform(0.6, 2.4)))
                    people.append(_person(rng, middle + ahead * (way + rng.normal(0, 2)) + aside * shift))
        for _ in range(int(rng.integers(0, 3))):  # passing
            way, side = float(rng.uniform(first, last)), int(rng.choice([-1, 1]))
            if street.half > 4.6 and min(abs(way - s.at) - s.half for s in across) > 5:
                faces += car(middle + ahead * way + aside * side * 1.3, ahead * side, _kind(rng))
    return faces, people


def _kind(rng: Rng) -> int:
    return int(rng.integers(len(PAINTS))) + len(PAINTS) * int(rng.random() < 0.12)


def _person(rng: Rng, place: Vector) -> Stand:
    tall = float(rng.uniform(1.55, 1.85))
    foot = np.array([place[0], place[1], 0.0])
    return Stand(foot, tall * 0.4, tall, ("person", int(rng.integers(24))))


def car(place: Vector, ahead: Vector, kind: int) -> list[Face]:
    """A car's faces: its two sides, and strips of its skin from back to front."""
    shape = profile(kind)
    long, high = shape[-1][0], max(z for _, z in shape)
    front = np.array([ahead[0], ahead[1], 0.0])
    right = np.array([ahead[1], -ahead[0], 0.0])
    up = np.array([0.0, 0.0, 1.0])
    back = np.array([place[0], place[1], 0.0]) - front * long / 2
    faces = []
    for side in (1, -1):  # the texture's front is at its right: seen so from the car's right
        start = back + right * side * WIDE / 2 + up * high
        faces.append(Face(start, front * long, -up * high, ("car", kind), solid=False, two_sided=True))
    for part, ((x0, z0), (x1, z1)) in enumerate(pairwise(shape)):
        low = back + front * x0 + up * z0
        top = back + front * x1 + up * z1
        steep = int(10 * abs(z1 - z0) / (abs(x1 - x0) + abs(z1 - z0)))
        strip = ("strip", kind, part, steep)
        if part < len(shape) // 2:  # seen from behind, its left at the car's left
            faces.append(Face(top - right * WIDE / 2, right * WIDE, low - top, strip))
        else:
            faces.append(Face(low + right * WIDE / 2, -right * WIDE, top - low, strip))
    return faces
