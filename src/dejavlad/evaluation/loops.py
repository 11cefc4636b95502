"""Loop closures scored: how many are found before the first wrong one, and the curve beyond.

A frame closes a loop where an earlier frame, more than `window` frames before it, shows the same place. There
is something to find for each such frame, and one answer a frame at most.

`both_ways` is the protocol of the TensorFlow port of NetVLAD on KITTI (``test_kitti.py``, ``evaluate_pr.m``):
each frame's nearest frame of all, later ones included.

Legend: N frames, D descriptor size, L answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dejavlad.datasets.layouts.kitti import RADIUS, WINDOW
from dejavlad.errors import InputError
from dejavlad.evaluation.precision_recall import PrecisionRecall, precision_recall
from dejavlad.files import write_whole
from dejavlad.ground_truth.frames import before_window
from dejavlad.ground_truth.row_sets import RowSets

KITTI_DIMS: Final = 128
"""Dimensions that the port's protocol compares on KITTI, without bringing them to unit length again."""
_BLOCK: Final = 512

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LoopScore:
    """How well loop closures were found, and all that this depends on."""

    curve: PrecisionRecall
    right: NDArray[np.bool_]
    """bool [L], whether each answer is right."""
    n_frames: int
    """N, the number of frames."""
    protocol: Mapping[str, Any]
    """Window, truth, and hashes of the frames and the truth."""
    model: Mapping[str, Any] | None = None
    """Name and fingerprint of what described the frames."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What took how long."""

    def to_dict(self) -> dict[str, Any]:
        """As ``result.json`` has it."""
        return {
            **self.curve.to_dict(),
            "n_frames": self.n_frames,
            "n_with_loop": self.curve.relevant,
            "n_answers": len(self.right),
            "protocol": dict(self.protocol),
            "model": None if self.model is None else dict(self.model),
            "seconds": dict(self.seconds),
        }

    def __str__(self) -> str:
        figures = self.curve.to_dict()
        lines = [
            f"AUC {figures['auc']:.4f}  recall at 100 % precision {figures['recall_at_100_precision']:.4f}"
            + (f"  best F1 {figures['max_f1']:.4f}" if "max_f1" in figures else "")
            + f"  ({self.curve.relevant} of {self.n_frames} frames close a loop)"
        ]
        if (from_score := figures["score_at_100_precision"]) is not None:
            lines.append(f"no loop is wrong from score {from_score:.4f} on")
        return "\n".join(lines)


def write_json(path: str | Path, document: Mapping[str, Any]) -> Path:
    """Write a JSON document whole or not at all."""
    return write_whole(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def reachable(right: RowSets, window: int, numbers: Ints | None = None) -> NDArray[np.bool_]:
    """bool [N]: whether a frame has a right one more than `window` frames before it.

    Args:
        right: for each frame those of the same place.
        window: frames.
        numbers: int64 [N] of the frames, ascending; None for their rows.
    """
    first = np.full(len(right), np.iinfo(np.int64).max)
    closes = right.counts > 0
    first[closes] = right.rows[right.starts[:-1][closes]]
    return np.asarray(first < before_window(np.arange(len(right)) if numbers is None else numbers, window))


def score_loops(
    frames: ArrayLike,
    closes: ArrayLike,
    scores: ArrayLike,
    right: RowSets,
    *,
    window: int,
    numbers: Ints | None = None,
    protocol: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> LoopScore:
    """Score answers, at most one a frame.

    Args:
        frames: int [L] the frames that close a loop, from 0.
        closes: int [L] the earlier frame that each is said to show again.
        scores: [L] larger is surer.
        right: for each of N frames the frames of the same place, in either direction of time.
        window: so many frames before each do not count.
        numbers: int64 [N] of the frames, ascending, where some are missing; None for their rows.
        protocol: what else the figures depend on.
        model: what described the frames.
        seconds: what took how long.

    Raises:
        InputError: an answer is outside of the sequence or within the window, a frame has two, or no frame
            closes a loop: then there is nothing to measure.
    """
    frame_L, close_L = (np.asarray(given, np.int64).reshape(-1) for given in (frames, closes))
    if len(frame_L) != len(close_L) or len(np.unique(frame_L)) != len(frame_L):
        raise InputError("a frame closes one loop at most: give one earlier frame for each, once")
    if len(frame_L) and not (close_L.min() >= 0 and frame_L.max() < len(right)):
        raise InputError(f"loops are among {len(right)} frames, numbered from 0")
    counted = np.arange(len(right)) if numbers is None else np.asarray(numbers, np.int64)
    if len(counted) != len(right) or (np.diff(counted) <= 0).any():
        raise InputError(f"{len(right)} frames need as many numbers, ascending; given {len(counted)}")
    if (close_L >= before_window(counted, window)[frame_L]).any():
        raise InputError(f"a loop closes with a frame more than {window} frames before it (the window)")
    relevant = int(reachable(right, window, counted).sum())
    if not relevant:
        raise InputError(
            f"by the truth no frame shows the place of one more than {window} frames before it: there is "
            f"nothing to measure (a smaller --window, a larger --radius, or another truth?)"
        )
    pairs = np.full((len(right), 1), -1, np.int64)
    pairs[frame_L, 0] = close_L
    right_L = right.contains(pairs)[frame_L, 0]
    return LoopScore(
        precision_recall(scores, right_L, relevant),
        right_L,
        len(right),
        {"window": window, **(protocol or {}), "truth_hash": truth_hash(right)},
        model,
        seconds or {},
    )


def truth_hash(right: RowSets) -> str:
    """Of which frames show one place; 64 hex digits."""
    digest = hashlib.sha256(f"{len(right)};".encode())
    digest.update(right.starts.astype("<i8").tobytes())
    digest.update(right.rows.astype("<i8").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class BothWays:
    """What the TensorFlow port's evaluation answers."""

    curve: PrecisionRecall
    precision: Floats
    """float64 [N], after each frame, the surest first."""
    recall: Floats
    """float64 [N]: recall after each frame, the surest first."""

    @property
    def auc(self) -> float:
        """Its area: precision times what recall gains, without the first frame's part."""
        return float((np.diff(self.recall) * self.precision[1:]).sum())

    def to_dict(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return {
            "auc": self.auc,
            "recall_at_100_precision": self.curve.recall_at_full_precision,
            "n_with_loop": self.curve.relevant,
        }


def both_ways_curve(
    distances: ArrayLike, taken_apart: ArrayLike, nearest: ArrayLike, radius: float = RADIUS
) -> BothWays:
    """Precision and recall as ``evaluate_pr.m`` has them.

    Args:
        distances: [N] of each frame's best match; smaller is surer.
        taken_apart: [N] metres between where the frame and its match were taken.
        nearest: [N] metres to the nearest place of any frame outside of the window.
        radius: metres (exclusive).

    Raises:
        InputError: not [N] each, or NaN.
    """
    far_N, apart_N, near_N = (
        np.asarray(given, np.float64).reshape(-1) for given in (distances, taken_apart, nearest)
    )
    if not len(far_N) == len(apart_N) == len(near_N):
        raise InputError(
            f"as many distances, positions and truths are needed; given {len(far_N)}, {len(apart_N)} and "
            f"{len(near_N)}"
        )
    right = apart_N < radius
    relevant = int((near_N < radius).sum())
    order = np.argsort(far_N, kind="stable")
    hits = np.cumsum(right[order])
    return BothWays(
        precision_recall(-far_N, right, relevant),
        hits / np.arange(1, len(hits) + 1),
        hits / max(relevant, 1),
    )


def both_ways(
    descriptors_ND: NDArray[np.floating[Any]],
    centres_N3: Floats,
    *,
    radius: float = RADIUS,
    window: int = WINDOW,
    dims: int | None = KITTI_DIMS,
) -> BothWays:
    """The whole protocol of the TensorFlow port, from descriptors and camera centres.

    Args:
        descriptors_ND: a row a frame.
        centres_N3: metres, [N, 2] or [N, 3].
        radius: metres (exclusive).
        window: frames before and after that do not count.
        dims: the first so many dimensions are compared, without normalising again; all where None.

    Raises:
        InputError: other numbers of frames, positions that are not finite, or fewer frames than the window.
    """
    rows_ND = np.asarray(descriptors_ND[:, :dims], np.float64)
    centres = np.asarray(centres_N3, np.float64)
    if len(rows_ND) != len(centres):
        raise InputError(f"{len(rows_ND)} frames are described, positions are of {len(centres)}")
    if not np.isfinite(centres).all():
        raise InputError("positions of frames must be finite; some are NaN")
    if len(rows_ND) < window + 2:
        raise InputError(f"{len(rows_ND)} frames all lie within the window of {window}: nothing is left")
    best, far = _nearest(rows_ND, window)
    _, near = _nearest(centres, window)
    apart = np.linalg.norm(centres - centres[best], axis=1)
    return both_ways_curve(far, apart, near, radius)


def _nearest(rows_ND: Floats, window: int) -> tuple[Ints, Floats]:
    """Each row's nearest more than `window` rows away [N], and how far that is; +inf where there is none."""
    square = (rows_ND**2).sum(axis=1)
    number = np.arange(len(rows_ND))
    best, far = np.zeros(len(rows_ND), np.int64), np.full(len(rows_ND), np.inf)
    for start in range(0, len(rows_ND), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(rows_ND)))
        apart = square[block, None] + square - 2 * rows_ND[block] @ rows_ND.T
        apart[np.abs(number[block, None] - number) <= window] = np.inf
        best[block] = apart.argmin(axis=1)
        least = apart[np.arange(apart.shape[0]), best[block]]
        exact = np.linalg.norm(rows_ND[block] - rows_ND[best[block]], axis=1)
        far[block] = np.where(np.isinf(least), np.inf, exact)
    return best, far
