"""Datasets of NetVLAD by name and by spec: where photos lie, lights, panoramas, times; official counts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from dejavlad.datasets import (
    open_dataset,
    photos,
)
from dejavlad.datasets.cards import PUBLISHED
from dejavlad.datasets.layouts.netvlad_places import tiny_rows
from dejavlad.errors import InputError
from dejavlad.geo import Positions
from dejavlad.ground_truth import (
    PlaceDataset,
    RowSets,
    truth_positions,
)

SPECS = Path(__file__).parents[3] / "shared" / "data" / "specs"

OFFICIAL = {
    "pitts30k-train": (10000, 7416, 288, 305856, 1017792),
    "pitts30k-val": (10000, 7608, 384, 300096, 1065600),
    "pitts30k-test": (10000, 6816, 504, 254208, 968448),
    "pitts250k-train": (91464, 7824, 216, 330048, 1093824),
    "pitts250k-val": (78648, 7608, 384, 300096, 1065600),
    "pitts250k-test": (83952, 8280, 240, 331200, 1271808),
    "tokyotm-train": (49104, 7277, 0, 387924, 2061000),
    "tokyotm-val": (49056, 7186, 0, 308472, 1734048),
    "tokyo247": (75984, 315, 0, 11448, 37260),
}
"""Database, queries, queries without a photo beyond 1 m and within 10 m, such photos, photos within 25 m."""


def nontrivial(places: PlaceDataset) -> RowSets:
    """Photos more than 1 m and at most 10 m away, taken at another time where times are known."""
    database, queries = (Positions.from_list(part.positions) for part in (places.database, places.queries))
    near, here = (RowSets.of(database.within(queries, metres), len(database)) for metres in (10.0, 1.0))
    right = near.minus(here)
    times = np.array([np.nan if photo.time is None else photo.time for photo in places.database])
    return RowSets.of(
        [rows[times[rows] != queries.time] for rows, queries in zip(right, places.queries, strict=True)],
        len(database),
    )


@pytest.mark.slow
@pytest.mark.skipif(not SPECS.is_dir(), reason="the official specs are not beside the project")
@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_counts(name: str) -> None:
    places = open_dataset(name, root=SPECS)
    assert places.truth is not None
    n_right = nontrivial(places).counts
    counts = (len(places.database), len(places.queries), int((n_right == 0).sum()), int(n_right.sum()))
    right = truth_positions(places.database, places.queries, 25.0) if "tm-" in name else places.truth
    assert (*counts, int(right.positives.counts.sum())) == OFFICIAL[name]
    assert right.n_without_truth == places.truth.n_without_truth == 0
    assert int(places.truth.positives.counts.sum()) == PUBLISHED[name].positives
    if name == "tokyo247":
        groups = places.truth.groups
        assert groups is not None and np.array_equal(groups, np.arange(75984) // 12)
    else:
        assert places.truth.groups is None


@pytest.mark.slow
@pytest.mark.skipif(not SPECS.is_dir(), reason="the official specs are not beside the project")
def test_the_tiny_dataset_holds_ten_places() -> None:
    places = open_dataset("tokyotm-tiny-val", root=SPECS)
    assert (len(places.database), len(places.queries)) == (120, 60)
    assert places.truth is not None and places.truth.positives.counts.min() >= 12


def cells(*names: str) -> np.ndarray[Any, Any]:
    array = np.empty((len(names), 1), object)
    array[:, 0] = names
    return array


def spec(path: Path, database: list[str], queries: list[str], **more: Any) -> Path:
    """Photos 10 m apart, a query at each of the first; the minimal fields of a spec of one's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {
        "dbImageFns": cells(*database),
        "qImageFns": cells(*queries),
        "utmDb": np.array([np.arange(len(database)) * 10.0, np.zeros(len(database))]),
        "utmQ": np.array([np.arange(len(queries)) * 10.0, np.zeros(len(queries))]),
        "posDistThr": 10.0,
        "nonTrivPosDistSqThr": 100.0,
        **more,
    }
    scipy.io.savemat(path, {"dbStruct": fields})
    return path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_a_spec_of_ones_own_without_its_photos(tmp_path: Path) -> None:
    path = spec(tmp_path / "mine.mat", ["a.jpg", "b.jpg", "c.jpg"], ["q.jpg", "r.jpg"])
    places = open_dataset(path)
    assert (places.name, places.protocol) == ("mine", "positions:10")
    assert places.truth is not None
    assert [rows.tolist() for rows in places.truth.positives] == [[0, 1], [0, 1, 2]]  # 10 m is still right
    assert places.database[0].path == tmp_path / "images" / "a.jpg"
    assert places.database[0].position is not None and places.database[0].position.zone is None
    touch(tmp_path / "photos" / "database" / "c.jpg", tmp_path / "photos" / "r.jpg")
    places = open_dataset(path, root=tmp_path / "photos")
    assert places.database[0].path == tmp_path / "photos" / "database" / "a.jpg"
    assert places.queries[0].path == tmp_path / "photos" / "q.jpg"
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        open_dataset(path, root=tmp_path / "nowhere")


def test_names_of_a_spec_are_looked_up_as_those_of_lists(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["a b/one.JPG", "a b/two.jpg ", ".\\a b\\three%20x.jpg", "a b/u\u0308.jpg"]
    touch(
        *(tmp_path / "images" / "a b" / name for name in ("one.jpg", "two.jpg", "three x.jpg", "\u00fc.jpg"))
    )
    touch(tmp_path / "queries" / "q.jpg")
    places = open_dataset(spec(tmp_path / "mine.mat", names, ["q.jpg"]), root=tmp_path)
    assert all(photo.path.is_file() for photo in (*places.database, *places.queries))
    assert "1 photos of mine:database are there in other letter case, e.g. 'a b/one.JPG'" in caplog.text


def test_an_official_spec_by_its_path_names_the_protocol(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_dataset(spec(tmp_path / "mine.mat", ["a.jpg"], ["q.jpg"]))
    assert not caplog.text
    open_dataset(spec(tmp_path / "tokyoTM_val.mat", ["a.jpg"], ["q.jpg"]))
    assert "its published figures are by --protocol tokyotm-val@25m" in caplog.text


def test_pittsburgh_as_it_is_distributed(tmp_path: Path) -> None:
    database = [f"000/000001_pitch{p}_yaw{y}.jpg" for p in (1, 2) for y in range(1, 13)]
    queries = ["001/000002_pitch1_yaw1.jpg"]
    spec(tmp_path / "datasets" / "pitts30k_test.mat", database, queries)
    touch(*(tmp_path / name for name in database), tmp_path / "queries_real" / queries[0])
    places = open_dataset("pitts30k-test", root=tmp_path)
    assert all(photo.path.is_file() for photo in (*places.database, *places.queries))
    assert places.database.keys == database and places.queries.keys == queries
    assert {photo.group for photo in places.database} == {"000/000001"}
    assert places.database[0].position is not None and places.database[0].position.zone == "17N"
    assert photos("pitts30k-test:queries", root=tmp_path).keys == queries


def test_tokyo_247_lights_panoramas_and_png_for_jpg(tmp_path: Path) -> None:
    database = [f"03814/1_2/pano{i}_012_{yaw:03d}.jpg" for i in (0, 1) for yaw in range(0, 360, 30)]
    queries = [f"{i:05d}.jpg" for i in range(10, 16)]
    spec(tmp_path / "tokyo247.mat", database, queries)
    touch(*(tmp_path / "images" / name.replace(".jpg", ".png") for name in database))
    touch(*(tmp_path / "247query_subset_v2" / name for name in queries))
    places = open_dataset("tokyo247", root=tmp_path)
    assert all(photo.path.is_file() for photo in (*places.database, *places.queries))
    assert places.database.keys == database  # named as in the spec: the same list for everybody
    assert places.database[0].path.suffix == ".png" and places.queries[0].path.suffix == ".jpg"
    assert [photo.tags[0] for photo in places.queries] == ["day", "sunset", "night"] * 2
    assert places.truth is not None and places.truth.groups is not None
    assert places.truth.groups.tolist() == [0] * 12 + [1] * 12
    night = open_dataset("tokyo247-night", root=tmp_path)
    assert night.queries.keys == ["00012.jpg", "00015.jpg"] and night.truth is not None
    assert [rows.tolist() for rows in night.truth.positives] == [[1, 2, 3], [4, 5, 6]]
    assert night.truth.groups is not None


def test_time_stamps_become_times(tmp_path: Path) -> None:
    names = ["x/p/_200912/a.jpg", "x/p/_201407/b.jpg"]
    stamps = {"dbTimeStamp": np.array([[200912, 201407]], np.int32), "qTimeStamp": np.array([[201407.0]])}
    spec(tmp_path / "specs" / "tokyoTM_val.mat", names, names[1:], **stamps)
    places = open_dataset("tokyotm-val", root=tmp_path)
    assert [photo.time for photo in places.database] == [
        datetime(year, month, 1, tzinfo=UTC).timestamp() for year, month in ((2009, 12), (2014, 7))
    ]
    assert places.queries[0].time == places.database[1].time
    assert places.queries[0].path == places.database[1].path
    assert places.database[0].group == "x/p/_200912"
    assert places.truth is not None and places.truth.ignored is not None
    assert [rows.tolist() for rows in places.truth.positives] == [[0]]  # the other is the query itself
    own = open_dataset(spec(tmp_path / "own.mat", names, names, dbTimeStamp=np.array([[7.0, np.nan]])))
    assert [photo.time for photo in own.database] == [7.0, None]


def test_tiny_takes_whole_places_once() -> None:
    points = np.repeat(np.arange(40.0)[:, None] * [100.0, 0.0], 24, axis=0)
    database, queries = tiny_rows(points)
    assert (len(database), len(queries)) == (120, 60) and not set(database) & set(queries)
    assert {row % 24 for row in queries} == set(range(6)) and {row % 24 for row in database} == set(
        range(12, 24)
    )
    assert tiny_rows(points[:12]) == ([], [])


def test_where_a_spec_may_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEJAVLAD_ROOT_TOKYO247", raising=False)
    with pytest.raises(InputError, match=r"its spec pitts30k_val.mat is not in .*project page.*--root"):
        open_dataset("pitts30k-val", root=tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        open_dataset("pitts30k-val", root=tmp_path / "none")
    (tmp_path / "images" / "test").mkdir(parents=True)
    with pytest.raises(InputError, match=r"@-named photos: give such a folder .*images.*test"):
        open_dataset("pitts30k-val", root=tmp_path)
    with pytest.raises(InputError, match=r"there is no dataset .*none.mat"):
        open_dataset(tmp_path / "none.mat")
