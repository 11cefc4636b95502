"""Loops found frame by frame: the window, the sequence, what cannot be described."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.evaluation.loops import both_ways, score_loops
from dejavlad.extraction import DescriptorStore
from dejavlad.ground_truth import RowSets
from dejavlad.ground_truth.loop_truth import loop_truth
from dejavlad.photo import Photo, PhotoList
from dejavlad.places import loops as loops_module
from dejavlad.places.loops import (
    Loop,
    LoopDetector,
    find_loops,
    write_loops,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"


def drive(
    laps: int = 2, length: int = 60, dims: int = 48, noise: float = 0.4, seed: int = 0
) -> NDArray[np.float32]:
    """Descriptors of a drive round and round: neighbours resemble each other, laps differ by noise."""
    random = np.random.default_rng(seed)
    far = random.normal(size=(length, dims))
    places = far + 0.5 * (np.roll(far, 1, axis=0) + np.roll(far, -1, axis=0))
    rows = np.concatenate([places + noise * random.normal(size=places.shape) for _ in range(laps)])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def slow_scores(rows: NDArray[np.float32], frame: int, window: int, length: int, speeds) -> list[float]:
    """Mean similarity along lines, entry by entry."""
    similar = rows.astype(np.float64) @ rows.T.astype(np.float64)
    best = []
    for j in range(max(0, frame - window)):
        means = []
        for speed in speeds:
            line = [
                similar[frame - k, j - round(speed * k)]
                for k in range(length)
                if frame - k >= 0 and 0 <= j - round(speed * k) < frame - k
            ]
            means.append(np.mean(line))
        best.append(max(means))
    return best


@pytest.mark.parametrize(("window", "length"), [(0, 1), (10, 1), (10, 4), (5, 6)])
@pytest.mark.parametrize("speeds", [(0.8, 0.9, 1.0, 1.1, 1.2), (1.0,), (-1.0, 0.0, 2.0)])
def test_scores_against_the_slow_way(window: int, length: int, speeds: tuple[float, ...]) -> None:
    rows = drive(laps=2, length=20)
    detector = LoopDetector(window=window, sequence=length, threshold=-math.inf, speeds=speeds)
    for frame in range(len(rows)):
        loop = detector.add(rows[frame] * (1 + frame))  # of any length
        slow = slow_scores(rows, frame, window, length, speeds)
        if not slow:
            assert loop is None
        else:
            assert loop is not None and loop.frame == frame
            assert loop.score == pytest.approx(max(slow), abs=1e-5)
            assert slow[loop.closes] == pytest.approx(max(slow), abs=1e-5)
    assert len(detector) == 40 and np.allclose(detector.rows, rows, atol=1e-6)


def test_a_loop_stands_out_and_nothing_else_does() -> None:
    rows = drive(dims=512)
    detector = LoopDetector(window=10)
    loops = [loop for row in rows if (loop := detector.add(row)) is not None]
    again = [loop for loop in loops if loop.frame >= 60]
    assert len(again) > 50 and all(abs(loop.frame - 60 - loop.closes) <= 1 for loop in again)
    assert len(loops) - len(again) <= 5  # of 49 frames that close none
    assert all(loop.known for loop in loops)


def test_a_sequence_finds_what_single_frames_do_not() -> None:
    rows = drive(noise=2.5)
    right = [
        np.argmax(slow) == frame - 60
        for frame in range(60, 120)
        if (slow := slow_scores(rows, frame, 10, 1, [1.0]))
    ]
    runs = find_loops(DescriptorStore.from_arrays(rows), window=10, sequence=6)
    sure = [loop.frame - 60 == loop.closes for loop in runs if loop.frame >= 65]
    assert np.mean(sure) > np.mean(right) + 0.2


def test_a_threshold_instead() -> None:
    rows = drive()
    detector = LoopDetector(window=10, threshold=0.6)
    loops = [loop for row in rows if (loop := detector.add(row)) is not None]
    assert loops and min(loop.score for loop in loops) >= 0.6
    assert LoopDetector(window=0, threshold=2.0).add(rows[0]) is None


def test_frames_that_could_not_be_described_keep_their_numbers() -> None:
    rows = drive()
    detector = LoopDetector(window=10, sequence=3, threshold=-math.inf)
    for frame, row in enumerate(rows):
        given = None if frame in (0, 5, 70) else np.zeros(48) if frame == 6 else row
        loop = detector.add(given)
        assert loop is None or (loop.frame == frame and loop.closes not in (0, 5, 6))
        if frame in (70, 6):
            assert loop is None
        if frame in (69, 119):
            assert loop is not None and loop.closes == frame - 60
    assert len(detector) == 120


def test_bad_detectors_and_descriptors() -> None:
    for given, message in (
        ({"window": -1}, "0 frames or more"),
        ({"window": 3, "sequence": 5}, "1 to 4 frames"),
        ({"sequence": 0}, "1 to 31"),
        ({"speeds": ()}, "at least one"),
        ({"speeds": (math.nan,)}, "finite"),
        ({"threshold": math.nan}, "NaN"),
    ):
        with pytest.raises(InputError, match=message):
            LoopDetector(**given)
    detector = LoopDetector()
    detector.add(np.ones(4))
    with pytest.raises(InputError, match="5 dimensions"):
        detector.add(np.ones(5))
    with pytest.raises(InputError, match="NaN"):
        detector.add([1, 2, 3, math.nan])
    with pytest.raises(InputError, match="0 dimensions"):
        LoopDetector().add([])


@pytest.mark.parametrize("sequence", [1, 4])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_store_is_compared_in_blocks(monkeypatch: pytest.MonkeyPatch, sequence: int, scale: float) -> None:
    monkeypatch.setattr(loops_module, "_BLOCK", 7)
    monkeypatch.setattr(loops_module, "_COMPARED", 16)
    rows = drive() * np.float32(scale)
    rows[[0, 5, 70]] = 0  # these show nothing
    detector = LoopDetector(window=10, sequence=sequence, threshold=-math.inf)
    one_by_one = [loop for row in rows if (loop := detector.add(row)) is not None]
    loops = find_loops(DescriptorStore.from_arrays(rows), window=10, sequence=sequence)
    assert [(loop.frame, loop.closes) for loop in loops] == [(loop.frame, loop.closes) for loop in one_by_one]
    for loop, expected in zip(loops, one_by_one, strict=True):
        assert loop.score == pytest.approx(expected.score, abs=1e-5)
        assert loop.confidence == pytest.approx(expected.confidence, abs=1e-4)


def test_loops_as_csv(tmp_path: Path) -> None:
    loops = [Loop(40, 1, 0.5, 0.9), Loop(41, 2, 0.25, 0.1)]
    names = [f"a, {i}.jpg" for i in range(50)]
    write_loops(tmp_path / "loops.csv", loops, names, [True, False])
    with open(tmp_path / "loops.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["i"], row["j"], row["score"], row["right"]) for row in rows] == [
        ("40", "1", "0.500000", "1"),
        ("41", "2", "0.250000", "0"),
    ]
    assert rows[0]["frame"] == "a, 40.jpg" and rows[0]["closes"] == "a, 1.jpg"
    write_loops(tmp_path / "loops.csv", loops, names)
    assert "right" not in (tmp_path / "loops.csv").read_text()


def described(centres: NDArray[np.float64], dims: int = 64) -> NDArray[np.float32]:
    """Made-up descriptors of places: random waves over the ground, so that what is near looks alike."""
    random = np.random.default_rng(0)
    waves, phases = random.normal(size=(3, dims)) / 15, random.random(dims) * 2 * np.pi
    rows = np.cos(centres @ waves + phases) + 0.15 * random.normal(size=(len(centres), dims))
    return rows.astype(np.float32)


@pytest.mark.slow
def test_loops_of_kitti_00_by_made_up_descriptors() -> None:
    path = SHARED / "truth" / "kitti_00_poses.txt"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    centres = np.loadtxt(path)[:, [3, 7, 11]]
    frames = PhotoList(Photo(f"{i:06d}.png", Path(f"{i:06d}.png")) for i in range(len(centres)))
    right, _ = loop_truth(str(path), frames)
    rows = described(centres)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    loops = find_loops(DescriptorStore.from_arrays(rows), window=250)
    score = score_loops(
        [loop.frame for loop in loops],
        [loop.closes for loop in loops],
        [loop.score for loop in loops],
        right,
        window=250,
    )
    assert len(loops) == 4541 - 251 and score.curve.relevant == 804
    assert score.curve.auc > 0.95 and 0 < score.curve.recall_at_full_precision < 1
    port = both_ways(rows, centres)
    assert port.curve.relevant == 1706 and port.auc > 0.95  # the first passages count too


def test_the_window_counts_frame_numbers_where_frames_are_missing() -> None:
    rows, window = drive(laps=2, length=20), 12
    numbers = np.array([*range(15), *range(22, 47)])  # 40 frames; 15 to 21 are missing
    detector = LoopDetector(window=window, threshold=-math.inf)
    for frame, number in enumerate(numbers.tolist()):
        loop = detector.add(rows[frame], number=number)
        far = [j for j in range(frame) if numbers[j] < number - window]
        similar = rows[far] @ rows[frame]
        assert (loop is None) == (not far)
        if loop is not None:
            assert loop.closes == far[int(similar.argmax())]
    by_rows = LoopDetector(window=window, threshold=-math.inf)
    assert [by_rows.add(row) is None for row in rows[:20]] == [True] * 13 + [False] * 7
    for wrong in (46, -1):
        with pytest.raises(InputError, match="frame numbers go up"):
            detector.add(rows[0], number=wrong)
    right = loop_truth_of(numbers, 20)
    frames, closes = [16], [2]  # numbers 23 and 2: outside of the window of 15 by their numbers alone
    score = score_loops(frames, closes, [1.0], right, window=15, numbers=numbers)
    assert score.n_frames == 40
    with pytest.raises(InputError, match="the window"):
        score_loops(frames, closes, [1.0], right, window=15)
    with pytest.raises(InputError, match="as many numbers, ascending"):
        score_loops(frames, closes, [1.0], right, window=15, numbers=numbers[::-1])


def loop_truth_of(numbers: NDArray[np.int64], lap: int) -> RowSets:
    """Frames of one place, which come again after `lap` numbers."""
    apart = np.abs(numbers[:, None] - numbers)
    return RowSets.of([np.flatnonzero(row == lap) for row in apart], len(numbers))
