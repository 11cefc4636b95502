"""Which four matches OpenCV's RANSAC goes by when it fits a homography, found in a few large steps.

OpenCV draws four matches at a time from one fixed sequence of random numbers, fits a homography to them in
some ten microseconds, and keeps the first with most inliers. Here the same draws are fitted many at a time,
and one product of matrices counts the inliers that each has at most. Only where these are more than the best
one had so far, OpenCV fits that draw itself, and its inliers are counted in float32 as OpenCV does. Where
something is too close to tell, all is left to OpenCV.

Shapes: M matches; N draws of four matches each; S random numbers. Points are columns: x and y of the
candidate's, then of the query's.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

Points = NDArray[np.float32]
Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]
Draws = NDArray[np.uint16]

KNOWN = 1 << 16
"""Random numbers computed ahead: enough for 2000 homographies where an eighth of all draws is sensible."""
FIRST, LATER = 256, 4096
"""Draws taken at a time: few at first, which are enough for two photos that agree; later multiples."""
SPARE = 6
"""Draws taken for each homography that is still to be fitted: of so many, five fit none."""
LONGEST = 64
"""Random numbers kept for the last draw, in which some may be equal."""
FINEST, WIDEST = 0.5, 1400.0
"""Positions are whole multiples of so many pixels, and so far apart at most: float32 then tells exactly on
which side of a line a point lies."""
ROUNDING = 1.5e-6
"""What float32 may change, here and in OpenCV, relative to the largest numbers that are added."""
TIE = 2e-6
"""Of the largest position times the threshold: errors so near may count otherwise on another processor."""
FARTHEST = 1 << 14
"""Pixels; beyond, float32 tells fewer of them apart."""
LARGEST = 1 << 24
"""Numbers of the matrix of errors, match by draw: 64 MB."""

PAIRS = np.triu_indices(3)
"""Of three numbers, each once."""


def find_homography(
    candidate_points: Points, query_points: Points, threshold: float, iterations: int, confidence: float
) -> tuple[Numbers, Mask] | None:
    """What ``cv2.findHomography`` finds by its method RANSAC.

    Args:
        candidate_points: float32 [M, 2], pixels.
        query_points: float32 [M, 2].
        threshold: largest error of an inlier in pixels.
        iterations: most homographies fitted.
        confidence: of having found the best, in (0, 1), at which the search ends early.

    Returns:
        [3, 3] and bool [M]; None where only OpenCV can tell.
    """
    if not _draws_alike():
        return None
    return _find_homography(candidate_points, query_points, threshold, iterations, confidence)


@cache
def _draws_alike() -> bool:
    """Whether the installed OpenCV searches as this file has it: compared on matches that hardly agree.

    Before 4.12 it did not count the inliers anew after the last refinement.
    """
    ours, theirs = np.random.default_rng(0).integers(0, 500, (2, 50, 2)).astype(np.float32)
    quick = _find_homography(ours, theirs, 24, 300, 0.995)
    matrix, mask = cv2.findHomography(ours, theirs, cv2.RANSAC, 24, None, 300, 0.995)
    return quick is not None and np.array_equal(quick[0], matrix) and np.array_equal(quick[1], mask.ravel())


def _find_homography(
    candidate_points: Points, query_points: Points, threshold: float, iterations: int, confidence: float
) -> tuple[Numbers, Mask] | None:
    best_M = _best(candidate_points, query_points, threshold, iterations, confidence)
    if best_M is None or best_M.sum() < 5:  # four alone would not be refined
        return None
    matrix = _fitted(candidate_points[best_M], query_points[best_M])
    inlier_M, close_M = _inliers(candidate_points, query_points, matrix, threshold)
    return None if matrix is None or close_M.any() else (matrix, inlier_M)


def _best(
    candidate_points: Points, query_points: Points, threshold: float, iterations: int, confidence: float
) -> Mask | None:
    """Inliers of the first draw that has most; None where that is too close to tell."""
    points_4M = np.concatenate([candidate_points, query_points], axis=1).T
    count = points_4M.shape[1]
    if not 5 <= count < 1 << 16 or (points_4M % FINEST).any() or np.ptp(points_4M, axis=1).max() > WIDEST:
        return None
    far_4 = 2 * np.abs(points_4M).max(axis=1)
    if far_4.max() > 2 * FARTHEST:
        return None
    largest = max(FIRST, LARGEST // count)
    points_4M = points_4M - np.rint(points_4M.mean(axis=1, keepdims=True))
    features_MF = _features(points_4M, threshold)
    fitted, start = 0, 0
    least, most = 3, 3  # inliers that the best draw has, which differ where some are too close to tell
    best_M: Mask | None = None
    while fitted < iterations:
        wanted = -(-SPARE * (iterations - fitted) // LATER) * LATER if start else FIRST
        draws_4N, start = _draws(count, start, min(wanted, largest))
        draws_4N, areas_24N = _sensible(points_4M, draws_4N, iterations - fitted)
        if not draws_4N.shape[1]:  # the numbers are at an end, or next to no four of these matches fit
            return None
        misfit_MN, off_N = _misfits(points_4M, far_4, draws_4N, areas_24N, features_MF, threshold)
        at_most_N = np.add.reduce((misfit_MN <= off_N).view(np.uint8), axis=0, dtype=np.uint16)
        at = 0
        while (better := np.flatnonzero(at_most_N[at:] > least)).size:
            at += int(better[0])
            if fitted + at >= iterations:
                break
            inlier_M, possible = misfit_MN[:, at] <= -off_N[at], int(at_most_N[at])
            if (sure := int(inlier_M.sum())) < possible:
                four = draws_4N[:, at]
                matrix = _fitted(candidate_points[four], query_points[four])
                inlier_M, close_M = _inliers(candidate_points, query_points, matrix, threshold)
                sure = int(inlier_M.sum())
                possible = sure + int(close_M.sum())
            if possible > least:
                best_M = inlier_M if sure > most else None  # what comes may still be better than either
                least, most = max(least, sure), max(most, possible)
                iterations = _enough(1 - (count - most) / count, confidence, iterations)
            at += 1
        fitted += draws_4N.shape[1]
    return best_M if least == most else None


@cache
def _numbers() -> NDArray[np.uint32]:
    """Random numbers [S] of OpenCV's `RNG`, from the state in which each of its RANSAC searches begins."""
    state, numbers = (1 << 64) - 1, np.empty(KNOWN, dtype=np.uint32)
    for n in range(KNOWN):
        state = (state & 0xFFFFFFFF) * 4164903690 + (state >> 32)
        numbers[n] = state & 0xFFFFFFFF
    return numbers


@lru_cache(maxsize=256)
def _draws(count: int, start: int, draws: int) -> tuple[Draws, int]:
    """About so many draws of four of `count` matches, from the random number `start` on; fewer at the end.

    Returns:
        [4, N], and where the next draw starts.
    """
    numbers_S = _numbers()[start : start + 4 * draws + LONGEST]
    known_S = (numbers_S - numbers_S // np.uint32(count) * np.uint32(count)).astype(np.uint16)
    starts = len(known_S) - LONGEST
    if starts < 1:
        return np.zeros((4, 0), dtype=np.uint16), start
    drawn_4S = np.stack([known_S[first : first + starts] for first in range(4)])
    next_S = np.arange(4, starts + 5)
    equal_S = np.zeros(starts, dtype=bool)
    for by in (1, 2, 3):
        equal = known_S[:-by] == known_S[by:]
        for first in range(4 - by):
            equal_S |= equal[first : first + starts]
    again_E = np.flatnonzero(equal_S)
    drawn_4S[:, again_E], next_S[again_E] = _distinct(known_S, again_E)
    # One draw after the other: first every 32nd, then those half way between, and so on.
    leaps = [next_S.clip(max=starts)]
    for _ in range(5):
        leaps.append(leaps[-1].take(leaps[-1]))
    far = [0]
    while far[-1] < starts:
        far.append(int(leaps[-1][far[-1]]))
    chain = np.array(far)
    for leap_S in leaps[-2::-1]:
        chain = np.stack([chain, leap_S.take(chain)], axis=1).ravel()
    chain = chain[: int(np.searchsorted(chain, starts))]
    return drawn_4S.take(chain, axis=1), start + int(next_S[chain[-1]])


def _distinct(known_S: Draws, begins_E: NDArray[np.intp]) -> tuple[Draws, NDArray[np.intp]]:
    """Draws that begin at these numbers; what is drawn already is drawn again.

    Returns:
        [4, E], and [E] where the next draws would start.
    """
    taken, at_E = [known_S[begins_E]], begins_E + 1
    while len(taken) < 4:
        drawn_E = known_S[at_E]
        equal_E = drawn_E == taken[0]
        for before_E in taken[1:]:
            equal_E |= drawn_E == before_E
        if not equal_E.any():
            taken.append(drawn_E)
        at_E = at_E + (equal_E if equal_E.any() else 1)
    return np.stack(taken), at_E


def _areas(drawn_24N: Points) -> list[Points]:
    """Twice the areas [N], with signs, of triangles of four points: 1 2 3, 0 2 3, 0 1 3 and 0 1 2."""
    (x0, x1, x2), (y0, y1, y2) = drawn_24N[:, :3] - drawn_24N[:, 3:]
    right, middle, left = x1 * y2 - x2 * y1, x0 * y2 - x2 * y0, x0 * y1 - x1 * y0
    return [right, middle, left, left - middle + right]


def _sensible(points_4M: Points, draws_4N: Draws, most: int) -> tuple[Draws, Points]:
    """The first so many draws of which OpenCV fits a homography.

    These are the ones in which no three points, of which one is the last, are on a line, and whose four
    triangles are all turned over from one photo to the other, or none.

    Returns:
        [4, N], and what `_areas` makes of the candidate's and the query's points, [2, 4, N].
    """
    drawn_44N = points_4M.take(draws_4N, axis=1)
    areas = _areas(drawn_44N[:2]), _areas(drawn_44N[2:])
    right, middle, left, last = (area * other for area, other in zip(*areas, strict=True))
    same = (right > 0) & (middle > 0) & (left > 0) & (last >= 0)
    over = (right < 0) & (middle < 0) & (left < 0) & (last < 0)
    kept = np.flatnonzero(same | over)[:most]
    return draws_4N.take(kept, axis=1), np.array([[area[kept] for area in by_photo] for by_photo in areas])


def _features(points_4M: Points, threshold: float) -> Points:
    """[M, 24]: of each match, what a homography is multiplied by in `_misfits`."""
    x, y, u, v = points_4M.astype(np.float64)
    ones = np.ones_like(x)
    pairs_6M = np.stack([x * x, 2 * x * y, 2 * x, y * y, 2 * y, ones])
    factors = ones, u * u + v * v - threshold**2, -2 * u, -2 * v
    return np.concatenate([pairs_6M * factor for factor in factors]).T.astype(np.float32)


def _misfits(
    points_4M: Points,
    far_4: Points,
    draws_4N: Draws,
    areas_24N: Points,
    features_MF: Points,
    threshold: float,
) -> tuple[Points, Points]:
    """How much each match misses being an inlier of each draw's homography: below 0 where it is one.

    With a, b and c being the products of the rows of a homography with x, y and 1, a match is an inlier where
    ``(a - u c)^2 + (b - v c)^2 <= (threshold c)^2``: a sum of products of two numbers of the homography each
    with numbers of the match.

    Args:
        points_4M: positions from about their centres.
        far_4: twice the largest position in pixels, by which OpenCV's rounding goes.
        draws_4N: of them.
        areas_24N: of their triangles.
        features_MF: of the matches.
        threshold: largest error of an inlier in pixels.

    Returns:
        [M, N], and what rounding may change of it [N].
    """
    x, y, u, v = points_4M.take(draws_4N[:3], axis=1).astype(np.float64)
    # The homography takes three points to the query's, as multiples that make the last one fit as well.
    ratio_3N = areas_24N[1, :3].astype(np.float64) / areas_24N[0, :3]
    other, further = [1, 2, 0], [2, 0, 1]
    lines_33N = np.stack(
        [y[other] - y[further], x[further] - x[other], x[other] * y[further] - x[further] * y[other]]
    )
    lines_33N *= ratio_3N
    rows_33N = np.stack([(lines_33N * u).sum(axis=1), (lines_33N * v).sum(axis=1), lines_33N.sum(axis=1)])
    # Three points on one line in both photos fit many homographies: none is known.
    unknown_N = ~areas_24N[:, 3].any(axis=0)
    rows_33N[:, :, unknown_N] = 0
    reach_4 = np.abs(points_4M).max(axis=1)
    sizes_3N, far_3N = (np.array([*by[:2], 1.0]) @ np.abs(rows_33N) for by in (reach_4, far_4))
    scale_N = 1 / np.where(unknown_N, 1.0, sizes_3N[2])
    first_36N, second_36N = ((rows_33N * scale_N).astype(np.float32)[:, pair] for pair in PAIRS)
    model_46N = np.empty((4, *first_36N.shape[1:]), dtype=np.float32)
    aa, bb, model_46N[1] = first_36N * second_36N
    np.add(aa, bb, out=model_46N[0])
    np.add(first_36N[:2] * second_36N[2], second_36N[:2] * first_36N[2], out=model_46N[2:])
    model_46N[2:] /= 2
    largest_N, far_N = (
        size_3N[:2].sum(axis=0) * scale_N + by[2:].sum()
        for size_3N, by in ((sizes_3N, reach_4), (far_3N, far_4))
    )
    off_N = (ROUNDING * (largest_N**2 + 2 * threshold * far_N)).astype(np.float32)
    off_N[unknown_N] = math.inf
    # Not NumPy's product: its own threads and those that work on other candidates wait for each other.
    misfit_MN = torch.mm(torch.from_numpy(features_MF), torch.from_numpy(model_46N.reshape(24, -1)))
    return misfit_MN.numpy(), off_N


def _fitted(candidate_points: Points, query_points: Points) -> Numbers | None:
    """OpenCV's homography of all these matches."""
    matrix, _ = cv2.findHomography(candidate_points, query_points, 0)
    return None if matrix is None else np.asarray(matrix, dtype=np.float64)


def _inliers(
    candidate_points: Points, query_points: Points, matrix: Numbers | None, threshold: float
) -> tuple[Mask, Mask]:
    """Sure inliers [M] of a homography as OpenCV tells them, in float32, and which are too close to tell."""
    (x, y), (u, v) = candidate_points.T, query_points.T
    if matrix is None:
        return np.zeros(len(x), dtype=bool), np.zeros(len(x), dtype=bool)
    h = matrix.astype(np.float32).ravel()
    with np.errstate(all="ignore"):
        over = np.float32(1) / (h[6] * x + h[7] * y + h[8])
        right, down = (h[0] * x + h[1] * y + h[2]) * over - u, (h[3] * x + h[4] * y + h[5]) * over - v
        beyond = right * right + down * down - np.float32(threshold * threshold)
        reach = max(float(np.abs(points).max()) for points in (candidate_points, query_points)) + threshold
        close_M = np.abs(beyond) < TIE * reach * threshold
        return (beyond <= 0) & ~close_M, close_M


def _enough(share: float, confidence: float, iterations: int) -> int:
    """Homographies to fit until one of inliers only has come with such confidence, at most `iterations`."""
    fails = 1 - share**4
    if fails < np.finfo(np.float64).tiny:
        return 0
    needed = math.log(max(1 - confidence, np.finfo(np.float64).tiny))
    return iterations if needed <= iterations * math.log(fails) else round(needed / math.log(fails))
