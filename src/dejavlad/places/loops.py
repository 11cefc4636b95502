"""Loop closures in a sequence as it arrives: has the camera been here before?

Each frame is compared with all earlier ones but the last few (the window), which resemble it whatever it
shows. Where a *sequence* is asked for, not one pair of frames decides but a run of them: the mean similarity
along straight lines through the matrix of similarities, for a few speeds of this passage against the earlier
one, as in SeqSLAM (Milford and Wyeth, ICRA 2012).

Whether a frame stands out from what it resembles by chance is told as for photos in a map (`confidence`).

Legend: N frames so far, D descriptor size, M of them outside of the window, L frames of a sequence.
"""

from __future__ import annotations

import csv
import io
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dejavlad.errors import InputError
from dejavlad.extraction import DescriptorStore
from dejavlad.files import write_whole
from dejavlad.places.confidence import (
    PLACES,
    confidence,
    distinct_places,
    stand_out,
)
from dejavlad.progress import OnProgress, Progress, silent

WINDOW: Final = 30
"""Frames before each that do not count, unless told."""
SPEEDS: Final = (0.8, 0.9, 1.0, 1.1, 1.2)
"""Frames of the earlier passage for each frame of this one."""
KNOWN_FROM: Final = 0.5
"""Confidence from which on a loop is known."""
SAME_STRETCH: Final = 0.05
"""Earlier frames within this share of them all (3 at least) count as one place, as in a map."""
FEWEST_PLACES: Final = 4
"""Of fewer other places nothing is known of what comes by chance: then no loop is."""
_FIRST_ROWS: Final = 256
_BLOCK: Final = 64
"""Frames of a store that are compared with all before them at once."""
_COMPARED: Final = 4096
"""Frames that a block is compared with at once."""
_SEEKING: Final = "seeking loops"

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Loop:
    """A frame, and the earlier frame whose place it shows."""

    frame: int
    """From 0, in the order in which frames were added."""
    closes: int
    """The earlier frame."""
    score: float
    """Cosine similarity of the two, -1 to 1; its mean over the sequence where one is asked for."""
    confidence: float
    """Estimated probability that it is the same place, from how far it stands out."""

    @property
    def known(self) -> bool:
        """Whether it stands out enough."""
        return self.confidence >= KNOWN_FROM


class LoopDetector:
    """Finds loops frame by frame; what it needs grows by one row a frame (4 D bytes).

    Args:
        window: so many frames before each do not count.
        sequence: L, frames whose similarities are averaged; 1 compares single frames.
        threshold: score from which on a loop is given; None: where it stands out (`Loop.known`); ``-inf``:
            each frame's best earlier one, whatever it is.
        speeds: frames of the earlier passage for each of this one; negative where it went the other way.

    Raises:
        InputError: the window is negative, the sequence below 1 or longer than the window, or no speed.
    """

    def __init__(
        self,
        *,
        window: int = WINDOW,
        sequence: int = 1,
        threshold: float | None = None,
        speeds: Sequence[float] = SPEEDS,
    ) -> None:
        if window < 0:
            raise InputError(f"a window is 0 frames or more; given {window}")
        if not 1 <= sequence <= window + 1:
            raise InputError(
                f"a sequence is of 1 to {window + 1} frames, one more than the window of {window}; "
                f"given {sequence}"
            )
        if not speeds or not all(math.isfinite(speed) for speed in speeds):
            raise InputError(f"speeds are finite numbers, at least one; given {list(speeds)}")
        if threshold is not None and math.isnan(threshold):
            raise InputError("the threshold is NaN; give a similarity of -1 to 1")
        self.window, self.sequence, self.threshold = window, sequence, threshold
        self._shifts = sorted({tuple(round(speed * k) for k in range(sequence)) for speed in speeds})
        self._rows: Floats = np.empty((0, 0), np.float32)
        self._described: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._count = 0
        self._numbers: list[int] = []
        self._similar: deque[Floats | None] = deque(maxlen=sequence)  # the last frames' to all before them

    def __len__(self) -> int:
        """N, frames seen so far."""
        return self._count

    @property
    def rows(self) -> Floats:
        """float32 [N, D] at unit length, of the frames so far; zeros where there was no descriptor."""
        return self._rows[: self._count]

    def add(self, descriptor: ArrayLike | None, *, number: int | None = None) -> Loop | None:
        """Take the next frame.

        Args:
            descriptor: [D], of any length (it is brought to unit length); None, or zeros, for a frame that
                could not be described: it keeps its number, and closes no loop.
            number: what the window counts by, where frames are missing: the frame's own number, larger than
                all before. Default: one more than the last.

        Returns:
            The loop that it closes; None where it closes none.

        Raises:
            InputError: other dimensions than before, values that are not finite, or a number that is not
                larger than those before.
        """
        row, frame = self._unit(descriptor, self._count), self._count
        similar = None
        if row is not None:
            similar = self.rows @ row if frame and self._rows.shape[1] else np.zeros(frame, np.float32)
        return self._take(row, similar, number)

    def _take(self, row: Floats | None, similar: Floats | None, number: int | None) -> Loop | None:
        """Take a frame whose similarity to all before it is known."""
        last = self._numbers[-1] if self._numbers else -1
        if number is not None and number <= last:
            raise InputError(f"frame numbers go up; given {number} after {last}")
        self._numbers.append(last + 1 if number is None else int(number))
        frame = self._count
        self._similar.append(similar)
        self._keep(row)
        return None if row is None else self._best(frame)

    def _unit(self, descriptor: ArrayLike | None, frame: int) -> Floats | None:
        if descriptor is None:
            return None
        row = np.asarray(descriptor, np.float32).reshape(-1)
        known = self._rows.shape[1]
        if not len(row) or (known and len(row) != known):
            raise InputError(f"frame {frame} has {len(row)} dimensions, those before it {known}")
        if not np.isfinite(row).all():
            raise InputError(f"the descriptor of frame {frame} holds NaN or infinity")
        length = float(np.linalg.norm(row.astype(np.float64)))
        return row / np.float32(length) if length > 0 else None

    def _keep(self, row: Floats | None) -> None:
        dims = self._rows.shape[1] or (0 if row is None else len(row))
        if self._count == len(self._rows) or dims != self._rows.shape[1]:
            room = max(_FIRST_ROWS, 2 * self._count)
            rows, described = np.zeros((room, dims), np.float32), np.zeros(room, np.bool_)
            if self._rows.shape[1]:
                rows[: self._count] = self._rows[: self._count]
            described[: self._count] = self._described[: self._count]
            self._rows, self._described = rows, described
        if row is not None:
            self._rows[self._count], self._described[self._count] = row, True
        self._count += 1

    def _rows_of(self, frames: NDArray[np.int64]) -> Floats:
        return self._rows[frames]

    def _best(self, frame: int) -> Loop | None:
        score_M = self._scores(frame)
        if not len(score_M) or not np.isfinite(score_M.max()):
            return None
        closes = int(score_M.argmax())
        score = float(score_M[closes])
        if self.threshold is not None and score < self.threshold:
            return None
        loop = Loop(frame, closes, score, self._confidence(score_M))
        return loop if self.threshold is not None or loop.known else None

    def _scores(self, frame: int) -> Floats:
        """[M] how much each frame outside of the window resembles this one; -inf where not described."""
        last = bisect_left(self._numbers, self._numbers[frame] - self.window)
        best = np.full(last, -np.inf, np.float32)
        if not last:
            return best
        recent = list(self._similar)[::-1]  # of this frame, the one before it, ...
        for shifts in self._shifts:
            total, number = np.zeros(last, np.float32), np.zeros(last, np.float32)
            for back, (row, shift) in enumerate(zip(recent, shifts, strict=False)):
                if row is None:
                    continue
                low = max(0, shift)
                high = max(low, min(last, frame - back + shift))
                total[low:high] += row[low - shift : high - shift]
                number[low:high] += 1
            best = np.maximum(best, total / np.maximum(number, 1))
        best[~self._described[:last]] = -np.inf
        return best

    def _confidence(self, score_M: Floats) -> float:
        """How far the best stands out: the nearest frame of each of the nearest places."""
        left, stretch = score_M.copy(), max(3, round(SAME_STRETCH * len(score_M)))
        peaks: list[int] = []
        while len(peaks) < 3 * PLACES:
            peak = int(left.argmax())
            if not np.isfinite(left[peak]):
                break
            peaks.append(peak)
            left[max(0, peak - stretch) : peak + stretch + 1] = -np.inf
        chosen = np.array(peaks)
        far = np.sqrt(np.maximum(2 - 2 * score_M[chosen], 0))
        places = distinct_places(far, np.eye(len(chosen), dtype=np.bool_), self._rows_of(chosen))
        return confidence(stand_out(far[places])) if len(places) >= FEWEST_PLACES else 0.0


class _StoredFrames(LoopDetector):
    """Frames whose descriptors stay in their store; a block of them is compared with all before it."""

    def __init__(self, store: DescriptorStore, window: int, sequence: int, speeds: Sequence[float]) -> None:
        super().__init__(window=window, sequence=sequence, threshold=-math.inf, speeds=speeds)
        self._store, self._described = store, np.zeros(len(store), np.bool_)
        self._factors = np.zeros(len(store), np.float32)  # that bring rows to unit length

    def _rows_of(self, frames: NDArray[np.int64]) -> Floats:
        rows = np.where(self._described[frames, None], self._store.float32(frames), np.float32(0))
        return np.asarray(rows * self._factors[frames, None])

    def _keep(self, row: Floats | None) -> None:
        self._count += 1

    def block(self, last: int) -> Iterator[tuple[Floats | None, Floats | None]]:
        """Each frame up to `last`, at unit length, and its similarity to those before; None: it failed."""
        first, block_BD = self._count, np.zeros((last - self._count, self._store.dims), np.float32)
        for at in np.flatnonzero(self._store.done[first:last]).tolist():
            row, stored = self._unit(self._store.rows[first + at], first + at), self._store.rows[first + at]
            if row is not None:
                block_BD[at], self._described[first + at] = row, True
                self._factors[first + at] = 1 / np.linalg.norm(stored.astype(np.float64))
        similar_BN = np.empty((len(block_BD), last), np.float32)
        for start in range(0, last, _COMPARED):
            part = slice(start, min(start + _COMPARED, last))
            np.matmul(block_BD, self._store.float32(part).T, out=similar_BN[:, part])
        similar_BN *= self._factors[:last]
        similar_BN[:, ~self._described[:last]] = 0
        for at, row in enumerate(block_BD):
            shown = self._described[first + at]
            yield (row, similar_BN[at, : first + at]) if shown else (None, None)


def find_loops(
    store: DescriptorStore,
    *,
    window: int = WINDOW,
    sequence: int = 1,
    speeds: Sequence[float] = SPEEDS,
    numbers: NDArray[np.int64] | None = None,
    on_progress: OnProgress = silent,
) -> list[Loop]:
    """Each frame's best earlier frame, in the order of a store; frames without any have no entry.

    Descriptors are read from the store block by block; memory holds the similarities of a block of frames to
    all before them (256 bytes a frame of the sequence; twice that, or more, with `sequence` above 1).

    Args:
        store: descriptors of the sequence; photos that failed close no loop.
        window: see `LoopDetector`.
        sequence: likewise.
        speeds: likewise.
        numbers: int64 [N] of the frames, ascending, by which the window counts (`sequence_numbers`); None
            counts rows.
        on_progress: told of each frame.
    """
    detector = _StoredFrames(store, window, sequence, speeds)
    loops = []
    for first in range(0, len(store), _BLOCK):
        for row, similar in detector.block(min(first + _BLOCK, len(store))):
            frame = len(detector)
            loop = detector._take(row, similar, None if numbers is None else int(numbers[frame]))
            if loop is not None:
                loops.append(loop)
            on_progress(Progress(_SEEKING, frame + 1, len(store)))
    return loops


def similarities(store: DescriptorStore, frames: Sequence[int]) -> Floats:
    """[K, K] cosine similarities of some frames; 0 to those that could not be described."""
    rows = store.float32(np.asarray(frames, np.int64))
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.asarray(rows @ rows.T, np.float32)


def write_loops(
    path: str | Path, loops: Iterable[Loop], names: Sequence[str], right: Sequence[bool] | None = None
) -> Path:
    """Write ``i,j,score,confidence,frame,closes`` (and ``right``) as CSV; the file is replaced whole.

    Args:
        path: the file.
        loops: one a line.
        names: of all frames.
        right: whether each loop is, where that is known.
    """
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    judged = right is not None
    lines.writerow(["i", "j", "score", "confidence", "frame", "closes", *(["right"] if judged else [])])
    rows = list(loops)
    for loop, verdict in zip(rows, right if right is not None else [False] * len(rows), strict=True):
        lines.writerow(
            [
                *(loop.frame, loop.closes, f"{loop.score:.6f}", f"{loop.confidence:.4f}"),
                *(names[loop.frame], names[loop.closes]),
                *([int(verdict)] if judged else []),
            ]
        )
    return write_whole(path, text.getvalue())
