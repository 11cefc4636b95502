"""Facades: a catalogue of designs that recur all over the town, and one painted wall for each house.

Designs, colours, shop names and signs are few and come back in every street, so that neither colour nor a
single window tells a place; what does is which stand beside which, and where.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from dejavlad.town.paint import (
    PER_METRE,
    Bytes,
    Colour,
    Rng,
    box,
    canvas,
    jittered,
    mottle,
    rng_of,
    tinted,
    words,
)

WALLS: tuple[Colour, ...] = (
    (205, 194, 172),
    (190, 170, 140),
    (178, 120, 96),
    (150, 92, 74),
    (200, 198, 190),
    (168, 162, 150),
    (212, 186, 140),
    (172, 178, 170),
)
TRIMS: tuple[Colour, ...] = ((228, 224, 214), (206, 196, 178), (120, 108, 96), (88, 84, 82))
SHUTTERS: tuple[Colour, ...] = ((70, 92, 78), (92, 66, 52), (80, 92, 110), (150, 146, 138))
SIGNS: tuple[tuple[Colour, Colour], ...] = (
    ((40, 62, 50), (232, 222, 190)),
    ((122, 34, 34), (240, 232, 220)),
    ((36, 44, 74), (236, 226, 160)),
    ((226, 218, 196), (60, 44, 36)),
    ((42, 40, 40), (228, 228, 228)),
)
NAMES = (
    "BAKERY", "CAFE", "HOTEL", "BOOKS", "PHARMACY", "FLORIST", "BANK", "BARBER", "TAILOR", "MARKET", "BISTRO",
    "SHOES", "OPTICS", "TOYS", "WINE", "PIZZA", "TRAVEL", "CLOCKS", "CINEMA", "MUSIC", "FISH", "TEA ROOM",
)  # fmt: skip
FONTS = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)
GLASS: Colour = (58, 66, 74)
DESIGNS = 16
"""Designs of facades in a town."""
BONDS = {"brick": (5, 12, 0.09, 1.22), "stone": (16, 32, 0.06, 0.78)}
"""Walls laid in rows: height and length of a stone in pixels, spread of their tones, tone of the joints."""


@dataclass(frozen=True)
class Design:
    """How a kind of house is built; lengths in metres."""

    wall: str
    colour: Colour
    trim: Colour
    storey: float
    ground: float
    pane: str
    window: tuple[float, float]
    pitch: float
    shutters: Colour | None
    head: str
    courses: bool
    quoins: bool
    plinth: bool


@lru_cache(maxsize=4)
def catalogue(seed: int) -> tuple[Design, ...]:
    """The designs of facades that the houses of a town choose from."""
    rng = rng_of(seed, "catalogue")
    designs = []
    for i in range(DESIGNS):
        wall = ("plaster", "brick", "stone", "panels")[i % 4] if i < 12 else "plaster"
        colour = WALLS[int(rng.integers(2, 4))] if wall == "brick" else WALLS[int(rng.integers(len(WALLS)))]
        designs.append(
            Design(
                wall,
                jittered(rng, colour, 5),
                TRIMS[int(rng.integers(len(TRIMS)))],
                float(rng.uniform(2.8, 3.5)),
                float(rng.uniform(3.3, 4.2)),
                str(rng.choice(["plain", "cross", "sash", "grid", "pair"])),
                (float(rng.uniform(0.9, 1.5)), float(rng.uniform(1.3, 2.0))),
                float(rng.uniform(2.1, 3.3)),
                SHUTTERS[int(rng.integers(len(SHUTTERS)))] if rng.random() < 0.3 else None,
                str(rng.choice(["none", "lintel", "arch", "pediment"])),
                bool(rng.random() < 0.5),
                bool(rng.random() < 0.35),
                bool(rng.random() < 0.6),
            )
        )
    return tuple(designs)


def paint_facade(
    seed: int, key: int, design: Design, width: float, height: float, *, street: bool = True
) -> Bytes:
    """A house's wall, uint8 [H, W, 4]: RGB and, fourth, what shines at night (0 to 255).

    Args:
        seed: the town's.
        key: the house's.
        design: one of the catalogue.
        width, height: in metres.
        street: with door or shop; otherwise a side, with few windows.
    """
    rng = rng_of(seed, "facade", key, int(street))
    colour = jittered(rng, design.colour, 9)
    image = canvas(height, width, colour)
    _surface(image, rng, design.wall, colour)
    if not street:
        _side(image, rng, design, width, height)
        _weather(image, rng)
        return image
    if design.quoins:
        for i in range(int(height / 0.5)):
            long = 0.55 if i % 2 else 0.35
            tone = tinted(design.trim, float(rng.uniform(0.9, 1.0)))
            box(image, 0, i * 0.5, long, 0.46, tone)
            box(image, width - long, i * 0.5, long, 0.46, tone)
    storeys = max(1, int((height - design.ground - 0.3) / design.storey))
    columns = max(2, round((width - 0.6) / design.pitch))
    centres = (np.arange(columns) + 0.5) * (width / columns)
    lit = float(rng.uniform(0.1, 0.5))
    odd = int(rng.integers(columns)) if rng.random() < 0.5 else -1
    for s in range(storeys):
        foot = design.ground + s * design.storey
        if design.courses:
            box(image, 0, foot - 0.12, width, 0.2, design.trim)
            box(image, 0, foot - 0.18, width, 0.06, tinted(colour, 0.7))
        w, h = design.window
        h = min(h * (1.15 if s == 0 else 1.0), design.storey - 0.9)
        for c, centre in enumerate(centres):
            if c == odd and s % 2:
                continue
            _window(image, rng, design, centre - w / 2, foot + 0.75, w, h, lit)
    _ground_floor(image, rng, design, width, colour, centres)
    box(image, 0, height - 0.35, width, 0.35, design.trim)
    box(image, 0, height - 0.45, width, 0.1, tinted(colour, 0.6))
    for x in np.arange(0.2, width, 0.6) if rng.random() < 0.4 else ():
        box(image, float(x), height - 0.6, 0.2, 0.24, tinted(design.trim, 0.85))
    _extras(image, rng, width, height, design.ground)
    _weather(image, rng)
    return image


def paint_shop_sign(seed: int, key: int) -> Bytes:
    """A sign that stands out from the wall, 0.9 x 0.7 m; RGB and what shines."""
    rng = rng_of(seed, "sign", key)
    back, front = SIGNS[int(rng.integers(len(SIGNS)))]
    image = canvas(0.7, 0.9, back)
    image[..., 3] = 120
    words(image, str(rng.choice(NAMES)), 0.08, 0.15, 0.74, 0.4, front, FONTS[int(rng.integers(3))])
    box(image, 0, 0, 0.9, 0.05, front)
    box(image, 0, 0.65, 0.9, 0.05, front)
    return image


def paint_awning(seed: int, key: int) -> Bytes:
    """Striped or plain cloth, 1 x 3 m."""
    rng = rng_of(seed, "awning", key)
    back, front = SIGNS[int(rng.integers(len(SIGNS)))]
    image = canvas(1.0, 3.0, back)
    if rng.random() < 0.6:
        for x in np.arange(0, 3, 0.5):
            box(image, float(x), 0, 0.25, 1, front)
    mottle(image, rng, 0.15)
    return image


def paint_roof(seed: int, key: int) -> Bytes:
    """Tiles or slates, 5 x 8 m, with a skylight now and then."""
    rng = rng_of(seed, "roof", key)
    colour = ((128, 74, 58), (96, 92, 94), (110, 84, 70), (84, 80, 78))[int(rng.integers(4))]
    image = canvas(5.0, 8.0, jittered(rng, colour, 8))
    for y in range(0, image.shape[0], 10):
        image[y : y + 2, :, :3] = tinted(colour, 0.7)
        image[y + 2 : y + 10, (y // 10 % 2) * 5 :: 10, :3] = tinted(colour, 0.82)
    for _ in range(int(rng.integers(0, 3))):
        x = float(rng.uniform(0.5, 6.5))
        box(image, x, 2.0, 1.0, 1.3, (150, 150, 150))
        box(image, x + 0.1, 2.1, 0.8, 1.1, (70, 86, 100), 60)
    mottle(image, rng, 0.25)
    return image


def _surface(image: Bytes, rng: Rng, wall: str, colour: Colour) -> None:
    if wall in BONDS:
        h, w = image.shape[:2]
        high, long, rough, joint_tone = BONDS[wall]
        tones = rng.normal(1, rough, (h // high + 1, w // long + 2))
        rows = np.arange(-(-h // high))[:, None]
        shifted = np.arange(w) + (rows % 2) * (long // 2)
        tone = np.where(shifted % long == 0, joint_tone, tones[rows, shifted // long])
        stones = np.clip(np.asarray(colour) * tone[..., None], 0, 255).astype(np.uint8)
        image[..., :3] = np.repeat(stones, high, axis=0)[:h]
        image[::high, :, :3] = tinted(colour, joint_tone)
    elif wall == "panels":
        wide, high = int(rng.integers(40, 90)), int(rng.integers(40, 90))
        image[::high, :, :3] = tinted(colour, 0.7)
        image[:, ::wide, :3] = tinted(colour, 0.7)


def _window(
    image: Bytes, rng: Rng, design: Design, x: float, y: float, w: float, h: float, lit: float
) -> None:
    trim = design.trim
    if design.shutters is not None:
        for side in (x - w / 2 - 0.06, x + w + 0.06):
            box(image, side, y, w / 2, h, tinted(design.shutters, float(rng.uniform(0.9, 1.1))))
            for slat in np.arange(0.08, h - 0.05, 0.12):
                box(image, side + 0.05, y + float(slat), w / 2 - 0.1, 0.04, tinted(design.shutters, 0.7))
    box(image, x - 0.12, y - 0.12, w + 0.24, h + 0.24, trim)
    box(image, x, y, w, h, tinted(trim, 0.45))
    _glass(image, rng, x + 0.05, y + 0.05, w - 0.1, h - 0.15, lit)
    frame = tinted(trim, 1.05) if sum(trim) > 400 else (214, 210, 202)
    bars: list[tuple[float, float, float, float]] = []
    if design.pane in ("cross", "pair", "grid"):
        bars.append((x + w / 2 - 0.04, y, 0.08, h - 0.1))
    if design.pane in ("cross", "sash"):
        at = 0.68 if design.pane == "cross" else 0.5
        bars.append((x, y + h * at, w, 0.08))
    if design.pane == "grid":
        bars += [(x, y + h * k / 4, w, 0.05) for k in (1, 2, 3)]
    bars += [(x, y, 0.06, h - 0.1), (x + w - 0.06, y, 0.06, h - 0.1), (x, y, w, 0.06)]
    for bar in bars:
        box(image, *bar, frame)
    box(image, x - 0.2, y - 0.22, w + 0.4, 0.1, tinted(trim, 1.08))
    box(image, x - 0.2, y - 0.3, w + 0.4, 0.08, tinted(trim, 0.5))
    if design.head == "lintel":
        box(image, x - 0.2, y + h + 0.12, w + 0.4, 0.16, tinted(trim, 0.92))
        box(image, x - 0.2, y + h + 0.08, w + 0.4, 0.05, tinted(trim, 0.6))
    elif design.head in ("arch", "pediment"):
        n = image.shape[0]
        left, right = (x - 0.2) * PER_METRE, (x + w + 0.2) * PER_METRE
        foot = n - (y + h + 0.12) * PER_METRE
        rise = 0.38 * PER_METRE
        if design.head == "arch":
            middle = (round((left + right) / 2), round(foot))
            cv2.ellipse(image, middle, (round((right - left) / 2), round(rise)), 0, 180, 360, (*trim, 0), -1)
        else:
            corners = np.array([[left, foot], [(left + right) / 2, foot - rise], [right, foot]], np.int32)
            cv2.fillConvexPoly(image, corners, (*trim, 0))
            cv2.polylines(image, [corners], True, (*tinted(trim, 0.6), 0), 2)


def _glass(image: Bytes, rng: Rng, x: float, y: float, w: float, h: float, lit: float) -> None:
    shines = rng.random() < lit
    glow = int(rng.integers(110, 230)) if shines else 0
    tone = float(rng.uniform(0.6, 1.5))
    box(image, x, y, w, h, tinted(GLASS, tone), glow)
    what = rng.random()
    if what < 0.3:  # curtains at the sides
        part = w * float(rng.uniform(0.15, 0.35))
        for side in (x, x + w - part):
            box(image, side, y, part, h, tinted((186, 180, 168), float(rng.uniform(0.7, 1.0))), glow // 2)
    elif what < 0.5:  # a blind
        down = h * float(rng.uniform(0.2, 0.9))
        box(image, x, y + h - down, w, down, tinted((170, 164, 150), float(rng.uniform(0.7, 1.1))), glow // 2)
    else:  # the sky in the upper panes
        box(image, x, y + h * 0.55, w, h * 0.45, tinted((104, 118, 132), tone), glow)
    if rng.random() < 0.12:
        box(image, x + w * 0.1, y, w * 0.8, 0.3, (64, 96, 52), 0)


def _door(image: Bytes, rng: Rng, x: float, w: float, h: float, trim: Colour) -> None:
    colour = jittered(rng, ((70, 48, 38), (44, 62, 52), (52, 58, 78), (110, 40, 36))[int(rng.integers(4))], 6)
    box(image, x - 0.15, 0, w + 0.3, h + 0.5, trim)
    box(image, x, 0.1, w, h - 0.1, colour)
    box(image, x, h, w, 0.38, (64, 70, 76), 140)
    for row in range(3):
        for column in range(2):
            left, foot = x + 0.1 + column * w / 2, 0.3 + row * (h - 0.3) / 3
            box(image, left, foot, w / 2 - 0.18, (h - 0.3) / 3 - 0.15, tinted(colour, 0.72))
    box(image, x + w / 2 - 0.02, 0.1, 0.04, h - 0.1, tinted(colour, 0.5))
    box(image, x - 0.25, 0, w + 0.5, 0.12, (140, 136, 130))


def _ground_floor(
    image: Bytes, rng: Rng, design: Design, width: float, colour: Colour, centres: np.ndarray
) -> None:
    top = design.ground
    if design.plinth:
        box(image, 0, 0, width, 0.7, tinted(colour, 0.62))
    kind = rng.random()
    if kind < 0.5 and width > 5:
        _shop(image, rng, width, top)
    elif kind < 0.62:
        box(image, 0.4, 0, width - 0.8, top - 0.6, tinted(colour, 0.85))
        n = max(1, int((width - 1) / 3))
        tone = jittered(rng, (128, 128, 126), 14)
        for i in range(n):  # garage doors
            left = 0.6 + i * (width - 1.2) / n
            box(image, left, 0, (width - 1.2) / n - 0.3, 2.5, tone)
            for y in np.arange(0.2, 2.4, 0.25):
                box(image, left, float(y), (width - 1.2) / n - 0.3, 0.05, tinted(tone, 0.7))
    else:
        at = int(rng.integers(len(centres)))
        w, h = design.window
        for c, centre in enumerate(centres):
            if c == at:
                _door(image, rng, float(centre) - 0.6, 1.2, 2.3, design.trim)
            else:
                _window(image, rng, design, centre - w / 2, 0.95, w, min(h, top - 1.9), 0.3)


def _shop(image: Bytes, rng: Rng, width: float, top: float) -> None:
    back, front = SIGNS[int(rng.integers(len(SIGNS)))]
    frame = tinted(back, 0.8)
    box(image, 0.25, 0, width - 0.5, top - 0.3, frame)
    door = float(rng.choice([0.5, width / 2 - 0.55, width - 1.7]))
    edges = [0.5, door - 0.2, door + 1.3, width - 0.5]
    for left, right in ((edges[0], edges[1]), (edges[2], edges[3])):
        n = max(1, round((right - left) / 2.2))
        if right - left < 0.7:
            continue
        for i in range(n):
            x, w = left + i * (right - left) / n, (right - left) / n - 0.12
            box(image, x, 0.5, w, top - 1.7, tinted(GLASS, float(rng.uniform(0.8, 1.5))), 200)
            for _ in range(int(rng.integers(3, 9))):  # wares
                px, pw = x + float(rng.uniform(0, max(0.05, w - 0.5))), float(rng.uniform(0.15, 0.5))
                tone = jittered(rng, (150, 130, 110), 45)
                box(image, px, 0.5 + float(rng.choice([0, 0.7])), pw, float(rng.uniform(0.2, 0.6)), tone, 150)
            box(image, x, 0.5 + (top - 1.7) * 0.72, w, 0.06, frame)
    box(image, door, 0.05, 1.1, 2.3, tinted(back, 1.2))
    box(image, door + 0.15, 0.4, 0.8, 1.8, (70, 78, 84), 190)
    box(image, 0.25, top - 1.0, width - 0.5, 0.75, back, 60)
    box(image, 0.25, top - 1.04, width - 0.5, 0.05, tinted(front, 0.8))
    text = str(rng.choice(NAMES))
    if rng.random() < 0.25:
        text += f" {int(rng.integers(2, 99))}"
    long = min(width - 1.2, 0.42 * len(text) + 0.6)
    left = float(rng.choice([0.6, (width - long) / 2]))
    words(image, text, left, top - 0.88, long, 0.5, front, FONTS[int(rng.integers(3))])


def _side(image: Bytes, rng: Rng, design: Design, width: float, height: float) -> None:
    for s in range(int((height - 1) / design.storey)):
        for x in np.arange(1.5, width - 1.5, 3.5):
            if rng.random() < 0.35:
                w, h = design.window
                _window(image, rng, design, float(x), 1.2 + s * design.storey, w * 0.8, min(h, 1.3), 0.3)


def _extras(image: Bytes, rng: Rng, width: float, height: float, top: float) -> None:
    if rng.random() < 0.6:  # a drain pipe
        x = float(rng.choice([0.1, width - 0.25]))
        box(image, x, 0.1, 0.12, height - 0.5, (96, 94, 90))
        box(image, x + 0.12, 0.1, 0.05, height - 0.5, (60, 58, 56))
    if rng.random() < 0.35:  # graffiti
        n = image.shape[0]
        colour = jittered(rng, ((60, 60, 70), (120, 50, 60), (50, 80, 120))[int(rng.integers(3))], 10)
        start = np.array([rng.uniform(0.5, max(0.6, width - 2.5)) * PER_METRE, n - 1.2 * PER_METRE])
        steps = np.cumsum(rng.normal([4, 0], [5, 12], (14, 2)), axis=0)
        cv2.polylines(image, [(start + steps).astype(np.int32)], False, (*colour, 0), 3, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 4))):  # posters, plates, boxes
        x, y = float(rng.uniform(0.3, width - 0.9)), float(rng.uniform(0.9, 2.0))
        tone = jittered(rng, (190, 180, 160), 40)
        w, h = float(rng.uniform(0.25, 0.6)), float(rng.uniform(0.3, 0.8))
        box(image, x, y, w, h, tone)
        box(image, x + 0.05, y + h * 0.6, w - 0.1, 0.06, tinted(tone, 0.4))
        box(image, x + 0.05, y + h * 0.3, w - 0.1, 0.06, tinted(tone, 0.5))
    if rng.random() < 0.3:  # a cooling box
        x, y = float(rng.uniform(0.5, width - 1.2)), top + float(rng.uniform(0.1, max(0.2, height - top - 1)))
        box(image, x, y, 0.8, 0.55, (190, 188, 182))
        box(image, x + 0.1, y + 0.1, 0.4, 0.35, (90, 90, 90))
    if rng.random() < 0.15:  # ivy
        x = float(rng.uniform(0, width - 2))
        n = image.shape[0]
        spots = rng.normal([x + 1, height * 0.3], [0.5, height * 0.16], (260, 2)) * PER_METRE
        for px, py in spots.astype(int).tolist():
            tone = tinted((66, 92, 48), float(rng.uniform(0.6, 1.2)))
            cv2.circle(image, (px, n - py), int(rng.integers(2, 6)), (*tone, 0), -1)


def _weather(image: Bytes, rng: Rng) -> None:
    mottle(image, rng, float(rng.uniform(0.06, 0.16)), streaks=float(rng.uniform(0.02, 0.1)), dirt=True)
