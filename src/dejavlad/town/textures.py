"""Textures by key, painted when first seen, kept in halving sizes so that what is far does not flicker."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from dejavlad.town import objects
from dejavlad.town.facade import _surface, catalogue, paint_awning, paint_facade, paint_roof, paint_shop_sign
from dejavlad.town.paint import PER_METRE, Bytes, canvas, mottle, rng_of
from dejavlad.town.plan import Key


def pyramid(seed: int, key: Key) -> tuple[Bytes, ...]:
    """A texture, each next one half as wide and high; with opacity, colours are multiplied by it."""
    return _fronts(seed, key) if key[0] == "facade" else _others(seed, key)


@lru_cache(maxsize=300)
def _fronts(seed: int, key: Key) -> tuple[Bytes, ...]:
    return _pyramid(seed, key)


@lru_cache(maxsize=1000)
def _others(seed: int, key: Key) -> tuple[Bytes, ...]:
    return _pyramid(seed, key)


def _pyramid(seed: int, key: Key) -> tuple[Bytes, ...]:
    image = paint(seed, key)
    if key[0] in OPACITY:
        image = image.copy()
        image[..., :3] = (image[..., :3].astype(np.uint16) * image[..., 3:] // 255).astype(np.uint8)
    levels = [image]
    while min(levels[-1].shape[:2]) > 3 and len(levels) < 7:
        h, w = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], (max(2, w // 2), max(2, h // 2)), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, np.uint8))
    return tuple(levels)


ORIEL_FOOT = 4.2
"""Metres of a house's front below its oriel."""
OPACITY = {"tree", "lamp", "post", "railing", "person", "car"}
"""Textures whose fourth channel is opacity."""


def paint(seed: int, key: Key) -> Bytes:
    """The texture that a key stands for."""
    what, rest = key[0], key[1:]
    numbers = [int(n) for n in rest if not isinstance(n, str)]
    if what in ("facade", "side", "oriel"):
        *house, kind, width, height = rest
        number = int(house[0]) if what == "side" else rng_key(str(house[0]), int(house[1]))
        below = ORIEL_FOOT if what == "oriel" else 0.0
        image = paint_facade(
            seed,
            number,
            catalogue(seed)[int(kind)],
            float(width),
            float(height) + below,
            street=what != "side",
        )
        return image[: round(float(height) * PER_METRE)] if below else image
    if what == "gable":
        design = catalogue(seed)[numbers[0]]
        image = canvas(3, 6, design.colour)
        _surface(image, rng_of(seed, "gable", *numbers), design.wall, design.colour)
        mottle(image, rng_of(seed, "gable", *numbers), 0.15)
        return image
    if what == "car":
        return objects.paint_car_side(seed, numbers[0])
    if what == "strip":
        return objects.paint_car_strip(seed, *numbers)
    return PAINTERS[str(what)](seed, numbers[0])


def rng_key(name: str, number: int) -> int:
    """One number for a house of a part."""
    return int(rng_of(name, number).integers(2**31))


PAINTERS = {
    "roof": paint_roof,
    "awning": paint_awning,
    "sign": paint_shop_sign,
    "wall": objects.paint_wall,
    "railing": objects.paint_railing,
    "tree": objects.paint_tree,
    "lamp": objects.paint_lamp,
    "post": objects.paint_post,
    "person": objects.paint_person,
}
