"""VPR-Bench, Nordland and GSV-Cities, from small folders in the layout they are published in."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from dejavlad.datasets import open_dataset
from dejavlad.datasets.layouts.gsv_cities import open_gsv_cities
from dejavlad.datasets.layouts.nordland import open_nordland
from dejavlad.datasets.layouts.vpr_bench import read_ground_truth
from dejavlad.errors import InputError, UnknownNameError

VPR_BENCH = {
    "sped": "SPEDTEST",
    "essex3in1": "ESSEX3IN1_dataset",
    "gardens-point": "GardensPointWalking",
    "gardens-point-night": "GardensPoint_TN",
    "corridor": "corridor",
    "living-room": "Living",
    "17places": "17places",
    "cross-seasons": "CrossSeason_CoHOG_Dataset",
    "synthia": "Synthia-NightToFall",
}
"""Name -> its folder in the archive."""
DATA = Path(__file__).parents[3] / "shared" / "data"


def made(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def ground_truth(path: Path, rows: list[list[int]]) -> None:
    table = np.empty((len(rows), 2), object)
    for query, right in enumerate(rows):
        table[query] = [query, right]
    np.save(path, table, allow_pickle=True)


class TestVprBench:
    @pytest.mark.parametrize("name", VPR_BENCH)
    def test_each_set(self, name: str, tmp_path: Path) -> None:
        folder = tmp_path / VPR_BENCH[name]
        made(folder / "ref", *(f"{i}.jpg" for i in range(12)))  # 2 before 10, as by their numbers
        made(folder / "query", "0.jpg", "7.jpg", "10.jpg")
        ground_truth(folder / "ground_truth_new.npy", [[3], [4, 5], []])
        for root in (tmp_path, folder):
            places = open_dataset(name, root=root)
            assert places.truth is not None and places.protocol == "ground_truth_new.npy"
            assert [rows.tolist() for rows in places.truth.positives] == [[3], [4, 5], []]
            assert places.truth.description == {"kind": "listed", "file": "ground_truth_new.npy"}
            assert places.database.keys[2:] == [f"{i}.jpg" for i in range(2, 12)]
        assert open_dataset(folder).truth is not None

    def test_without_ground_truth_numbers_tell(self, tmp_path: Path) -> None:
        for name, frames in (("sped", 0), ("gardens-point", 2), ("living-room", None)):
            folder = tmp_path / name
            made(folder / "ref", *(f"{i:07d}.jpg" for i in range(6)))
            made(folder / "query", *(f"{i:07d}.jpg" for i in range(6)))
            truth = open_dataset(name, root=folder).truth
            assert (None if truth is None else truth.description["tolerance"]) == frames

    def test_gardens_point_by_its_walks(self, tmp_path: Path) -> None:
        for walk in ("day_left", "day_right", "night_right"):
            made(tmp_path / walk, *(f"Image{i:03d}.jpg" for i in range(5)))
        day, night = (open_dataset(f"gardens-point{part}", root=tmp_path) for part in ("", "-night"))
        assert [day.database.root.name, day.queries.root.name] == ["day_left", "day_right"]
        assert [night.database.root.name, night.queries.root.name] == ["day_right", "night_right"]
        assert night.truth is not None and night.truth.positives[2].tolist() == [0, 1, 2, 3, 4]

    def test_frames_are_known_as_such(self, tmp_path: Path) -> None:
        path = tmp_path / "t.npy"
        ground_truth(path, [[j for j in range(5) if abs(i - j) <= 2] for i in range(5)])
        assert read_ground_truth(path, 5, 5).description == {"kind": "frames", "tolerance": 2}
        ground_truth(path, [[i] for i in range(5)])
        assert read_ground_truth(path, 5, 5).description == {"kind": "frames", "tolerance": 0}
        ground_truth(path, [[j for j in range(40) if abs(10 * i - j) <= 1] for i in range(4)])
        assert read_ground_truth(path, 40, 4).description == {"kind": "frames", "tolerance": 1, "every": 10}

    def test_ground_truth_that_does_not_fit(self, tmp_path: Path) -> None:
        path = tmp_path / "t.npy"
        ground_truth(path, [[0], [1]])
        with pytest.raises(InputError, match="is of 2 queries, the folder holds 3"):
            read_ground_truth(path, 2, 3)
        with pytest.raises(InputError, match="row 1 is outside of a database of 1"):
            read_ground_truth(path, 1, 2)
        np.save(path, np.array([[0, 1], [0, 1]]))
        with pytest.raises(InputError, match=r"line 2 is of query .*0, of 0 to 1 once each"):
            read_ground_truth(path, 2, 2)
        np.save(path, np.zeros((2, 3)))
        with pytest.raises(InputError, match=r"it holds \[2, 3\]"):
            read_ground_truth(path, 2, 2)
        table = np.empty((1, 2), object)
        table[0] = [0, "x"]
        np.save(path, table, allow_pickle=True)
        with pytest.raises(InputError, match="line 1 does not hold the rows"):
            read_ground_truth(path, 1, 1)
        flat = np.empty(2, object)
        flat[0], flat[1] = np.array([1]), [0.0, 1.0]
        np.save(path, flat, allow_pickle=True)
        assert [rows.tolist() for rows in read_ground_truth(path, 2, 2).positives] == [[1], [0, 1]]

    def test_missing_folders(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"'SPEDTEST' in it\) should hold the folders ref and query"):
            open_dataset("sped", root=tmp_path)
        with pytest.raises(InputError, match="there is no folder"):
            open_dataset("sped", root=tmp_path / "none")

    @pytest.mark.skipif(not DATA.is_dir(), reason="the photos are not beside the project")
    def test_the_corridor_and_the_gardens(self) -> None:
        corridor = open_dataset("corridor", root=DATA)
        assert (len(corridor.database), len(corridor.queries)) == (111, 111)
        assert corridor.truth is not None
        assert corridor.truth.description == {"kind": "frames", "tolerance": 2}
        gardens = open_dataset("gardens-point", root=DATA / "gardens_point")
        assert (len(gardens.database), len(gardens.queries)) == (200, 200)


class TestNordland:
    def frames(self, *numbers: int) -> list[str]:
        return [f"images-{i:05d}.png" for i in numbers]

    def test_all_frames_and_listed_frames(self, tmp_path: Path) -> None:
        for season in ("summer", "winter"):
            made(tmp_path / season, *self.frames(*range(202, 242)))
        places = open_dataset("nordland", root=tmp_path)
        assert places.truth is not None
        assert places.truth.description == {"kind": "frames", "tolerance": 10}
        assert (len(places.database), places.database.root.name) == (40, "summer")
        clean = self.frames(*range(210, 240))
        (tmp_path / "cleanImageNames.txt").write_text("\n".join(clean), encoding="utf-8")
        places = open_dataset("nordland", root=tmp_path)
        assert places.queries.keys == clean and places.queries[0].path.is_file()

    def test_every_tenth_of_summer_in_winter(self, tmp_path: Path) -> None:
        for season in ("summer", "winter"):
            made(tmp_path / "nordland" / season, *self.frames(*range(30)))
        places = open_dataset("nordland-2760", root=tmp_path)
        assert (places.database.root.name, places.queries.root.name) == ("winter", "summer")
        assert places.queries.keys == self.frames(0, 10, 20) and places.truth is not None
        assert [rows.tolist() for rows in places.truth.positives] == [[0, 1], [9, 10, 11], [19, 20, 21]]
        bench = tmp_path / "bench"
        made(bench / "ref", *(f"{i}.png" for i in range(30)))
        made(bench / "query", *(f"{i}.png" for i in range(3)))
        ground_truth(bench / "ground_truth_new.npy", [rows.tolist() for rows in places.truth.positives])
        assert open_dataset("nordland-2760", root=bench).truth.hash == places.truth.hash  # type: ignore[union-attr]

    def test_the_partitioned_one(self, tmp_path: Path) -> None:
        for season in ("summer", "winter"):
            for section in ("section1", "section2"):
                made(tmp_path / "test" / f"{season}_images_test" / section, "1.png", "2.png")
        places = open_dataset("nordland-3450", root=tmp_path)
        assert len(places.database) == 4 and places.truth is not None
        assert places.truth.description["tolerance"] == 2

    def test_seasons_that_differ_and_seasons_that_lack(self, tmp_path: Path) -> None:
        made(tmp_path / "summer", *self.frames(1, 2, 3))
        with pytest.raises(InputError, match="has no folder 'winter'"):
            open_dataset("nordland", root=tmp_path)
        made(tmp_path / "winter", *self.frames(1, 3))
        with pytest.raises(InputError, match=r"summer has 3, winter 2, and first differ 'images-00002' and"):
            open_dataset("nordland", root=tmp_path)
        made(tmp_path / "fall", *self.frames(1, 2))
        with pytest.raises(InputError, match="first differ 'images-00003' and 'none'"):
            open_nordland(tmp_path, queries="fall")

    @pytest.mark.skipif(not DATA.is_dir(), reason="the lists are not beside the project")
    def test_the_list_of_patch_netvlad(self, tmp_path: Path) -> None:
        shipped = DATA / "lists" / "nordland_imageNames_index.txt"
        (tmp_path / shipped.name).write_text(shipped.read_text())
        places = open_dataset("nordland", root=tmp_path)  # no photos at all
        assert (len(places.database), len(places.queries)) == (27_592, 27_592)
        assert places.database[0].path == tmp_path / "summer" / "images-00202.png"
        assert len(open_dataset("nordland-2760", root=tmp_path).queries) == 2_760


class TestGsvCities:
    COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")

    def table(self, root: Path, city: str, *rows: tuple[object, ...]) -> None:
        (root / "Dataframes").mkdir(parents=True, exist_ok=True)
        with open(root / "Dataframes" / f"{city}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([self.COLUMNS, *rows])

    def rows(self, place: int, count: int, city: str = "London") -> list[tuple[object, ...]]:
        return [(place, 2018 - i, 4, 584, city, 51.4861, -0.0895151, f"{place}-{i}") for i in range(count)]

    def test_places(self, tmp_path: Path) -> None:
        self.table(tmp_path, "London", *self.rows(130, 4), *self.rows(7, 3), *self.rows(9, 5))
        self.table(tmp_path, "PRS", *self.rows(130, 4, "PRS"))
        places = open_dataset("gsv-cities", root=tmp_path)
        assert (len(places.database), len(places.queries)) == (10, 3) and places.truth is not None
        assert [rows.tolist() for rows in places.truth.positives] == [
            [0, 1, 2],
            [3, 4, 5, 6],
            [7, 8, 9],
        ]
        first = places.queries[0]
        name = "London_0000130_2018_04_584_51.4861_-0.0895151_130-0.JPG"
        assert first.path == tmp_path / "Images" / "London" / name and first.group == "London/130"
        assert first.heading == 224 and first.time == datetime(2018, 4, 1, tzinfo=UTC).timestamp()
        assert first.position is not None and first.position.zone == "30N"
        london = open_gsv_cities(tmp_path, cities=["London"], fewest=5)
        assert [photo.group for photo in london.queries] == ["London/9"]

    def test_endings_as_they_are(self, tmp_path: Path) -> None:
        self.table(tmp_path, "London", *self.rows(1, 4))
        made(tmp_path / "Images" / "London", "London_0000001_2018_04_584_51.4861_-0.0895151_1-0.jpg")
        photo = open_dataset("gsv-cities", root=tmp_path).queries[0]
        assert photo.path.is_file() and photo.name.endswith(".JPG")

    def test_bad_tables(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="there are no tables in"):
            open_dataset("gsv-cities", root=tmp_path)
        self.table(tmp_path, "London", *self.rows(1, 3))
        with pytest.raises(InputError, match="no place has 4 photos in London"):
            open_dataset("gsv-cities", root=tmp_path)
        with pytest.raises(UnknownNameError, match="did you mean London"):
            open_gsv_cities(tmp_path, cities=["Londn"])
        self.table(tmp_path, "London", *self.rows(1, 4), (1, 2018, 13, 0, "London", 51, 0, "x"))
        with pytest.raises(InputError, match=r"London.csv' line 6: month must be in 1"):
            open_dataset("gsv-cities", root=tmp_path)
        self.table(tmp_path, "London", (1, 2018, 1, 0, "London", 139.7, 35.6, "x"))
        with pytest.raises(InputError, match=r"line 2: .*are they swapped"):
            open_dataset("gsv-cities", root=tmp_path)
        (tmp_path / "Dataframes" / "London.csv").write_text("place_id,year\n", encoding="utf-8")
        with pytest.raises(InputError, match="it has no column month"):
            open_dataset("gsv-cities", root=tmp_path)
