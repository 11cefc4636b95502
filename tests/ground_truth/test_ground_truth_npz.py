"""Ground truth as Patch-NetVLAD keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dejavlad.errors import InputError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.ground_truth import (
    Truth,
    TruthPositions,
    parse_truth,
    read_truth_npz,
    truth_file,
    truth_frames,
    truth_positions,
    write_truth_npz,
)
from dejavlad.ground_truth.frames import FrameRule
from dejavlad.photo import Photo, PhotoList


def listing(count: int, at: list[Position | None] | None = None) -> PhotoList:
    where = at or [None] * count
    return PhotoList(Photo(f"{i}.jpg", Path(f"{i}.jpg"), position=where[i]) for i in range(count))


def lists(truth: Truth) -> list[list[int]]:
    return [rows.tolist() for rows in truth.positives]


def save(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def original(path: Path, n: int = 40, radius: int = 10) -> Path:
    """As the original's nordland file: row i at (i, i), whole numbers."""
    at = np.stack([np.arange(n)] * 2, axis=1)
    return save(path, utmQ=at, utmDb=at, posDistThr=np.asarray(radius))


def test_nordland_of_the_original_is_within_seven_frames(tmp_path: Path) -> None:
    truth = parse_truth(str(original(tmp_path / "nordland.npz")), listing(40), listing(40))
    assert lists(truth) == lists(truth_frames(40, 40, 7))
    assert truth.description == {"kind": "frames", "tolerance": 7}
    assert (truth.positives.counts[0], truth.positives.counts[20]) == (8, 15)


def test_radius_is_inclusive_and_can_be_overridden(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a,b.npz",
        utmQ=np.array([[0.0, 0.0], [900, 0]]),
        utmDb=np.array([[0.0, 25], [0, 25.001], [3, 4]]),
        posDistThr=np.array([[25]], np.uint8),
    )
    database, queries = listing(3), listing(2)
    assert lists(parse_truth(f"{path}", database, queries)) == [[0, 2], []]
    assert lists(parse_truth(f"{path}:5", database, queries)) == [[2], []]
    assert lists(parse_truth(f"{path}:4.9m", database, queries)) == [[], []]
    truth = parse_truth(f"{path}:30,leave-one-out", database, queries)
    assert lists(truth) == [[1, 2], []]
    assert truth.description["radius_m"] == 30 and truth.description["leave_one_out"] is True
    for wrong in ("", "far", "-1", "nan"):
        with pytest.raises(InputError, match="is not a distance in metres"):
            parse_truth(f"{path}:{wrong}", database, queries)


def test_a_drive_letter_is_no_radius(tmp_path: Path) -> None:
    for text in (r"C:\truth\none.npz", r"C:\truth\none.NPZ:10"):
        with pytest.raises(InputError, match=r"there is no truth file .*none"):
            parse_truth(text, listing(1), listing(1))


def test_the_same_protocol_as_positions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    database_EN, queries_EN = (
        [Position(float(e), float(n), "33N") for e, n in rng.uniform(0, 100, (count, 2))] for count in (30, 8)
    )
    database, queries = listing(30, list(database_EN)), listing(8, list(queries_EN))
    path = write_truth_npz(tmp_path / "t.npz", TruthPositions.of_photos(database, queries, 25))
    from_file, direct = truth_file(path, database, queries), truth_positions(database, queries, 25)
    assert from_file.hash == direct.hash and from_file.description == direct.description
    assert sum(map(len, lists(from_file))) > 10


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 14))
@settings(max_examples=40, deadline=None)
def test_frames_file_is_exactly_frames(n_database: int, n_queries: int, tolerance: int) -> None:
    rule = FrameRule(tolerance, rows=True)
    made = TruthPositions.of_frames(listing(n_database), listing(n_queries), rule)
    want = [[row for row in range(n_database) if abs(row - query) <= tolerance] for query in range(n_queries)]
    assert [rows.tolist() for rows in made.right()] == want
    assert made.tolerance == tolerance


@given(st.integers(2, 12), st.floats(0, 20), st.sampled_from([(1, 0), (1, 1)]))
@settings(max_examples=60, deadline=None)
def test_tolerance_is_what_the_positions_tell(n: int, radius: float, step: tuple[int, int]) -> None:
    at = np.arange(n)[:, None] * np.array(step)
    truth = TruthPositions(at, at, radius)
    assert truth.tolerance is not None
    assert [rows.tolist() for rows in truth.right()] == lists(truth_frames(n, n, truth.tolerance))
    assert TruthPositions(at + 5, at, radius).tolerance is None


def test_the_original_reads_what_is_written(tmp_path: Path) -> None:
    made = TruthPositions(np.array([[1.5, 2], [3, 4]]), np.array([[5.0, 6]]), 25)
    path = write_truth_npz(tmp_path / "new" / "t.npz", made)
    with np.load(path) as archive:
        assert sorted(archive.files) == ["posDistThr", "utmDb", "utmQ"]
        assert archive["utmDb"].tolist() == [[1.5, 2], [3, 4]] and archive["utmQ"].tolist() == [[5, 6]]
        assert archive["posDistThr"].shape == () and archive["posDistThr"] == 25
    assert list(path.parent.iterdir()) == [path]
    read = read_truth_npz(path)
    assert read.radius == 25 and read.database.tolist() == made.database.tolist()
    with pytest.raises(InputError, match=r"ends in .npz; given '.*t.txt'"):
        write_truth_npz(tmp_path / "t.txt", made)


def test_rows_must_be_those_of_the_lists(tmp_path: Path) -> None:
    path = save(tmp_path / "t.npz", utmQ=np.zeros((2, 2)), utmDb=np.ones((3, 2)), posDistThr=1)
    message = r"3 database photos and 2 queries, the lists hold {}; its rows"
    with pytest.raises(InputError, match=message.format("4 and 2")):
        truth_file(path, listing(4), listing(2))
    with pytest.raises(InputError, match=r"the lists hold 2 and 3 \(are the two lists swapped\?\)"):
        truth_file(path, listing(2), listing(3))


GOOD = {"utmQ": np.zeros((2, 2)), "utmDb": np.zeros((3, 2)), "posDistThr": np.float64(1)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"utmQ": np.zeros((2, 3))},
            r"positions of the queries are numbers \[N, 2\]; given float64 \[2, 3\]",
        ),
        ({"utmDb": np.zeros((2, 3))}, "turn it: one row a photo"),
        ({"utmDb": np.array([[0, 0], [np.nan, 0], [0, np.inf]])}, "2 of 3 .* database .* row 1"),
        ({"utmDb": np.array([["a", "b"]])}, r"utmDb\.npy: it holds values of <U1, not numbers"),
        ({"posDistThr": np.array([1, 2])}, "posDistThr is one number"),
        ({"posDistThr": np.float64(np.nan)}, "radius is 0 metres or more; given nan"),
        ({"posDistThr": np.float64(-1)}, "radius is 0 metres or more; given -1"),
        ({"posDistThr": np.asarray("far")}, r"posDistThr\.npy: it holds values of <U3, not numbers"),
        ({"posDistThr": np.array([None])}, "values of object, not numbers"),
    ],
)
def test_bad_arrays(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_truth_npz(save(tmp_path / "t.npz", **{**GOOD, **changed}))


def test_bad_files(tmp_path: Path) -> None:
    path = save(tmp_path / "t.npz", utmQ=np.zeros((2, 2)), other=1)
    with pytest.raises(InputError, match=r"it lacks utmDb, posDistThr \(it holds utmQ, other\)"):
        read_truth_npz(path)
    whole = save(tmp_path / "w.npz", **GOOD).read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="is no truth file of Patch-NetVLAD"):
            read_truth_npz(path)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match="one array"):
        read_truth_npz(path)


def test_photos_without_position_are_refused() -> None:
    sample: list[Position | None] = [Position(0, 0), None, None]
    with pytest.raises(InputError, match=r"2 of 3 photos of the queries have no position, first '1.jpg'"):
        TruthPositions.of_photos(listing(1, sample[:1]), listing(3, sample), 25)
    mixed: list[Position | None] = [Position(0, 0), Position(0, 0, "33N")]
    with pytest.raises(InputError, match="some have none"):
        TruthPositions.of_photos(listing(2, mixed), listing(2, mixed), 25)


def test_zones_are_put_on_one_plane_where_that_changes_nothing() -> None:
    # 12 degrees east is where zone 32 ends and 33 begins
    at: list[Position | None] = [utm_from_latlon(55, 12 + d * 1e-4) for d in (-3, -1, 1, 2, 4)]
    assert {p.zone for p in at if p} == {"32N", "33N"}
    photos = listing(5, at)
    made = TruthPositions.of_photos(photos, photos, 14)
    assert [rows.tolist() for rows in made.right()] == lists(truth_positions(photos, photos, 14))
    assert [len(rows) for rows in made.right()] == [2, 3, 3, 3, 2]
    apart = float(np.hypot(*(made.database[1] - made.database[0])))
    with pytest.raises(InputError, match=r"zones 32N, 33N.*on that of 33N, other photos.*--truth positions:"):
        TruthPositions.of_photos(photos, photos, apart * (1 - 1e-7))
