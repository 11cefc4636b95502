"""The figure of a pair: a row for each patch size, and the candidate laid over the query."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dejavlad.images import read_image
from dejavlad.places.pair import PairMatch
from dejavlad.report.figures.drawing import PAPER, Pixels, Place, draw_pair, fitted, round_corners
from dejavlad.report.figures.figure_file import check_figure, save_figure
from dejavlad.report.figures.lines import MOST_LINES
from dejavlad.report.text import UNSEEN, shorten

INK, SOFT, BLUE = (20, 24, 31), (86, 96, 114), (21, 94, 239)
WIDTH, MARGIN, HIGHEST = 1600, 44, 640
"""Of the figure, of its edge, and of the photos, in pixels."""
SQUARES = 8
"""Of the chessboard, along the photo's longer side."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def write_match_figure(pair: PairMatch, path: str | Path, *, rotate: bool = True) -> Path:
    """Draw a pair into a file, which is written whole or not at all.

    Args:
        pair: from `match_pair`.
        path: ending in .png, .jpg or .jpeg; its folder is made where there is none.
        rotate: as the model reads photos: ``model.preprocess.rotate``.

    Raises:
        InputError: another ending.
        PhotoError: a photo cannot be read.
    """
    path = check_figure(path)
    return save_figure(Image.fromarray(match_figure(pair, rotate=rotate)), path)


def match_figure(pair: PairMatch, *, rotate: bool = True) -> Pixels:
    """A pair drawn: see `write_match_figure`.

    Returns:
        RGB uint8 [H, 1600, 3].
    """
    query, candidate = read_image(pair.query, rotate=rotate), read_image(pair.candidate, rotate=rotate)
    place = Place.of(query.shape[:2], candidate.shape[:2], WIDTH - 2 * MARGIN, HIGHEST)
    blocks = [_head(pair, place)]
    nothing = not any(pair.inliers)
    for at, match in enumerate(pair.matches[:1] if nothing else pair.matches):
        if not nothing:
            blocks.append(_caption(f"Patches of {_cells(pair, at)}", _matches_text(pair, at)))
        row = draw_pair(
            query,
            candidate,
            match,
            pair.query_size,
            pair.candidate_size,
            place,
            side=pair.sides[at],
        )
        if nothing:
            row = _pill(row, "Nothing matches: no patch of one photo is found in the other")
        elif not len(match.query_points):
            row = _pill(row, "No patches of this size match")
        blocks.append(_framed(row))
    if (best := _overlaid(pair)) is not None:
        at, homography = best
        blocks.append(
            _caption("Laid over each other", f"by the homography of the patches of {_cells(pair, at)}")
        )
        blocks.append(_framed(_overlay(query, candidate, homography, pair)))
    blocks.append(np.full((MARGIN - 8, WIDTH, 3), PAPER, np.uint8))
    return np.concatenate(blocks)


def _cells(pair: PairMatch, at: int) -> str:
    side = f"{pair.sides[at]:.0f}"
    return f"{pair.sizes[at]} x {pair.sizes[at]} cells ({side} x {side} pixels)"


def _matches_text(pair: PairMatch, at: int) -> str:
    matching, total = pair.inliers[at], pair.counts[at]
    parts = [f"{matching:,} of {total:,} match", f"score {0.0 - pair.matches[at].score:.5f}"]
    if matching > MOST_LINES:
        parts.insert(1, f"{MOST_LINES} of them shown")
    return "   ·   ".join(parts)


def _head(pair: PairMatch, place: Place) -> Pixels:
    """The score, and the photos' names above them."""
    image = Image.new("RGB", (WIDTH, 150), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, 24), f"{pair.score:.5f}", BLUE, _font(54))
    beside = MARGIN + int(draw.textlength(f"{pair.score:.5f}", _font(54))) + 22
    draw.text((beside, 30), "match score, larger is better", INK, _font(23))
    summary = f"{sum(pair.inliers):,} of {sum(pair.counts):,} patches match"
    draw.text((beside, 60), f"{summary}; a photo and itself score {pair.best:,.5g}", SOFT, _font(20))
    for photo, (left, width) in ((pair.query, place.query), (pair.candidate, place.candidate)):
        draw.text((MARGIN + left, 117), _short(draw, photo.key, width), INK, _font(22))
    return np.array(image)


def _caption(bold: str, soft: str) -> Pixels:
    image = Image.new("RGB", (WIDTH, 62), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, 24), bold, INK, _font(24))
    draw.text((MARGIN + draw.textlength(bold, _font(24)) + 26, 27), soft, SOFT, _font(20))
    return np.array(image)


def _framed(row: Pixels) -> Pixels:
    block = np.full((row.shape[0], WIDTH, 3), PAPER, np.uint8)
    shown = row[:, : WIDTH - 2 * MARGIN]
    block[:, MARGIN : MARGIN + shown.shape[1]] = shown
    return block


def _pill(row: Pixels, text: str) -> Pixels:
    """A remark in the middle of a row."""
    image = Image.fromarray(row)
    draw = ImageDraw.Draw(image)
    font = _font(25)
    left, top, right, bottom = draw.textbbox(
        (image.width / 2, image.height / 2), text, font=font, anchor="mm"
    )
    draw.rounded_rectangle(
        (left - 30, top - 18, right + 30, bottom + 18), 32, (255, 255, 255), (214, 219, 227)
    )
    draw.text((image.width / 2, image.height / 2), text, INK, font, anchor="mm")
    return np.array(image)


def _overlaid(pair: PairMatch) -> tuple[int, NDArray[np.float64]] | None:
    """The homography that most patches agree on, if it shows the candidate as a photo can look."""
    sizes = [i for i, match in enumerate(pair.matches) if match.homography is not None]
    if not sizes:
        return None
    at = max(sizes, key=lambda i: pair.inliers[i] / pair.counts[i])
    homography = pair.matches[at].homography
    assert homography is not None
    height, width = pair.candidate_size
    corners_4 = np.array([[[0, 0]], [[width, 0]], [[width, height]], [[0, height]]], np.float64)
    seen_4 = cv2.perspectiveTransform(corners_4, homography).astype(np.float32)
    if not np.isfinite(seen_4).all() or not cv2.isContourConvex(seen_4):
        return None
    area = cv2.contourArea(seen_4, oriented=True) / (pair.query_size[0] * pair.query_size[1])
    return (at, homography) if 0.15 < area < 6 else None


def _overlay(query: Pixels, candidate: Pixels, homography: NDArray[np.float64], pair: PairMatch) -> Pixels:
    """The query with the candidate in its frame: half of each, and in the squares of a chessboard."""
    place = Place.of(query.shape[:2], query.shape[:2], WIDTH - 2 * MARGIN, HIGHEST)
    width, height = place.query[1], place.height
    to_query = np.diag([width / pair.query_size[1], height / pair.query_size[0], 1.0])
    from_candidate = np.diag(
        [pair.candidate_size[1] / candidate.shape[1], pair.candidate_size[0] / candidate.shape[0], 1.0]
    )
    taken = to_query @ homography @ from_candidate
    warped = cv2.warpPerspective(candidate, taken, (width, height), flags=cv2.INTER_AREA)
    covered = cv2.warpPerspective(np.ones(candidate.shape[:2], np.float32), taken, (width, height))[..., None]
    under = fitted(query, width, height).astype(np.float32)
    outside = 0.35 * under + 0.65 * np.array(PAPER)
    cell = max(1, -(-max(width, height) // SQUARES))
    y, x = np.mgrid[:height, :width]
    board = (((x // cell + y // cell) % 2) == 1)[..., None]
    row = np.full((height, place.width, 3), PAPER, np.uint8)
    for (left, _), mixed in (
        (place.query, 0.5 * under + 0.5 * warped),
        (place.candidate, np.where(board, warped, under)),
    ):
        drawn = np.round(covered * mixed + (1 - covered) * outside).astype(np.uint8)
        round_corners(drawn, max(4, place.width // 110))
        row[:, left : left + width] = drawn
    return row


def _short(draw: ImageDraw.ImageDraw, name: str, width: int) -> str:
    """A name that fits above its photo; what has no look of its own is replaced."""
    name = UNSEEN.sub("\ufffd", name)
    for longest in range(min(len(name), 160), 8, -1):
        if draw.textlength(shorten(name, longest), _font(22)) <= width:
            return shorten(name, longest)
    return shorten(name, 8)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
