"""The figure of two photos side by side, with lines between the points that agree in space."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dejavlad.images import read_reduced
from dejavlad.photo import Photo
from dejavlad.places.verification.point_pair import PointPair
from dejavlad.report.figures.figure_file import check_figure, save_figure

WIDTH, MARGIN, GAP, HEAD, HIGHEST = 1600, 40, 16, 120, 900
"""Of the figure, of its edge, between the photos, of the text above, and of the photos, in pixels."""
PAPER, INK, SOFT = (250, 251, 252), (20, 24, 31), (86, 96, 114)
MOST_LINES: Final = 250
"""More lines than these hide the photos; an even choice of them is drawn."""


def write_point_figure(pair: PointPair, path: str | Path) -> Path:
    """Draw a pair into a file, which is written whole or not at all.

    Args:
        pair: from `match_points`.
        path: ending in .png, .jpg or .jpeg; its folder is made where there is none.

    Raises:
        InputError: another ending.
        PhotoError: a photo cannot be read.
    """
    path = check_figure(path)
    return save_figure(point_figure(pair), path)


def point_figure(pair: PointPair) -> Image.Image:
    """A pair drawn, `WIDTH` pixels wide; lines that lie far apart in the query differ in colour."""
    sizes = [features.size for features in pair.features]
    aspects = [width / height for height, width in sizes]
    height = min(HIGHEST, int((WIDTH - 2 * MARGIN - GAP) / sum(aspects)))
    widths = [max(1, round(aspect * height)) for aspect in aspects]
    lefts = [MARGIN, MARGIN + widths[0] + GAP]
    image = Image.new("RGB", (WIDTH, HEAD + height + MARGIN), PAPER)
    draw = ImageDraw.Draw(image)
    verdict = "The same place" if pair.same_place else "Not the same place"
    draw.text((MARGIN, 18), f"{verdict}: {pair.confidence:.2f}", INK, ImageFont.load_default(40))
    text = f"{pair.verified.inliers:,} of {pair.verified.tried:,} points that look alike agree in space"
    draw.text((MARGIN, 76), text, SOFT, ImageFont.load_default(22))
    for photo, left, width in zip((pair.query, pair.candidate), lefts, widths, strict=True):
        image.paste(_fitted(photo, width, height), (left, HEAD))
    starts, ends = (
        points * np.array([width / size[1], height / size[0]]) + (left, HEAD)
        for points, width, size, left in zip(pair.points(), widths, sizes, lefts, strict=True)
    )
    for row in _spread(len(starts)):
        hue = float(np.clip((starts[row, 0] - lefts[0]) / widths[0], 0, 1)) * 0.8
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.85, 0.95))
        draw.line([*starts[row], *ends[row]], (red, green, blue), 1)
        for x, y in (starts[row], ends[row]):
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), None, (red, green, blue), 2)
    return image


def _fitted(photo: Photo, width: int, height: int) -> Image.Image:
    pixels, _ = read_reduced(photo, lambda *_: (height, width))
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)


def _spread(count: int) -> NDArray[np.int64]:
    """At most `MOST_LINES` of so many rows, evenly chosen."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_LINES)).astype(np.int64))
