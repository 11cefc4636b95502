"""What `dataset check` finds: each fault planted once, and found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from dejavlad.cli import main
from dejavlad.datasets import open_dataset
from dejavlad.datasets.audit.report import (
    Checked,
    Decoding,
    check_dataset,
    check_photos,
)
from dejavlad.datasets.card import Published
from dejavlad.datasets.cards import PUBLISHED
from dejavlad.datasets.registry import DATASETS
from dejavlad.errors import InputError
from dejavlad.evaluation.protocols import PROTOCOLS
from dejavlad.geo import Position, latlon, utm_from_latlon
from dejavlad.ground_truth import PlaceDataset
from dejavlad.images import read_image
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.diagnosis import (
    out_of_place,
    what_is_wrong,
)

LUND, SYDNEY = (55.7, 13.19), (-33.86, 151.2)


def kinds(report: Checked, *, wrong: bool = True) -> list[str]:
    return [finding.what for finding in report.findings if finding.wrong == wrong]


def text_of(report: Checked, what: str) -> str:
    return next(f"{finding.text} {finding.examples}" for finding in report.findings if finding.what == what)


@pytest.fixture
def spec(
    tmp_path: Path, make_view: Callable[..., NDArray[np.uint8]], make_photo: Callable[..., Path]
) -> Path:
    """A dataset by its spec, whole: 6 database photos 10 m apart and 3 queries."""
    names: dict[str, list[str]] = {
        "images": [f"a/{i}.jpg" for i in range(6)],
        "queries": [f"{i}.jpg" for i in range(3)],
    }
    for shift, (folder, part) in enumerate(names.items()):
        for i, name in enumerate(part):
            make_photo(tmp_path / folder / name, make_view(i, 5 * shift))
    fields: dict[str, Any] = {"posDistThr": 10.0}
    for (field, where), part in zip((("db", "Db"), ("q", "Q")), names.values(), strict=True):
        cells = np.empty((len(part), 1), object)
        cells[:, 0] = part
        fields |= {f"{field}ImageFns": cells}
        fields |= {f"utm{where}": np.array([np.arange(len(part)) * 10.0, np.zeros(len(part))])}
    scipy.io.savemat(tmp_path / "mine.mat", {"dbStruct": fields})
    return tmp_path / "mine.mat"


def checked(spec: Path, published: Published | None = None, **decoding: Any) -> Checked:
    how = Decoding(read_image, **decoding)
    return check_dataset(open_dataset(spec), how, published=published, root=spec.parent)


def test_a_whole_dataset(spec: Path) -> None:
    whole = checked(spec)
    assert whole.whole and whole.findings == () and whole.looked_at == 9
    assert str(whole).endswith("whole") and whole.to_dict()["lists"] == {"database": 6, "queries": 3}
    assert checked(spec, sample=2).looked_at == 4
    done: list[int] = []
    checked(spec, on_progress=lambda report: done.append(report.done))
    assert done == list(range(1, 10))
    with pytest.raises(InputError, match="1 photo or more"):
        checked(spec, sample=0)


def test_counts(spec: Path) -> None:
    right = Published(6, 3, "its authors", 2 + 3 + 3)
    assert kinds(checked(spec, published=right), wrong=False) == ["counts"]
    report = checked(spec, published=Published(7, 3, "its authors", 9))
    assert text_of(report, "counts").startswith(
        "6 in place of 7 database; 8 in place of 9 right answers (its"
    )
    assert kinds(checked(spec, published=Published(7, 3, "papers", sure=False)), wrong=False) == ["counts"]
    assert not checked(spec, published=Published(None, None, "nobody")).findings


def test_missing_misplaced_and_unlisted(spec: Path) -> None:
    folder, queries = spec.parent / "images" / "a", spec.parent / "queries"
    (folder / "0.jpg").rename(folder / "0.png")
    (folder / "4.jpg").unlink()
    (queries / "1.jpg").rename(queries / "new.jpg")
    report = checked(spec)
    assert kinds(report) == ["misplaced", "missing", "missing"]
    assert "1 of database lie there under another ending" in text_of(report, "misplaced")
    assert "a/0.jpg -> " in text_of(report, "misplaced") and "0.png" in text_of(report, "misplaced")
    texts = [finding.text for finding in report.findings if finding.what == "missing"]
    assert texts[0].startswith("1 of 6 photos of database") and texts[1].startswith("1 of 3 photos of quer")
    assert kinds(report, wrong=False) == ["unlisted", "unlisted"]  # 0.png and new.jpg


def test_a_photo_in_another_folder(spec: Path) -> None:
    (spec.parent / "else").mkdir()
    (spec.parent / "images" / "a" / "5.jpg").rename(spec.parent / "else" / "5.jpg")
    report = checked(spec)
    assert kinds(report) == ["misplaced"] and "1 of database lie in another folder" in text_of(
        report, "misplaced"
    )
    assert str(spec.parent / "else" / "5.jpg") in text_of(report, "misplaced")


def test_no_photos_at_all(spec: Path) -> None:
    for folder in ("images", "queries"):
        shutil.rmtree(spec.parent / folder)
    report = checked(spec)
    assert kinds(report) == ["missing", "missing"] and "all 6 photos" in text_of(report, "missing")
    assert "to score a ranking the lists are enough" in report.findings[0].do


def test_unreadable(spec: Path) -> None:
    photo = spec.parent / "images" / "a" / "3.jpg"
    photo.write_bytes(photo.read_bytes()[:-400])
    (spec.parent / "queries" / "0.jpg").write_bytes(b"")
    report = checked(spec)
    assert kinds(report) == ["unreadable", "unreadable"]
    assert text_of(report, "unreadable").startswith("1 of database") and "3.jpg" in text_of(
        report, "unreadable"
    )


def test_doubles_and_twins(spec: Path) -> None:
    images, queries = spec.parent / "images" / "a", spec.parent / "queries"
    (images / "1.jpg").write_bytes((images / "0.jpg").read_bytes())
    (queries / "2.jpg").write_bytes((images / "4.jpg").read_bytes())
    report = checked(spec)
    assert report.whole and kinds(report, wrong=False) == ["duplicates", "twins"]
    assert "a/0.jpg = a/1.jpg" in text_of(report, "duplicates")
    assert "2.jpg = a/4.jpg" in text_of(report, "twins")


def test_queries_that_are_photos_of_the_database(spec: Path) -> None:
    places = open_dataset(spec)
    same = PlaceDataset("same", places.database, places.database)
    assert kinds(check_dataset(same), wrong=False) == ["same file", "truth"]
    assert "6 queries are photos of the database" in text_of(check_dataset(same), "same file")


def listing(*at: Position | None) -> PhotoList:
    return PhotoList([Photo(str(i), Path("none"), position=place) for i, place in enumerate(at)])


def test_truth_and_positions(spec: Path) -> None:
    places = open_dataset(spec)
    far = [Position(1e5 + i, 0) for i in range(3)]
    assert places.truth is not None
    lost = PlaceDataset.from_arrays(["a", "b"], [None, *far[:1]], ["q"], far[1:2])
    report = check_dataset(lost)
    assert "1 of 2 photos of database have none" in text_of(report, "positions")
    near = PlaceDataset.from_arrays(["a"], far[:1], ["q", "r"], [far[0], Position(0, 0)])
    assert "1 of 2 queries have no right answer ('r',)" in text_of(check_dataset(near), "truth")
    none = PlaceDataset.from_arrays(["a"], far[:1], ["q"], [Position(0, 0)])
    assert "no query has a right answer" in text_of(check_dataset(none), "truth")


def test_mistakes_in_positions_are_named() -> None:
    database: list[Position | None] = [utm_from_latlon(LUND[0] + i * 1e-4, LUND[1]) for i in range(20)]
    swapped = [utm_from_latlon(lon, lat) for lat, lon in (latlon(at) for at in database if at)]
    wrong_zone = [Position(at.east, at.north, "32N") for at in database if at]
    south = [Position(at.east, at.north, "33S") for at in database if at]
    turned = [Position(at.north, at.east, at.zone) for at in database if at]
    elsewhere = [utm_from_latlon(LUND[0] + 3, LUND[1]) for _ in database]
    plane = [Position(at.east, at.north) for at in database if at]
    for queries, why in (
        (swapped, "latitude and longitude of the queries swapped"),
        (wrong_zone, "their zones are 33N and 32N: one is wrong"),
        (south, "their zones are 33N and 33S: one is wrong"),
        (turned, "east and north of the queries swapped"),
        (elsewhere, "334 km apart: are they of the same town"),
        (plane, "their zones are 33N and none"),
    ):
        assert why in str(what_is_wrong(database, list(queries), 25.0))
    assert what_is_wrong(database, database, 25.0) is None
    assert what_is_wrong(database, [None, Position(float("nan"), 0, "33N")], 25.0) is None
    other = [utm_from_latlon(-LUND[0], LUND[1])]
    assert "other hemisphere" not in str(what_is_wrong(database, list(other), 25.0))


def test_positions_out_of_place() -> None:
    street = [utm_from_latlon(LUND[0], LUND[1] + i * 1e-4) for i in range(150)]
    assert out_of_place(street) == []
    assert out_of_place([*street, None, utm_from_latlon(*SYDNEY)]) == [151]
    assert out_of_place([*street, *[utm_from_latlon(*SYDNEY)] * 50]) == []  # two cities, as in Mapillary's
    assert out_of_place([Position(0, 0), Position(1e8, 0), Position(0, 1)]) == []
    report = check_photos(listing(*street, utm_from_latlon(*SYDNEY)))
    assert "1 of photos are over 1,000 km" in text_of(report, "positions")


def test_published_sets_have_names() -> None:
    assert set(PUBLISHED) <= set(DATASETS)


def test_protocols_are_of_the_same_counts() -> None:
    for known in PROTOCOLS.values():
        published = PUBLISHED.get(known.dataset)
        if published is not None and "@vgbench" not in known.name:
            for count, counted in (
                (known.n_database, published.database),
                (known.n_queries, published.queries),
            ):
                assert count is None or counted is None or count == counted, known.name


def test_the_verb(spec: Path, street: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "check", str(spec), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["whole"] is True
    (spec.parent / "images" / "a" / "3.jpg").unlink()
    assert main(["dataset", "check", str(spec)]) == 1
    output = capsys.readouterr()
    assert "WRONG  missing: 1 of 6" in output.out and "mine is not whole: missing: 1 of 6" in output.err
    assert len(output.err.strip().splitlines()) == 1
    assert main(["dataset", "check", str(street), "--quiet"]) == 0
    assert main(["dataset", "check", str(street / "queries"), "--sample", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["looked_at"] == 3
    assert main(["dataset", "check", "pits30k-test"]) == 1
    assert "did you mean" in capsys.readouterr().err
    assert main(["dataset", "check", str(spec), "--workers", "0"]) == 1


def test_info_refuses_a_truth_for_photos_alone(street: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "info", str(street / "queries"), "--truth", "frames:1"]) == 1
    assert "--truth is for a dataset" in capsys.readouterr().err
    assert main(["dataset", "info", str(street / "queries"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["photos"] == 12
    (street / "database" / "positions.csv").write_text("nonsense", encoding="utf-8")
    assert main(["dataset", "info", str(street)]) == 1  # a dataset that is broken is no heap of photos
    assert "positions.csv" in capsys.readouterr().err
