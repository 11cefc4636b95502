"""What counts as right, and datasets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dejavlad.datasets import (
    dataset_info,
    open_dataset,
    photos,
    photos_info,
)
from dejavlad.datasets.info import str_photos
from dejavlad.errors import InputError, PhotoError, UnknownNameError
from dejavlad.geo import Position, distance, utm_from_latlon
from dejavlad.ground_truth import (
    PlaceDataset,
    RowSets,
    Truth,
    leave_one_out,
    parse_truth,
    truth_frames,
    truth_positions,
    truth_same_name,
    truth_text,
)
from dejavlad.photo import Photo, PhotoList


def listing(*names: str, called: str = "some", at: list[Position | None] | None = None) -> PhotoList:
    where = at or [None] * len(names)
    return PhotoList(
        (Photo(name, Path(name), position=p) for name, p in zip(names, where, strict=True)), name=called
    )


def lists(truth: Truth) -> list[list[int]]:
    return [rows.tolist() for rows in truth.positives]


sets_of_rows = st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=6)


@given(sets_of_rows, st.data())
@settings(max_examples=60, deadline=None)
def test_row_sets_against_python_sets(given_sets: list[list[int]], data: st.DataObject) -> None:
    sets = RowSets.of(given_sets, 10)
    assert [rows.tolist() for rows in sets] == [sorted(set(rows)) for rows in given_sets]
    k = data.draw(st.integers(0, 5))
    rows = np.array(
        data.draw(
            st.lists(
                st.lists(st.integers(-1, 9), min_size=k, max_size=k),
                min_size=len(given_sets),
                max_size=len(given_sets),
            )
        )
    ).reshape(len(given_sets), k)
    slow = [
        [row in members for row in ranked] for ranked, members in zip(rows.tolist(), given_sets, strict=True)
    ]
    assert sets.contains(rows.astype(np.int64)).tolist() == slow
    others = data.draw(
        st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=len(given_sets), max_size=len(given_sets))
    )
    left = sets.minus(RowSets.of(others, 10))
    assert [r.tolist() for r in left] == [
        sorted(set(a) - set(b)) for a, b in zip(given_sets, others, strict=True)
    ]


def test_row_sets_refuse_rows_outside() -> None:
    for wrong in (-1, 3):
        with pytest.raises(InputError, match=f"query 1: row {wrong} is outside of a database of 3"):
            RowSets.of([[0], [1, wrong]], 3)
    with pytest.raises(InputError, match="whole numbers"):
        RowSets.of([[0.5]], 3)
    sets = RowSets.of([[0], [], [1, 2]], 3)
    assert sets[-1].tolist() == [1, 2] and [r.tolist() for r in sets[1:]] == [[], [1, 2]]
    with pytest.raises(IndexError):
        sets[3]
    assert sets == RowSets.of([[0], [], [2, 1]], 3) != RowSets.of([[0], [], [2, 1]], 4)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 14))
def test_frames_against_the_loop(n_database: int, n_queries: int, tolerance: int) -> None:
    truth = truth_frames(n_database, n_queries, tolerance)
    assert lists(truth) == [
        [row for row in range(n_database) if abs(row - query) <= tolerance] for query in range(n_queries)
    ]


def test_same_name() -> None:
    database = listing("a/1.jpg", "b/1.jpg", "b/1.png", "c.jpg")
    assert lists(truth_same_name(database, listing("b/1.jpg", "c.webp", "d.jpg"))) == [[1, 2], [3], []]


def test_same_name_below_the_lists_own_folders() -> None:
    database = listing("nordland/summer/1.png", "nordland/summer/x/2.png")
    queries = listing("nordland/winter/x/2.png", "nordland/winter/1.png")
    assert lists(truth_same_name(database, queries)) == [[1], [0]]
    with pytest.raises(
        InputError, match=r"no photo of q has the name of one of db; e.g. 'z.jpg' and 'a.jpg'"
    ):
        truth_same_name(listing("a.jpg", called="db"), listing("z.jpg", called="q"))


def test_same_name_of_frames() -> None:
    database = PhotoList([Photo("a.mp4", Path("a.mp4"), frame=i) for i in range(3)])
    queries = PhotoList([Photo("a.mp4", Path("b/a.mp4"), frame=i) for i in (2, 5)])
    assert lists(truth_same_name(database, queries)) == [[2], []]


def test_positions_against_the_loop_across_zones() -> None:
    rng = np.random.default_rng(0)
    # 12 degrees east is where zone 32 ends and 33 begins
    places = [utm_from_latlon(55 + a, 12 + b) for a, b in rng.uniform(-4e-4, 4e-4, (60, 2)).tolist()]
    database: list[Position | None] = [*places[:40], None, *places[40:50]]
    queries: list[Position | None] = [*places[50:], None]
    assert {p.zone for p in places} == {"32N", "33N"}
    truth = truth_positions(database, queries, 25)
    slow = [
        [] if q is None else [i for i, p in enumerate(database) if p is not None and distance(p, q) <= 25]
        for q in queries
    ]
    assert lists(truth) == slow
    assert sum(map(len, slow)) > 10
    assert truth.description == {
        "kind": "positions",
        "radius_m": 25.0,
        "database_without_position": 1,
        "queries_without_position": 1,
    }
    assert truth.n_without_truth == sum(not rows for rows in slow) >= 1


def test_positions_radius_is_inclusive() -> None:
    truth = truth_positions([Position(0, 0), Position(0, 25), Position(0, 25.001)], [Position(0, 0)], 25)
    assert lists(truth) == [[0, 1]]


def test_positions_refuse_lists_without_any() -> None:
    with pytest.raises(InputError, match=r"none of the 2 photos of the queries .*--positions"):
        truth_positions([Position(0, 0)], [None, None], 25)


def test_ignored_rows_are_never_right() -> None:
    truth = Truth([[0, 1], [2]], 3, {"kind": "given"}, ignored=[[1], []])
    assert lists(truth) == [[0], [2]]
    assert truth.ignored is not None and truth.ignored[0].tolist() == [1]
    with pytest.raises(InputError, match="2 queries have positives but 1"):
        Truth([[0], [1]], 2, {}, ignored=[[0]])


def test_leave_one_out(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    at: list[Position | None] = [Position(0, 0), Position(5, 0), Position(900, 0)]
    database = listing("a", "b", "c", at=at)
    queries = PhotoList(
        [Photo(f"x/../{n}", Path(n), position=p) for n, p in zip("cab", [at[2], at[0], at[1]], strict=True)]
    )
    truth = parse_truth("positions:25,leave-one-out", database, queries)
    assert lists(truth) == [[], [1], [0]]
    assert truth.ignored is not None and [r.tolist() for r in truth.ignored] == [[2], [0], [1]]
    assert truth.description["leave_one_out"] is True
    plain = parse_truth("positions:25", database, queries)
    assert lists(plain) == [[2], [0, 1], [0, 1]]
    assert plain.hash != truth.hash
    again = leave_one_out(Truth(plain.positives, 3, {}, ignored=[[0], [], []]), database, queries)
    assert again.ignored is not None and [r.tolist() for r in again.ignored] == [[0, 2], [0], [1]]


def test_hash_is_of_what_is_right() -> None:
    a = Truth([[1, 0], []], 3, {"kind": "one"})
    assert a.hash == Truth([[0, 1, 1], []], 3, {"kind": "other"}).hash
    different = [
        Truth([[0, 1], []], 4, {}),
        Truth([[0], [1]], 3, {}),
        Truth([[0, 1], [], []], 3, {}),
        Truth([[0, 1], []], 3, {}, ignored=[[], []]),
        Truth([[0, 1], []], 3, {}, ignored=[[2], []]),
    ]
    assert len({t.hash for t in [a, *different]}) == 6


def test_parse_truth() -> None:
    database, queries = listing("1", "2", "3"), listing("2", "1")
    assert lists(parse_truth("frames:0", database, queries)) == [[1], [0]]  # by the numbers in names
    assert lists(parse_truth("frames:0@rows", database, queries)) == [[0], [1]]
    assert lists(parse_truth("same-name", database, queries)) == [[1], [0]]
    for wrong in ("frames", "frames:-1", "frames:x", "name", "", "frames:1,leave-two-out", "positions"):
        with pytest.raises(InputError, match="valid are frames:2, same-name or positions:25"):
            parse_truth(wrong, database, queries)
    for wrong in ("positions:", "positions:far", "positions:-1", "positions:nan", "positions:inf"):
        with pytest.raises(InputError, match="is not a distance in metres"):
            parse_truth(wrong, database, queries)


def test_description_is_json() -> None:
    truth = truth_positions([Position(0, 0)], [Position(0, 0)], np.float64(25))
    assert json.loads(json.dumps(truth.description)) == truth.description
    assert "1 queries" in repr(truth)


def test_truth_in_words() -> None:
    database = listing("1", "2", at=[Position(0, 0), None])
    texts = [
        truth_text(parse_truth(text, database, database).description)
        for text in ("frames:2", "same-name,leave-one-out", "positions:25")
    ]
    assert texts == [
        "same frame number within 2",
        "same name, a query's own photo left out",
        "taken within 25 m (without a position: 1 database, 1 queries)",
    ]
    assert truth_text({}) == "as given" and truth_text({"kind": "mine"}) == "kind mine"


def test_from_arrays() -> None:
    positions = np.array([[0.0, 0.0], [10.0, 0.0], [np.nan, np.nan], [500.0, 0.0]])
    dataset = PlaceDataset.from_arrays(
        ["a", "b", "c", "d"], positions, ["q"], np.array([[495.0, 0.0]]), zone="33N", radius=10, root="photos"
    )
    assert dataset.truth is not None and lists(dataset.truth) == [[3]]
    assert dataset.database[1].position == Position(10, 0, "33N")
    assert dataset.database[1].path == Path("photos/b")
    assert dataset.database[2].position is None
    assert dataset.protocol == "positions:10"


def test_from_arrays_among_themselves_and_degrees_and_pixels() -> None:
    images = [np.full((4, 4, 3), i, np.uint8) for i in range(3)]
    where = np.array([[55.0, 13.0], [55.0001, 13.0], [56.0, 13.0]])
    dataset = PlaceDataset.from_arrays(["a", "b", "c"], where, degrees=True, images=images)
    assert dataset.truth is not None and lists(dataset.truth) == [[1], [0], []]
    assert dataset.protocol == "positions:25,leave-one-out"
    assert dataset.queries[2].pixels is images[2]
    listed = PlaceDataset.from_arrays(["a"], [None], ["b"], [Position(1, 1)])
    assert listed.truth is None
    own = PlaceDataset.from_arrays(["a"], None, ["b"], truth=Truth([[0]], 1, {}))
    assert own.truth is not None and own.protocol is None


def test_from_arrays_errors() -> None:
    with pytest.raises(InputError, match="2 names but 1 positions"):
        PlaceDataset.from_arrays(["a", "b"], [Position(0, 0)])
    with pytest.raises(InputError, match=r"given \[1, 3\]"):
        PlaceDataset.from_arrays(["a"], np.zeros((1, 3)))
    with pytest.raises(InputError, match="query_names"):
        PlaceDataset.from_arrays(["a"], None, None, np.zeros((1, 2)))
    with pytest.raises(
        InputError, match="the truth is of 2 database photos and 1 queries, the lists hold 1 and 1"
    ):
        PlaceDataset("x", listing("a"), listing("b"), Truth([[0]], 2, {}))


def made(root: Path, *parts: str, csv: bool = True) -> Path:
    for part in parts:
        (root / part).mkdir(parents=True)
        for i in range(3):
            (root / part / f"{i}.jpg").write_bytes(b"x")
        if csv:
            lines = "".join(f"{i}.jpg,{100 * i},0\n" for i in range(3))
            (root / part / "positions.csv").write_text("name,east,north\n" + lines, encoding="utf-8")
    return root


def test_open_folders(tmp_path: Path) -> None:
    root = made(tmp_path / "town" / "test", "database", "queries")
    for dataset in (
        open_dataset(root),
        open_dataset("test", root=tmp_path / "town"),
        open_dataset("folders", root=root),
        open_dataset("town-test", root=tmp_path / "town"),
    ):
        assert len(dataset.database) == len(dataset.queries) == 3
        assert dataset.truth is not None and lists(dataset.truth) == [[0], [1], [2]]
        assert dataset.protocol == "positions:25"
    assert photos(f"{root}:queries").positions[1] == Position(100, 0)
    assert photos("town-test:database", root=tmp_path / "town").keys == ["0.jpg", "1.jpg", "2.jpg"]


def test_open_folders_with_one_file_beside_and_other_names(tmp_path: Path) -> None:
    made(tmp_path, "map", "query", csv=False)
    assert open_dataset(tmp_path).truth is None
    lines = "map/0.jpg,0,0\nmap/1.jpg,50,0\nquery/0.jpg,51,0\n"
    (tmp_path / "positions.csv").write_text("name,east,north\n" + lines, encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert dataset.truth is not None and lists(dataset.truth) == [[1], [], []]
    assert dataset.truth.description["database_without_position"] == 1


def test_open_dataset_where_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "town" / "val", "database", "queries")
    monkeypatch.setenv("DEJAVLAD_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("DEJAVLAD_ROOT_TOWN", str(tmp_path / "town"))
    assert open_dataset("town-val").truth is not None


def test_open_dataset_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEJAVLAD_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.delenv("DEJAVLAD_ROOT_TOWN", raising=False)
    with pytest.raises(UnknownNameError, match="did you mean town-test"):
        open_dataset("town-tst")
    with pytest.raises(InputError, match="--root"):
        open_dataset("town-test")
    made(tmp_path, "train/database", "val/database", "test/database")
    with pytest.raises(InputError, match=r"give one of its parts: .*train"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match=r"database \(or map\) and queries"):
        open_dataset(tmp_path / "train")


def test_dataset_info() -> None:
    at: list[Position | None] = [Position(0, 0, "33N"), Position(30, 400, "33N"), None, Position(7, 7, "34N")]
    database = listing("a", "b", "c", "d", at=at, called="db")
    queries = listing("q", "r", at=[Position(1, 1, "33N"), Position(900, 900, "33N")], called="q")
    dataset = PlaceDataset("made", database, queries, truth_positions(database, queries, 25))

    def size(photo: Photo) -> tuple[int, int]:
        if photo.name == "c":
            raise PhotoError("c", "broken")
        return 480, 640

    info = dataset_info(dataset, read_size=size, sample=50)
    assert (info.database.photos, info.database.with_position) == (4, 3)
    assert [(e.zone, e.photos, e.east_m, e.north_m) for e in info.database.extents] == [
        ("33N", 2, 30.0, 400.0),
        ("34N", 1, 0.0, 0.0),
    ]
    assert info.database.sizes == {"480x640": 3} and list(info.database.unreadable) == ["c"]
    assert info.truth is not None
    assert (info.truth.queries, info.truth.without_truth, info.truth.fewest, info.truth.most) == (2, 1, 1, 1)
    assert json.loads(json.dumps(info.to_dict()))["database"]["photos"] == 4
    text = str(info)
    assert "30 x 400 m in zone 33N" in text and "480x640 (3)" in text and "1 of 2 queries" in text
    bare = dataset_info(PlaceDataset("bare", database, queries), sample=1)
    assert bare.truth is None and bare.database.looked_at == 0 and "not known" in str(bare)
    tagged = PhotoList([Photo(n, Path(n), tags=("night",), group="p", time=1.0) for n in "ab"])
    tagged_info = photos_info(tagged)
    assert (tagged_info.tags, tagged_info.groups, tagged_info.with_time) == ({"night": 2}, 1, 2)
    assert "1 groups; night 2" in str_photos(tagged_info)
    few = dataset_info(dataset, read_size=size, sample=2)
    assert few.database.looked_at == 2
    with pytest.raises(InputError):
        dataset_info(dataset, sample=0)
