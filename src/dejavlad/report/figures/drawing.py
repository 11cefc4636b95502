"""Two photos side by side with lines between patches that match, drawn into pixels.

Shapes: L lines; photos are RGB uint8 [H, W, 3].
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dejavlad.report.figures.lines import COLOURS, MOST_LINES, rgb, shown_matches
from dejavlad.rerank import PatchMatch

Pixels = NDArray[np.uint8]

PAPER = (246, 247, 249)
"""Behind the photos."""
HINTED = 14
"""Patches whose extent is drawn, at most."""
SUBPIXEL = 4
"""Bits of a pixel's fraction in OpenCV's coordinates."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where two photos of one height stand in a row."""

    height: int
    query: tuple[int, int]
    """Left edge and width of the query."""
    candidate: tuple[int, int]
    """Left edge and width of the candidate."""
    width: int
    """Of the row."""

    @classmethod
    def of(
        cls, query_size: tuple[int, int], candidate_size: tuple[int, int], width: int, highest: int
    ) -> Place:
        """As large as a row of that width allows, in the middle of it.

        Args:
            query_size: height and width of the query as it is shown.
            candidate_size: height and width of the candidate.
            width: of the row.
            highest: of the photos.
        """
        gap = max(8, width // 60)
        aspects = [max(0.05, min(20.0, size[1] / size[0])) for size in (query_size, candidate_size)]
        height = max(16, min(highest, int((width - gap) / sum(aspects))))
        first, second = (max(4, int(height * aspect)) for aspect in aspects)
        left = max(0, (width - first - gap - second) // 2)
        return cls(height, (left, first), (left + first + gap, second), max(width, first + gap + second))


def draw_pair(
    query: Pixels,
    candidate: Pixels,
    match: PatchMatch,
    query_size: tuple[int, int],
    candidate_size: tuple[int, int],
    place: Place,
    *,
    side: float = 0.0,
    most: int = MOST_LINES,
) -> Pixels:
    """A row: both photos, and lines between a spread subset of their matching patches.

    Args:
        query: RGB.
        candidate: RGB.
        match: of one patch size.
        query_size: height and width of the query, prepared: what the points are pixels of.
        candidate_size: height and width of the candidate, prepared.
        place: where the photos stand.
        side: of a patch, in pixels of the prepared photos; the extent of some patches is hinted.
        most: lines, at most.

    Returns:
        RGB uint8 [place.height, place.width, 3].
    """
    row = np.full((place.height, place.width, 3), PAPER, np.uint8)
    lines_L4, colours_L = shown_matches(match, query_size, candidate_size, most)
    for pixels, (left, width) in ((query, place.query), (candidate, place.candidate)):
        row[:, left : left + width] = _muted(fitted(pixels, width, place.height), bool(len(lines_L4)))
    if len(lines_L4):
        query_L2 = np.stack(
            [place.query[0] + lines_L4[:, 0] * place.query[1], lines_L4[:, 1] * place.height], 1
        )
        candidate_L2 = np.stack(
            [place.candidate[0] + lines_L4[:, 2] * place.candidate[1], lines_L4[:, 3] * place.height], 1
        )
        inks = [rgb(COLOURS[colour]) for colour in colours_L.tolist()]
        for points_L2, size, (_, width) in (
            (query_L2, query_size, place.query),
            (candidate_L2, candidate_size, place.candidate),
        ):
            _hint(row, points_L2, inks, side * width / size[1], side * place.height / size[0])
        _lines(row, query_L2, candidate_L2, inks)
    for left, width in (place.query, place.candidate):
        round_corners(row[:, left : left + width], max(4, place.width // 110))
    return row


def fitted(pixels: Pixels, width: int, height: int) -> Pixels:
    """A photo brought to a size."""
    shrinks = width * height < pixels.shape[0] * pixels.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=interpolation), dtype=np.uint8)


def round_corners(pixels: Pixels, radius: int) -> None:
    """Cut the corners off in place."""
    height, width = pixels.shape[:2]
    radius = min(radius, height // 2, width // 2)
    if radius < 1:
        return
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    off_x = np.maximum(radius - np.minimum(x, width - x), 0)
    off_y = np.maximum(radius - np.minimum(y, height - y), 0)
    inside = np.clip(radius - np.hypot(off_x, off_y) + 0.5, 0, 1)[..., None]
    pixels[:] = np.round(pixels * inside + np.array(PAPER) * (1 - inside)).astype(np.uint8)


def _muted(pixels: Pixels, much: bool) -> Pixels:
    """A photo with less colour and light, so that lines stand out; one without lines a little paler."""
    grey = pixels.mean(axis=2, keepdims=True)
    mixed = (0.62 * pixels + 0.38 * grey) * 0.88 if much else 0.45 * pixels + 0.2 * grey + 78
    muted: Pixels = np.clip(np.round(mixed), 0, 255).astype(np.uint8)
    return muted


def _hint(
    row: Pixels, points_L2: NDArray[np.float64], inks: list[tuple[int, int, int]], width: float, height: float
) -> None:
    """The extent of the first few patches."""
    if min(width, height) < 6:
        return
    filled, drawn = row.copy(), row.copy()
    for (x, y), ink in list(zip(points_L2.tolist(), inks, strict=True))[:HINTED]:
        corners = _at([(x - width / 2, y - height / 2), (x + width / 2, y + height / 2)])
        cv2.rectangle(filled, corners[0], corners[1], ink, -1, cv2.LINE_AA, SUBPIXEL)
        cv2.rectangle(drawn, corners[0], corners[1], ink, 1, cv2.LINE_AA, SUBPIXEL)
    cv2.addWeighted(filled, 0.13, row, 0.87, 0, dst=row)
    cv2.addWeighted(drawn, 0.6, row, 0.4, 0, dst=row)


def _lines(
    row: Pixels,
    query_L2: NDArray[np.float64],
    candidate_L2: NDArray[np.float64],
    inks: list[tuple[int, int, int]],
) -> None:
    """Translucent lines over a soft dark edge, with a dot at each end."""
    thick = max(1, round(row.shape[1] / 800))
    ends = [_at([tuple(a), tuple(b)]) for a, b in zip(query_L2.tolist(), candidate_L2.tolist(), strict=True)]
    edge, drawn = row.copy(), row.copy()
    for (start, end), _ in zip(ends, inks, strict=True):
        cv2.line(edge, start, end, (12, 16, 24), thick + 2, cv2.LINE_AA, SUBPIXEL)
    cv2.addWeighted(edge, 0.22, row, 0.78, 0, dst=row)
    drawn[:] = row
    for (start, end), ink in zip(ends, inks, strict=True):
        cv2.line(drawn, start, end, ink, thick, cv2.LINE_AA, SUBPIXEL)
    cv2.addWeighted(drawn, 0.66, row, 0.34, 0, dst=row)
    radius = thick * 2.3
    for points, ink in zip(ends, inks, strict=True):
        for point in points:
            cv2.circle(row, point, _fixed(radius + 1.4), (255, 255, 255), -1, cv2.LINE_AA, SUBPIXEL)
            cv2.circle(row, point, _fixed(radius), ink, -1, cv2.LINE_AA, SUBPIXEL)


def _at(points: list[tuple[float, float]]) -> list[tuple[int, int]]:
    return [(_fixed(x), _fixed(y)) for x, y in points]


def _fixed(value: float) -> int:
    return round(value * (1 << SUBPIXEL))
