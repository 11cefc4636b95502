"""Drives through a district: where each photo is taken, in what light, and the photo itself.

A panorama is four views from one place, a quarter turn apart; drives differ in light, weather, lane,
direction, traffic and where between the others' panoramas they stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dejavlad.town import looks
from dejavlad.town.ground import Maps, maps
from dejavlad.town.paint import Bytes, rng_of
from dejavlad.town.plan import District, Stand, plan_district
from dejavlad.town.render import Camera, Faces, draw, shapes_of
from dejavlad.town.traffic import traffic

VIEWS = 4
"""How many photos are cut from one panorama."""

SPACING = 10.0
"""Metres between the database's panoramas."""

FIRST_VIEW = 28.0
"""Degrees from the street to a panorama's first view: all of them see house fronts, and along the street."""

HEIGHT = 2.1
"""Metres of the camera, on the car's roof, above the ground."""

GPS = 1.5
"""Metres, standard deviation of each coordinate of a noted position."""

HOURS = {"noon": 12, "overcast": 10, "morning": 7, "evening": 19, "rain": 15, "fog": 8, "night": 22}


@dataclass(frozen=True)
class Drive:
    """One way through a part's streets."""

    part: str
    queries: bool
    look: str
    day: int
    """Days after the first drive."""
    backwards: bool
    """Against the route's direction, on the other side of the street."""
    stops: tuple[float, ...]
    """Metres along the route of its panoramas."""


@dataclass(frozen=True)
class Stop:
    """One stop of a drive, where a panorama is taken."""

    drive: Drive
    number: int
    east: float
    north: float
    """Where it truly is, in the district's metres."""
    noted: tuple[float, float]
    """East and north as its receiver has them."""
    headings: tuple[float, ...]
    """The headings of its views, in degrees from north, clockwise."""
    time: float
    """When it was taken, in seconds since 1970 (UTC)."""


def plan_drives(seed: int, part: str, panoramas: int) -> tuple[float, list[Drive]]:
    """The length of a part's route, and its drives: one of the database, others of the queries.

    Args:
        seed: the town's.
        part: its name.
        panoramas: how many in all.
    """
    rng = rng_of(seed, "drives", part)
    database = max(1, round(panoramas * 0.6))
    length = database * SPACING
    stops = tuple(float(SPACING * (i + 0.5)) for i in range(database))
    drives = [Drive(part, False, "noon", 0, False, stops)]
    left = panoramas - database
    order = ["evening", "rain", "night", "overcast", "morning", "fog"]
    if part != "test":
        order = [order[i] for i in rng.permutation(len(order))]
    number = int(np.clip(left // 12, min(2, left), len(order)))
    for i, look in enumerate(order[:number]):
        count = left // number + (i < left % number)
        gap = length / count
        ways = (np.arange(count) + 0.5 + rng.uniform(-0.35, 0.35, count)) * gap
        stops = tuple(float(w) for w in ways)
        drives.append(Drive(part, True, look, 9 * (i + 1), i % 2 == 0, stops))
    return length, drives


@lru_cache(maxsize=4)
def district_of(seed: int, part: str, length: float) -> tuple[District, Faces]:
    """A part's district, and its faces for drawing."""
    district = plan_district(seed, part, length)
    return district, Faces(district.faces)


def stops_of(seed: int, drive: Drive, length: float) -> list[Stop]:
    """A drive's panoramas, in the route's order."""
    district, _ = district_of(seed, drive.part, length)
    rng = rng_of(seed, "stops", drive.part, drive.look)
    lane = float(rng.uniform(0.9, 1.9))
    first = 1_714_521_600 + drive.day * 86_400 + HOURS[drive.look] * 3600
    stops = []
    for number, way in enumerate(drive.stops):
        place, ahead, _ = district.at(way)
        ahead = -ahead if drive.backwards else ahead
        aside = np.array([ahead[1], -ahead[0]])
        place = place + aside * (lane + rng.normal(0, 0.25))
        heading = np.degrees(np.arctan2(ahead[0], ahead[1])) + rng.normal(0, 4)
        turns = tuple(float((heading + FIRST_VIEW + 360 / VIEWS * v) % 360) for v in range(VIEWS))
        noted = place + rng.normal(0, GPS, 2)
        driven = length - way if drive.backwards else way
        stops.append(
            Stop(
                drive,
                number,
                float(place[0]),
                float(place[1]),
                (float(noted[0]), float(noted[1])),
                turns,
                first + round(driven / 7.0, 1),
            )
        )
    return stops


@dataclass(frozen=True)
class Scene:
    """All that a drive's photos show."""

    district: District
    houses: Faces
    cars: Faces
    stands: tuple[Stand, ...]
    look: looks.Look
    above: Maps


@lru_cache(maxsize=8)
def scene_of(seed: int, part: str, length: float, look: str) -> Scene:
    """A part as one of its drives sees it."""
    district, houses = district_of(seed, part, length)
    light = looks.LOOKS[look].varied(rng_of(seed, "weather", part, look))
    cars, people = traffic(district, look)
    above = maps(district, light.azimuth, light.elevation)
    return Scene(district, houses, Faces(cars), (*district.stands, *people), light, above)


def photo(seed: int, stop: Stop, view: int, length: float, size: tuple[int, int]) -> tuple[Bytes, int]:
    """One view: uint8 RGB [H, W, 3], and the JPEG quality of the drive's camera."""
    drive = stop.drive
    scene = scene_of(seed, drive.part, length, drive.look)
    rng = rng_of(seed, "view", drive.part, drive.look, stop.number, view)
    camera = Camera.looking(
        np.array([stop.east, stop.north, HEIGHT]),
        stop.headings[view],
        pitch=float(rng.normal(6, 1)),
        roll=float(rng.normal(0, 0.7)),
        size=size,
    )
    shapes = scene.houses.seen(camera) + scene.cars.seen(camera) + shapes_of(scene.stands, camera)
    seen = draw(camera, shapes, seed, scene.look.to_sun())
    key = f"{stop.number}/{view}"
    image = looks.looked(scene.look, scene.district, scene.above, drive.look, camera, seen, key)
    return image, scene.look.quality
