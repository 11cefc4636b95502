"""What stands in the street: trees, lamps, posts, railings, people and cars, painted with what is opaque.

Textures are uint8 [H, W, 4]: RGB and opacity.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dejavlad.town.facade import SIGNS
from dejavlad.town.paint import Bytes, Colour, jittered, mottle, rng_of, tinted

PAINTS: tuple[Colour, ...] = (
    (186, 186, 188),
    (40, 42, 46),
    (120, 124, 130),
    (220, 220, 216),
    (120, 30, 32),
    (38, 56, 92),
    (92, 96, 84),
)


def paint_tree(seed: int, key: int) -> Bytes:
    """A tree in leaf, 256 x 208."""
    rng = rng_of(seed, "tree", key)
    image = np.zeros((256, 208, 4), np.uint8)
    green = jittered(rng, ((74, 96, 50), (90, 104, 56), (60, 84, 52))[int(rng.integers(3))], 8)
    bark = jittered(rng, (78, 66, 54), 6)
    foot, fork = (104, 255), (104 + int(rng.integers(-6, 6)), 150)
    cv2.line(image, foot, fork, (*bark, 255), 9)
    for _ in range(7):
        end = (int(rng.normal(104, 40)), int(rng.normal(80, 30)))
        cv2.line(image, fork, end, (*bark, 255), 4, cv2.LINE_AA)
    blobs = rng.normal([104, 92], [34, 34], (26, 2))
    for layer in range(3):
        tone = (0.62, 0.9, 1.25)[layer]
        for x, y in blobs:
            for _ in range(16):
                px, py = rng.normal([x - layer * 3, y - layer * 5], 13)
                shade = tinted(green, tone * float(rng.uniform(0.8, 1.2)))
                cv2.circle(image, (int(px), int(py)), int(rng.integers(3, 8)), (*shade, 255), -1)
    return image


def paint_lamp(seed: int, key: int) -> Bytes:
    """A street lamp, 360 x 70."""
    image = np.zeros((360, 70, 4), np.uint8)
    iron = (54, 58, 58, 255)
    cv2.rectangle(image, (32, 40), (37, 359), iron, -1)
    cv2.rectangle(image, (28, 300), (41, 359), iron, -1)
    cv2.rectangle(image, (14, 34), (55, 39), iron, -1)
    cv2.fillConvexPoly(image, np.array([[20, 33], [49, 33], [55, 8], [14, 8]]), (236, 226, 190, 254))
    cv2.fillConvexPoly(image, np.array([[10, 9], [59, 9], [35, 0]]), iron)
    return image


def paint_post(seed: int, key: int) -> Bytes:
    """A traffic sign on a post (0 to 3), a bin or a bollard: 208 or 88 x 64."""
    if key >= 4:
        image = np.zeros((88, 64, 4), np.uint8)
        colour = (52, 70, 58, 255) if key == 4 else (92, 92, 92, 255)
        left, right = (12, 52) if key == 4 else (24, 40)
        cv2.rectangle(image, (left, 8), (right, 87), colour, -1)
        cv2.rectangle(image, (left, 20), (right, 28), (170, 170, 160, 255), -1)
        return image
    image = np.zeros((208, 64, 4), np.uint8)
    cv2.rectangle(image, (30, 40), (34, 207), (120, 122, 124, 255), -1)
    red, blue, white = (168, 36, 36, 255), (36, 70, 130, 255), (226, 226, 222, 255)
    if key == 0:
        cv2.circle(image, (32, 34), 30, red, -1, cv2.LINE_AA)
        cv2.rectangle(image, (12, 28), (52, 40), white, -1)
    elif key == 1:
        cv2.circle(image, (32, 34), 30, red, -1, cv2.LINE_AA)
        cv2.circle(image, (32, 34), 23, blue, -1, cv2.LINE_AA)
        cv2.line(image, (16, 18), (48, 50), red, 7)
    elif key == 2:
        cv2.rectangle(image, (4, 4), (60, 62), blue, -1)
        cv2.putText(image, "P", (14, 54), cv2.FONT_HERSHEY_DUPLEX, 1.8, white, 6)
    else:
        cv2.fillConvexPoly(image, np.array([[2, 4], [62, 4], [32, 60]]), red)
        cv2.fillConvexPoly(image, np.array([[14, 11], [50, 11], [32, 46]]), white)
    return image


def paint_railing(seed: int, key: int) -> Bytes:
    """A balcony's railing, 32 x 84."""
    rng = rng_of(seed, "railing", key)
    image = np.zeros((32, 84, 4), np.uint8)
    colour = (*((46, 46, 48), (200, 198, 190), (80, 66, 54))[int(rng.integers(3))], 255)
    if rng.random() < 0.3:
        image[4:] = colour
    image[::, :: int(rng.integers(5, 9))] = colour
    image[:4] = colour
    image[-4:] = colour
    return image


def paint_wall(seed: int, key: int) -> Bytes:
    """A garden wall, 64 x 256, nothing of it shining."""
    rng = rng_of(seed, "wall", key)
    image = np.zeros((64, 256, 4), np.uint8)
    colour = jittered(rng, ((150, 128, 108), (140, 138, 132), (136, 92, 76))[int(rng.integers(3))], 6)
    tones = rng.normal(1, 0.1, (17, 34))
    rows, columns = np.arange(64)[:, None] // 4, np.arange(256)[None]
    columns = columns + rows % 2 * 4
    tone = np.where((np.arange(64)[:, None] % 4 == 0) | (columns % 8 == 0), 0.75, tones[rows, columns // 8])
    image[..., :3] = np.clip(np.asarray(colour) * tone[..., None], 0, 255)
    image[:6, :, :3] = tinted(colour, 1.15)
    mottle(image, rng, 0.2)
    return image


def paint_person(seed: int, key: int) -> Bytes:
    """Somebody walking or standing, 180 x 72."""
    rng = rng_of(seed, "person", key)
    image = np.zeros((180, 72, 4), np.uint8)
    dark: tuple[Colour, ...] = ((48, 50, 58), (60, 54, 50), (90, 84, 74), (44, 58, 70))
    coat = jittered(
        rng, ((60, 60, 66), (120, 44, 40), (150, 140, 120), (52, 74, 96))[int(rng.integers(4))], 14
    )
    legs = jittered(rng, dark[int(rng.integers(4))], 6)
    skin = jittered(rng, ((206, 166, 140), (150, 108, 82), (110, 76, 56))[int(rng.integers(3))], 6)
    step = int(rng.integers(0, 14))
    for side in (-1, 1):
        cv2.line(image, (36 + 5 * side, 100), (36 + side * (5 + step), 174), (*legs, 255), 11)
        cv2.line(
            image, (36 + side * (5 + step), 174), (42 + side * (5 + step), 176), (*tinted(legs, 0.5), 255), 7
        )
    hem = 108 if rng.random() < 0.6 else 130
    body = np.array([[22, 34], [50, 34], [53, hem], [19, hem]])
    cv2.fillConvexPoly(image, body, (*coat, 255))
    cv2.line(image, (20, 38), (14 - step // 2, 96), (*tinted(coat, 0.8), 255), 9)
    cv2.line(image, (52, 38), (58 + step // 2, 94), (*tinted(coat, 0.7), 255), 9)
    cv2.circle(image, (36, 18), 12, (*skin, 255), -1)
    hair = tinted((70, 54, 40), float(rng.uniform(0.4, 2.0)))
    cv2.ellipse(image, (36, 14), (13, 10), 0, 160, 380, (*hair, 255), -1)
    if rng.random() < 0.4:
        cv2.rectangle(image, (56, 88), (70, 116), (*SIGNS[int(rng.integers(4))][0], 255), -1)
    return image


CAR: tuple[tuple[float, float], ...] = (
    (0.0, 0.35), (0.02, 0.95), (0.55, 1.0), (1.05, 1.45), (2.6, 1.5), (3.3, 1.0), (4.2, 0.85), (4.3, 0.35),
)  # fmt: skip
VAN: tuple[tuple[float, float], ...] = (
    (0.0, 0.4), (0.0, 1.1), (0.05, 2.1), (0.3, 2.2), (3.6, 2.2), (4.4, 1.3), (5.0, 1.15), (5.1, 0.4),
)  # fmt: skip
"""A car from its side, from the back over the top to the front: metres from the back, and up."""

WIDE = 1.75
"""A car's width in metres."""


def profile(kind: int) -> tuple[tuple[float, float], ...]:
    """The shape of a kind of car: its paint's number, and that of all paints more for a van."""
    return VAN if kind >= len(PAINTS) else CAR


def paint_car_side(seed: int, kind: int) -> Bytes:
    """A car from its side, front to the right, 40 pixels a metre."""
    shape = profile(kind)
    long, high = shape[-1][0], max(z for _, z in shape)
    h, w = round(high * 40), round(long * 40)
    image = np.zeros((h, w, 4), np.uint8)
    colour = PAINTS[kind % len(PAINTS)]

    def points(corners: list[tuple[float, float]]) -> NDArray[np.int64]:
        return np.array([[round(x * 40), round(h - z * 40)] for x, z in corners])

    cv2.fillPoly(image, [points(list(shape))], (*colour, 255))
    cv2.fillPoly(
        image, [points([(0, 0.35), (0, 0.6), (long, 0.6), (long, 0.35)])], (*tinted(colour, 0.72), 255)
    )
    glass = (38, 44, 50, 255)
    if shape is CAR:
        cv2.fillPoly(image, [points([(0.72, 1.02), (1.12, 1.38), (1.85, 1.41), (1.85, 1.02)])], glass)
        cv2.fillPoly(image, [points([(1.95, 1.02), (1.95, 1.41), (2.55, 1.42), (3.05, 1.02)])], glass)
    else:
        cv2.fillPoly(image, [points([(3.0, 1.35), (3.0, 1.95), (3.55, 1.95), (4.1, 1.35)])], glass)
    for x in (long * 0.45, long * 0.68):
        low, top = points([(x, 0.45), (x, high * 0.6)]).tolist()
        cv2.line(image, low, top, (*tinted(colour, 0.6), 255), 1)
    for x in (long * 0.2, long * 0.8):
        (cx, cy), *_ = points([(x, 0.33)]).tolist()
        cv2.circle(image, (cx, cy), 14, (24, 24, 26, 255), -1)
        cv2.circle(image, (cx, cy), 7, (130, 132, 134, 255), -1)
    return image


def paint_car_strip(seed: int, kind: int, part: int, steep: int) -> Bytes:
    """One strip of a car's skin across its width: back (part 0), front (last), glass or sheet between.

    Uint8 [40, 70, 4]: RGB, and what shines.
    """
    shape = profile(kind)
    colour = PAINTS[kind % len(PAINTS)]
    image = np.zeros((40, 70, 4), np.uint8)
    image[..., :3] = colour
    last = len(shape) - 2
    glass = (2, 4) if shape is CAR else (4,)
    if part in glass:
        image[3:37, 5:65, :3] = (44, 52, 60)
        image[3:16, 8:50, :3] = (84, 96, 106)
    elif part in (0, last):
        lights: Colour = (196, 40, 36) if part == 0 else (232, 230, 214)
        image[28:, :, :3] = tinted(colour, 0.55)
        image[8:20, 3:14] = (*lights, 200)
        image[8:20, 56:67] = (*lights, 200)
        image[24:32, 25:45, :3] = (214, 212, 196)
        if part == last:
            image[10:20, 18:52, :3] = (36, 36, 38)
    return image
