"""The ground: asphalt, markings, kerbs and slabs by formula; and maps from above of shadow and lamplight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dejavlad.town.paint import Floats, noise
from dejavlad.town.plan import PAVEMENT, District, Vector


def ground(district: District, place: Floats, depth: Floats) -> Floats:
    """Colours of points on the ground, linear RGB float32 [n, 3].

    Args:
        district: the streets.
        place: [n, 3] metres.
        depth: [n] metres from the camera: what is finer than a pixel there fades out.
    """
    x, y = place[:, 0], place[:, 1]
    fine = np.clip(1.3 - depth / 16, 0, 1)
    to_row, line_row, half_row = _nearest(district, True, y)
    to_column, line_column, half_column = _nearest(district, False, x)
    kerb = np.minimum(to_row, to_column)
    field = noise()
    grain = field[(y * 24).astype(int) & 255, (x * 24).astype(int) & 255] - 0.5
    patches = field[(y * 2.5).astype(int) & 255, (x * 2.5).astype(int) & 255] - 0.5
    road = 0.105 + 0.06 * grain * fine + 0.05 * patches
    slab = 0.27 + 0.08 * grain * fine + 0.06 * patches
    joint = ((x / 0.8) % 1 < 0.05) | ((y / 0.8) % 1 < 0.05)
    slab = np.where(joint, slab * (1 - 0.4 * fine), slab)
    for line, half, along, other in (
        (line_row, half_row, x, to_column),
        (line_column, half_column, y, to_row),
    ):
        wide = np.maximum(0.09, depth * 0.003)
        dash = (np.abs(line) < wide) & (along % 6 < 3) & (other > 4.5)
        road = np.where(dash, road + 0.4 * np.clip(0.09 / wide, 0.3, 1), road)
        stripes = (np.abs(line) < half) & (other > 0.8) & (other < 3.4) & (line % 1.0 < 0.5)
        road = np.where(stripes, road * 0.5 + 0.22 + 0.1 * patches, road)
    grey = np.where(kerb < 0, road, slab)
    grey = np.where((kerb > 0) & (kerb < 0.22), 0.34 + 0.05 * patches, grey)
    grey = np.where((kerb > -0.12) & (kerb <= 0), grey * 0.55, grey)
    colour = np.repeat(grey[:, None], 3, axis=1) * np.array([1.0, 0.98, 0.95], np.float32)
    yard = kerb > PAVEMENT
    colour[yard] = np.array([0.09, 0.12, 0.05], np.float32) * (1 + grain[yard, None])
    return np.asarray(np.maximum(colour, 0.01), np.float32)


def _nearest(district: District, along_x: bool, across: Floats) -> tuple[Floats, Floats, Floats]:
    """For the nearest street of a direction: metres to its kerb and to its middle, and its half width."""
    streets = [s for s in district.streets if s.along_x == along_x]
    at = np.array([s.at for s in streets], np.float32)
    half = np.array([s.half for s in streets], np.float32)
    which = np.searchsorted((at[1:] + at[:-1]) / 2, across)
    line = across - at[which]
    return np.abs(line) - half[which], line, half[which]


@dataclass(frozen=True)
class Maps:
    """A district from above, 2 pixels a metre."""

    shade: Floats
    """Metres above the ground below which no sun comes."""
    lamps: Floats
    """Light that street lamps throw on the ground, 0 for none."""
    origin: Vector
    """Where pixel (0, 0) lies."""


def maps(district: District, azimuth: float, elevation: float) -> Maps:
    """The shadows of houses and trees with the sun there (degrees), and the lamps' light."""
    boxes = np.array([h[:4] for h in district.houses])
    origin = boxes[:, :2].min(axis=0) - 20
    wide, high = np.ceil((boxes[:, 2:].max(axis=0) + 20 - origin) * 2).astype(int)
    tall = np.zeros((high, wide), np.float32)
    for x0, y0, x1, y1, z in district.houses:
        a, b = np.round((np.array([[x0, y0], [x1, y1]]) - origin) * 2).astype(int)
        tall[a[1] : b[1], a[0] : b[0]] = z
    for stand in district.stands:
        if stand.texture[0] == "tree":
            a = np.round((stand.foot[:2] - origin) * 2).astype(int)
            r = max(1, round(stand.width * 0.5))
            tall[a[1] - r : a[1] + r, a[0] - r : a[0] + r] = np.maximum(
                tall[a[1] - r : a[1] + r, a[0] - r : a[0] + r], stand.height * 0.8
            )
    shade = np.zeros_like(tall)
    a, slope = np.radians(azimuth), np.tan(np.radians(max(4.0, elevation)))
    reach = float(tall.max() / slope)
    for far in np.arange(0.5, min(reach, 70.0), 0.75):
        dx, dy = round(float(np.sin(a) * far * 2)), round(float(np.cos(a) * far * 2))
        ys, yd = slice(max(0, dy), high + min(0, dy)), slice(max(0, -dy), high + min(0, -dy))
        xs, xd = slice(max(0, dx), wide + min(0, dx)), slice(max(0, -dx), wide + min(0, -dx))
        shade[yd, xd] = np.maximum(shade[yd, xd], tall[ys, xs] - np.float32(far * slope))
    lamps = np.zeros_like(tall)
    span = np.arange(-24, 25) / 2
    pool = np.exp(-(span[:, None] ** 2 + span[None] ** 2) / (2 * 4.5**2)).astype(np.float32)
    for lamp in district.lamps:
        x, y = np.round((lamp[:2] - origin) * 2).astype(int)
        top, left = max(0, y - 24), max(0, x - 24)
        part = lamps[top : y + 25, left : x + 25]
        part += pool[top - (y - 24) :, left - (x - 24) :][: part.shape[0], : part.shape[1]]
    return Maps(shade, lamps, origin)
