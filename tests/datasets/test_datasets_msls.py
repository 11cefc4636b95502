"""Mapillary Street-Level Sequences, from a tiny tree of the same form."""

import csv

import numpy as np
import pytest

from dejavlad.datasets import open_dataset, open_msls, photos
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.geo import utm_from_latlon

LONDON, BOSTON, CPH = (51.5, -0.1), (42.36, -71.06), (55.68, 12.57)


def table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["", *rows[0]])
        writer.writeheader()
        writer.writerows({"": i, **row} for i, row in enumerate(rows))


def city(root, name, at, sides, part="train_val"):
    """Write a city; a photo is (key, metres east, metres north, what else)."""
    lat, lon = at
    here = utm_from_latlon(lat, lon)
    for side, given in sides.items():
        folder = root / part / name / side
        photos = [{"key": key, "east": e, "north": n, **more} for key, e, n, more in given]
        table(
            folder / "seq_info.csv",
            [{"key": t["key"], "sequence_key": "s" + t["key"][0], "frame_number": 3} for t in photos],
        )
        flags = ("all", "s2w", "w2s", "o2n", "n2o", "d2n", "n2d")
        table(
            folder / "subtask_index.csv",
            [{"key": t["key"], **{f: t.get(f, f == "all") for f in flags}} for t in photos],
        )
        if part == "test":
            continue
        table(
            folder / "raw.csv",
            [
                {"key": t["key"], "lon": lon, "lat": lat, "ca": -90.0, "pano": t.get("pano", False)}
                for t in photos
            ],
        )
        table(
            folder / "postprocessed.csv",
            [
                {
                    "key": t["key"],
                    "easting": here.east + t["east"],
                    "northing": here.north + t["north"],
                    "night": t.get("night", False),
                    "view_direction": t.get("view", "Forward"),
                }
                for t in photos
            ],
        )


@pytest.fixture
def root(tmp_path):
    london = {
        "database": [("a0", 0, 0, {}), ("a1", 100, 0, {}), ("a2", 1, 0, {"pano": True})],
        "query": [
            ("q0", 10, 0, {"night": True, "view": "Sideways"}),
            ("q1", 50, 0, {}),
            ("q2", 100, 10.5, {}),
        ],
    }
    cph = {
        "database": [("c0", 0, 0, {}), ("c1", 0, 200, {"d2n": True}), ("c2", 3, 0, {"all": False})],
        "query": [("r0", 0, 24, {"d2n": True}), ("r1", 0, 201, {}), ("r2", 0, 190, {"d2n": True})],
    }
    city(tmp_path, "london", LONDON, london)
    city(tmp_path, "boston", BOSTON, {side: rows[:1] for side, rows in london.items()})
    city(tmp_path, "cph", CPH, cph)
    city(tmp_path, "miami", LONDON, {"database": [("m0", 0, 0, {})], "query": [("n0", 0, 0, {})]}, "test")
    return tmp_path


def test_training_cities(root):
    places = open_msls(root, ("london", "boston"))
    assert places.name == "msls-london+boston"
    assert places.protocol == "positions:10"
    folder = "train_val/london/database/images"
    assert places.database.keys == [
        f"{folder}/a0.jpg",
        f"{folder}/a1.jpg",
        "train_val/boston/database/images/a0.jpg",
    ]
    # q1 has nothing within 10 m, q2 is half a metre too far
    assert [key.split("/")[1:] for key in places.queries.keys] == [
        ["london", "query", "images", "q0.jpg"],
        ["boston", "query", "images", "q0.jpg"],
    ]
    assert [rows.tolist() for rows in places.truth.positives] == [[0], [2]]
    assert [at.zone for at in places.database.positions] == ["30N", "30N", "19N"]
    query = places.queries[0]
    assert (query.tags, query.heading, query.group) == (("night", "sideways", "london"), 270.0, "sq")
    assert places.database[0].tags == ("forward", "london")
    assert query.path == root / "train_val/london/query/images/q0.jpg"
    assert len(open_msls(root, "london", panoramas=True).database) == 3
    assert len(open_msls(root, "london", radius=60.0).queries) == 3


def test_subtasks_of_validation(root):
    whole = open_dataset("msls-cph", root=root)
    assert (len(whole.database), len(whole.queries), whole.protocol) == (2, 3, "positions:25")
    assert whole.truth.description["measure"] == "msls"
    assert [rows.tolist() for rows in whole.truth.positives] == [[0], [1], [1]]
    assert [photo.tags for photo in whole.queries] == [
        ("forward", "cph", "d2n"),
        ("forward", "cph"),
        ("forward", "cph", "d2n"),
    ]
    night = open_msls(root, "cph", subtask="d2n")
    assert [key[-6:] for key in night.database.keys] == ["c1.jpg"]
    assert [key[-6:] for key in night.queries.keys] == ["r2.jpg"]
    assert photos("msls-cph:queries", root=root).keys == whole.queries.keys


def test_the_test_cities_have_neither_positions_nor_truth(root):
    places = open_dataset("msls-miami", root=root)
    assert (len(places.database), len(places.queries), places.truth) == (1, 1, None)
    assert places.queries.positions == [None]
    assert places.queries.keys == ["test/miami/query/images/n0.jpg"]


def test_a_city_in_two_zones_keeps_the_zone_of_its_metres(root):
    """Eastings beyond a zone's edge that go on in the first one's zone."""
    lat, lon = 40.0, 5.9999
    here = [utm_from_latlon(lat, lon), utm_from_latlon(lat, 6.0001, "31N")]
    folder = root / "train_val" / "paris"
    for side in ("database", "query"):
        rows = [
            (side[0] + str(i), at.east, at.north, lo)
            for i, (at, lo) in enumerate(zip(here, (lon, 6.0001), strict=True))
        ]
        table(
            folder / side / "seq_info.csv",
            [{"key": k, "sequence_key": "s", "frame_number": 0} for k, *_ in rows],
        )
        table(
            folder / side / "raw.csv",
            [{"key": k, "lon": lo, "lat": lat, "pano": False} for k, _, _, lo in rows],
        )
        table(
            folder / side / "postprocessed.csv",
            [
                {"key": k, "easting": e, "northing": n, "night": False, "view_direction": ""}
                for k, e, n, _ in rows
            ],
        )
    places = open_msls(root, "paris", radius=25.0)
    assert [at.zone for at in places.database.positions] == ["31N", "31N"]
    assert [rows.tolist() for rows in places.truth.positives] == [[0, 1], [0, 1]]
    assert places.database[0].tags == ("paris",)


def test_what_cannot_be_is_refused(root):
    with pytest.raises(InputError, match="an odd number of frames"):
        open_msls(root, "cph", task="im2seq", length=2)
    with pytest.raises(UnknownNameError, match="did you mean im2im"):
        open_msls(root, "cph", task="im2img")
    with pytest.raises(UnknownNameError, match="subtask of MSLS 'd2x'"):
        open_msls(root, "cph", subtask="d2x")
    with pytest.raises(InputError, match="subtasks divide the val and test cities"):
        open_msls(root, "london", subtask="d2n")
    with pytest.raises(UnknownNameError, match="did you mean london"):
        open_msls(root, "londn")
    with pytest.raises(InputError, match="cities of one part"):
        open_msls(root, ["london", "cph"])
    with pytest.raises(InputError, match="cannot be read"):
        open_msls(root, "tokyo")
    with pytest.raises(InputError, match="no photo is left in cph for the subtask s2w"):
        open_msls(root, "cph", subtask="s2w")
    with pytest.raises(InputError, match=r"no query has a photo of the database within 0.1 m"):
        open_msls(root, "london", radius=0.1)


def test_tables_that_do_not_agree_are_refused(root):
    raw = root / "train_val" / "london" / "query" / "raw.csv"
    lines = raw.read_text(encoding="utf-8").splitlines(keepends=True)
    raw.write_text("".join([lines[0], lines[2], lines[1], lines[3]]), encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2 is of 'q1', that of seq_info.csv of 'q0'"):
        open_msls(root, "london")
    raw.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(InputError, match=r"has 2 lines, seq_info.csv beside it 3"):
        open_msls(root, "london")
    raw.write_text("".join(lines).replace("pano", "panorama"), encoding="utf-8")
    with pytest.raises(InputError, match="has no column pano"):
        open_msls(root, "london")
    swapped = "".join(lines).replace(str(LONDON[0]), "48.0")
    raw.write_text(swapped, encoding="utf-8")
    with pytest.raises(InputError, match=r"is not where longitude -0.1, latitude 48 is"):
        open_msls(root, "london")


def test_every_part_and_city_has_a_name(root):
    assert len(open_dataset("msls-london", root=root).queries) == 1
    with pytest.raises(InputError, match=r"trondheim.*cannot be read"):
        open_dataset("msls-train", root=root)
    assert np.isfinite([at.east for at in open_msls(root, "cph").queries.positions]).all()


def drive(root):
    """A database of one drive of 8 frames 10 m apart, one lost; queries of two drives, one 20 m beside."""
    table_of = {
        "database": [(f"d{i}", 10 * i, 0, {}) for i in range(8)],
        "query": [(f"q{i}", 10 * i, 20, {}) for i in range(4)]
        + [(f"r{i}", 500 + i, 0, {}) for i in range(3)],
    }
    city(root, "sf", CPH, table_of)
    for side in table_of:
        path = root / "train_val" / "sf" / side / "seq_info.csv"
        lines = path.read_text(encoding="utf-8").splitlines()
        head = lines[0]
        rows = [line.split(",") for line in lines[1:]]
        number = 0
        for i, row in enumerate(rows):
            number = 0 if i and row[2] != rows[i - 1][2] else number + (2 if row[1] == "d5" else 1)
            row[3] = str(number)
        path.write_text("\n".join([head, *map(",".join, rows)]), encoding="utf-8")


def test_sequences(root):
    drive(root)
    photos_alone = open_msls(root, "sf")
    assert [key[-6:] for key in photos_alone.queries.keys] == ["q0.jpg", "q1.jpg", "q2.jpg", "q3.jpg"]
    assert photos_alone.truth.positives[0].tolist() == [0, 1]  # within 25 m: 15 m along the street
    both = open_msls(root, "sf", task="seq2seq")
    # d5 does not follow d4: sequences end there
    assert [key[-6:-4] for key in both.database.keys] == ["d1", "d2", "d3", "d6"]
    assert [key[-6:-4] for key in both.queries.keys] == ["q1", "q2"]
    # q1 is q0 to q2 (0 to 20 m): d0 to d3 are near, which are in all but the last
    assert [rows.tolist() for rows in both.truth.positives] == [[0, 1, 2], [0, 1, 2]]
    assert both.protocol == "positions:25, seq2seq of 3 frames"
    assert both.truth.description["frames"] == [3, 3] and both.truth.description["measure"] == "msls"
    places = open_msls(root, "sf", task="im2seq")
    assert [key[-6:-4] for key in places.database.keys] == ["d1", "d2", "d3", "d6"]
    assert [rows.tolist() for rows in places.truth.positives] == [[0, 1], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    other = open_msls(root, "sf", task="seq2im")
    assert [rows.tolist() for rows in other.truth.positives] == [[0, 1, 2, 3], [0, 1, 2, 3, 4]]


def test_sequences_are_found_as_one_by_one(root):
    """Against the plain way: every pair of sequences, every pair of frames."""
    drive(root)
    places = open_msls(root, "sf", task="seq2seq", length=3, radius=35.0, unmatched=True)
    everything = open_msls(root, "sf", unmatched=True, radius=35.0)
    at = {photo.name: photo.position for photo in (*everything.database, *everything.queries)}

    def frames(photo):
        name, number = photo.name[:-5], int(photo.name[-5])
        return [at[f"{name}{number + i}.jpg"] for i in (-1, 0, 1)]

    for query, rows in zip(places.queries, places.truth.positives, strict=True):
        near = [
            row
            for row, photo in enumerate(places.database)
            if any(
                np.hypot(a.east - b.east, a.north - b.north) <= 35
                for a in frames(query)
                for b in frames(photo)
            )
        ]
        assert rows.tolist() == near


def test_every_photo_as_the_geo_localization_benchmark_takes_them(root):
    drive(root)
    places = open_dataset("msls-val-every", root=root)
    assert len(places.queries) == 3 + 7 and places.truth.n_without_truth == 3
    assert len(places.database) == 3 + 8  # c2 too, which is of no subtask
    assert len(open_dataset("msls-val", root=root).queries) == 3 + 4
