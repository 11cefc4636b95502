"""Folders of @-named photos, laid out as the geo-localization benchmark does."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dejavlad.datasets import open_dataset
from dejavlad.datasets.layouts.vg_benchmark import PARTS
from dejavlad.errors import InputError
from dejavlad.geo import Position

BOSTON = (330000.0, 4690000.0, "19", "T")

SETS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("st-lucia", "eynsham", "amstertime", "san-francisco"), ("test", "queries")),
    **{f"svox-{part}": (part, "queries") for part in PARTS},
    **{f"svox-{sky}": ("test", f"queries_{sky}") for sky in ("night", "overcast", "rain", "snow", "sun")},
    "sf-xl-val": ("val", "queries"),
    **{f"sf-xl-{which}": ("test", f"queries_{which}") for which in ("v1", "v2", "night", "occlusion")},
    "sf-xs-val": ("small/val", "queries"),
    "sf-xs-test": ("small/test", "queries_v1"),
    "tokyo-xs": ("test", "queries"),
    **{f"vg-{city}-{part}": (part, "queries") for city in ("pitts30k", "pitts250k") for part in PARTS},
    **{f"vg-msls-{part}": (part, "queries") for part in ("train", "val")},
    "vg-tokyo247": ("test", "queries"),
    "vg-nordland": ("test", "queries"),
    "vg-nordland-2760": ("test", "queries"),
    "vg-sped": ("test", "queries"),
}
"""Name -> (part, folder of the queries). ``vg-`` are sets that are published in another form too."""


def at(
    east: float, north: float, *, pano: str = "", heading: str = "", time: str = "", note: str = ""
) -> str:
    """A name as the benchmark's tools write it, in Boston."""
    x, y = BOSTON[0] + east, BOSTON[1] + north
    return f"@{x:010.2f}@{y:010.2f}@19@T@042.35000@-071.06000@{pano}@@{heading}@@@@{time}@{note}@.jpg"


def made(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


@pytest.fixture
def boston(tmp_path: Path) -> Path:
    """The tree of one part: 3 database photos 100 m apart, 2 queries."""
    part = tmp_path / "boston" / "images" / "test"
    made(part / "database", *(at(100 * i, 0, pano=f"p{i}") for i in range(3)))
    made(part / "queries", at(125, 0, heading="350", time="20150427", note="night_sideways_sf"), at(60, 0))
    return tmp_path / "boston"


def test_a_folder_is_known_by_its_tree(boston: Path) -> None:
    part = boston / "images" / "test"
    for given in (boston, boston / "images" / "test"):
        places = open_dataset(given)
        assert places.truth is not None and places.protocol == "positions:25"
        assert [rows.tolist() for rows in places.truth.positives] == [[], [1]]  # 25 m are right, 40 m are not
    query = places.queries[1]
    assert query.position == Position(330125.0, 4690000.0, "19N") and query.heading == 350
    assert query.tags == ("night", "sideways")
    assert query.time == datetime(2015, 4, 27, tzinfo=UTC).timestamp()
    assert [photo.group for photo in places.database] == ["p0", "p1", "p2"]
    assert places.database[0].path.parent == part / "database"
    made(boston / "images" / "val" / "database", at(0, 0))
    with pytest.raises(InputError, match=r"give one of its parts: .*val, .*test"):
        open_dataset(boston)


@pytest.mark.parametrize("name", SETS)
def test_each_set_by_name(name: str, tmp_path: Path) -> None:
    part, queries = SETS[name]
    above = "processed" if name.startswith("sf-x") else "images"
    gallery = "gallery" if name.startswith("svox") else "database"
    folder = tmp_path / (part if part.startswith("small") else f"{above}/{part}")
    made(folder / gallery / "deeper", at(0, 0), at(90, 0))
    made(folder / queries, at(10, 0))
    for root in (tmp_path, folder):
        places = open_dataset(name, root=root)
        assert (places.name, len(places.database), len(places.queries)) == (name, 2, 1)
        assert places.truth is not None and places.truth.positives[0].tolist() == [0]


def test_nordlands_made_positions_are_ten_frames(tmp_path: Path) -> None:
    """The benchmark puts frames 25 / 10.5 m apart, cut to 0.1 m; its rows go in the order of names."""
    step = 25 / 10.5
    names = [f"@0@{int(step * i * 10) / 10:07.1f}@@@@@{i}@@@@@@@@.jpg" for i in range(40)]
    for part in ("database", "queries"):
        made(tmp_path / "images" / "test" / part, *names)
    places = open_dataset("vg-nordland", root=tmp_path)
    assert places.truth is not None
    assert [photo.group for photo in places.queries] == [str(i) for i in range(40)]
    assert places.truth.positives[20].tolist() == list(range(10, 31))


def test_what_is_not_there(boston: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"svox-night: .* holds neither .*queries_night"):
        open_dataset("svox-night", root=boston)
    with pytest.raises(InputError, match=r"there is no folder .*none.* --root"):
        open_dataset("eynsham", root=tmp_path / "none")
    plain = boston / "images" / "test" / "queries" / "plain.jpg"
    plain.write_bytes(b"")
    places = open_dataset("st-lucia", root=boston)
    assert places.truth is not None and places.truth.description["queries_without_position"] == 1
    several = tmp_path / "several"
    made(several / "gallery", at(0, 0))
    made(several / "queries_night", at(0, 0))
    with pytest.raises(InputError, match=r"several folders of queries \(queries_night\): give --database"):
        open_dataset(several)
    made(tmp_path / "bad" / "database", "a.jpg")
    made(tmp_path / "bad" / "queries", "b.jpg")
    with pytest.raises(InputError, match=r"none of the 1 photos .* has a name that holds its position"):
        open_dataset("eynsham", root=tmp_path / "bad")
