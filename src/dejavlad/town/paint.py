"""What every painter of textures needs: seeds by name, noise, colours, boxes in metres.

Legend: H, W pixels of a texture; textures are uint8 [H, W, 4], RGB and a fourth channel whose meaning is the
painter's own (what glows at night, or what is opaque).
"""

from __future__ import annotations

import sys
import zlib
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Colour = tuple[int, int, int]
Rng = np.random.Generator

PER_METRE = 32
"""Pixels a metre of facades and of what stands before them."""


def rng_of(*keys: int | str) -> Rng:
    """A generator for what the keys name: the same on every machine and in every process."""
    return np.random.default_rng([zlib.crc32(k.encode()) if isinstance(k, str) else k for k in keys])


@lru_cache(maxsize=8)
def noise(size: int = 256, coarsest: int = 4) -> Floats:
    """Float32 [size, size] in 0..1, smooth at many scales, and seamless where its edges meet."""
    rng = rng_of("noise", size, coarsest)
    total = np.zeros((size, size), np.float32)
    cells, weight = coarsest, 1.0
    while cells <= size:
        grid = np.pad(rng.random((cells, cells), dtype=np.float32), 2, mode="wrap")
        fine = size // cells
        grown = cv2.resize(grid, None, fx=fine, fy=fine, interpolation=cv2.INTER_CUBIC)
        total += weight * grown[2 * fine : 2 * fine + size, 2 * fine : 2 * fine + size]
        cells, weight = cells * 2, weight * 0.6
    total -= total.min()
    return np.asarray(total / total.max(), np.float32)


def tinted(colour: Colour, by: float) -> Colour:
    """A colour made lighter (by > 1) or darker."""
    r, g, b = colour
    return _whole(r * by), _whole(g * by), _whole(b * by)


def _whole(tone: float) -> int:
    return int(min(255, max(0, tone)))


def jittered(rng: Rng, colour: Colour, by: float = 12) -> Colour:
    """A colour changed a little, in lightness more than in hue."""
    change = rng.normal(0, by) + rng.normal(0, by / 3, 3)
    r, g, b = np.clip(np.asarray(colour) + change, 0, 255).astype(int).tolist()
    return r, g, b


def canvas(height: float, width: float, colour: Colour) -> Bytes:
    """A texture of so many metres, of one colour, its fourth channel 0."""
    image = np.empty((max(4, round(height * PER_METRE)), max(4, round(width * PER_METRE)), 4), np.uint8)
    pixels(image)[:] = _pixel(colour, 0)
    return image


def pixels(image: Bytes) -> NDArray[np.uint32]:
    """The same memory, [H, W]: each pixel's four bytes as a number, which NumPy copies at once."""
    return image.view(np.uint32)[..., 0]


def _pixel(colour: Colour, fourth: int) -> np.uint32:
    return np.uint32(int.from_bytes((*colour, fourth), sys.byteorder))


def box(image: Bytes, x: float, y: float, w: float, h: float, colour: Colour, fourth: int = 0) -> None:
    """Fill a box; x and y in metres from the left and from the bottom, w and h in metres."""
    n = image.shape[0]
    left, right = round(x * PER_METRE), round((x + w) * PER_METRE)
    top, bottom = n - round((y + h) * PER_METRE), n - round(y * PER_METRE)
    pixels(image)[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = _pixel(colour, fourth)


def mottle(image: Bytes, rng: Rng, amount: float, *, streaks: float = 0.0, dirt: bool = False) -> None:
    """Weather a texture: multiply its colours by smooth noise, 1 - amount to 1 + amount.

    Args:
        image: changed in place.
        rng: where the noise is taken from.
        amount: below 1.
        streaks: as `amount`, of noise drawn out downwards.
        dirt: darken the lowest two metres.
    """
    h, w = image.shape[:2]
    factor = _noise_patch(rng, h, w, 2 * amount) + np.float32(1 - amount)
    if streaks:
        factor += cv2.resize(_noise_patch(rng, -(-h // 6), w, 2 * streaks) - np.float32(streaks), (w, h))
    if dirt:
        low = min(h, 2 * PER_METRE)
        factor[h - low :] *= np.linspace(1.0, 0.8, low, dtype=np.float32)[:, None]
    parts = cv2.merge([cv2.convertScaleAbs(factor, alpha=128)] * 3 + [np.full((h, w), 128, np.uint8)])
    cv2.multiply(image, parts, image, scale=1 / 128)


def _noise_patch(rng: Rng, h: int, w: int, amount: float) -> Floats:
    field = np.roll(noise(), -rng.integers(0, 256, 2), axis=(0, 1)) * np.float32(amount)
    return np.tile(field, (-(-h // 256), -(-w // 256)))[:h, :w]


def words(image: Bytes, text: str, x: float, y: float, w: float, h: float, colour: Colour, font: int) -> None:
    """Write a line of text into a box in metres, as large as it goes."""
    n = image.shape[0]
    wide, high = w * PER_METRE, h * PER_METRE
    (tw, th), _ = cv2.getTextSize(text, font, 1.0, 2)
    scale = min(wide / tw, high / th)
    thick = max(1, round(scale * 2.2))
    left = round(x * PER_METRE + (wide - tw * scale) / 2)
    base = round(n - y * PER_METRE - (high - th * scale) / 2)
    glow = int(image[min(n - 1, max(0, base)), min(image.shape[1] - 1, max(0, left)), 3])
    cv2.putText(image, text, (left, base), font, scale, (*colour, glow), thick, cv2.LINE_AA)
