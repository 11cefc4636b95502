"""The made town: the same bytes however it is made, parts apart, and neither trivial nor hopeless."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import dejavlad as dv
from dejavlad.datasets import open_dataset
from dejavlad.errors import InputError, StoreMismatchError
from dejavlad.geo import Positions
from dejavlad.ground_truth import PlaceDataset
from dejavlad.photo import PhotoList
from dejavlad.progress import Progress
from dejavlad.town import make, make_town

Describe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
SMALL = (48, 64)


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


@contextmanager
def painting_only(*parts: str) -> Iterator[None]:
    """Towns are planned whole, but of the photos only those of some parts are painted."""
    paint = make._take

    def paint_part(jobs: list[make.Job], *how: Any) -> None:
        paint([job for job in jobs if job.stop.drive.part in parts], *how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "_take", paint_part)
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 tiny photos, made by this process alone."""
    return make_town(tmp_path_factory.mktemp("town") / "small", photos=60, size=SMALL)


@pytest.fixture(scope="module")
def district(tmp_path_factory: pytest.TempPathFactory) -> PlaceDataset:
    """The test part of a town of 480; the other parts are planned, but not painted."""
    with painting_only("test"):
        made = make_town(tmp_path_factory.mktemp("town") / "whole", photos=480, seed=3)
    return open_dataset(made / "test")


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(small: Path, tmp_path: Path) -> None:
    with painting_only("val", "test"):  # 9 panoramas, in two batches
        made = hashes(make_town(tmp_path / "town", photos=60, size=SMALL, workers=2))
    assert sum(name.endswith(".jpg") for name in made) == 36
    assert made.items() <= hashes(small).items()


@pytest.mark.slow
def test_another_seed_is_another_town(small: Path, tmp_path: Path) -> None:
    with painting_only("test"):
        other = hashes(make_town(tmp_path / "town", photos=60, size=SMALL, seed=1))
    photos = [name for name in other if name.endswith(".jpg")]
    assert len(photos) >= 20
    before = hashes(small)
    assert not [name for name in photos if other[name] == before.get(name)]


@pytest.mark.slow
def test_an_interrupted_town_ends_with_the_same_bytes(small: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_town(tmp_path / "town", photos=60, size=SMALL, on_progress=interrupt)
    left = list((tmp_path / "town").rglob("*.jpg"))
    assert 12 <= len(left) < 60
    (left[0].with_name(left[0].name + ".partial")).write_bytes(b"half")
    stamps = {path: path.stat().st_mtime_ns for path in left}
    made = hashes(make_town(tmp_path / "town", photos=60, size=SMALL))
    assert {name: made[name] for name in hashes(small)} == hashes(small)
    assert stamps == {path: path.stat().st_mtime_ns for path in left}


def test_a_town_of_other_settings_is_not_continued(small: Path) -> None:
    before = hashes(small)
    with pytest.raises(StoreMismatchError, match="seed"):
        make_town(small, photos=60, size=SMALL, seed=5)
    assert hashes(small) == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"photos": 8}, "60 photos or more; given 8"),
        ({"size": (47, 64)}, "48 to 4096 pixels"),
        ({"seed": -1}, "seed is 0 or more"),
        ({"workers": -1}, "workers are 0 or more"),
    ],
)
def test_what_a_town_cannot_be(tmp_path: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_town(tmp_path / "town", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "town").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there and is no town"):
        make_town(tmp_path, photos=60)
    (tmp_path / "mine.txt").rename(tmp_path / "town.json")
    with pytest.raises(InputError, match="is not the settings of a town"):
        make_town(tmp_path, photos=60)


def test_parts_lie_kilometres_apart_and_say_where_and_when(small: Path) -> None:
    parts = [open_dataset(small / part) for part in ("train", "val", "test")]
    photos = [photo for part in parts for photo in (*part.database, *part.queries)]
    assert len(photos) == 60 == json.loads((small / "town.json").read_text())["photos"]
    assert all(p.position is not None and p.heading is not None and p.time is not None for p in photos)
    for a, b in pairwise(parts):
        here, other = _where(a.database), _where(b.database)
        assert np.linalg.norm(here[:, None] - other[None], axis=2).min() > 1000
    for part in parts:
        assert all(len(rows) for rows in part.truth.positives)


def test_views_of_a_panorama_look_a_quarter_turn_apart(small: Path) -> None:
    database = open_dataset(small / "test").database
    for first in range(0, len(database), 4):
        headings = np.array([database[row].heading for row in range(first, first + 4)])
        assert len({database[row].position for row in range(first, first + 4)}) == 1
        turns = np.diff(np.append(headings, headings[0])) % 360
        np.testing.assert_allclose(turns, 90, atol=0.11)


def _where(photos: PhotoList) -> NDArray[np.float64]:
    return Positions.from_list([photo.position for photo in photos]).east_north


def colour_histogram(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    counts = cv2.calcHist([image], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3).ravel()
    return np.asarray(np.sqrt(counts / counts.sum()), np.float32)


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    return np.asarray(small / np.linalg.norm(small), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("describe", [colour_histogram, thumbnail])
def test_the_town_is_not_solved_by_colour(district: PlaceDataset, describe: Describe) -> None:
    rows = [
        np.stack([describe(np.asarray(cv2.imread(str(photo.path)), np.uint8)) for photo in photos])
        for photos in (district.database, district.queries)
    ]
    best = (rows[1] @ rows[0].T).argmax(axis=1)
    assert district.truth.positives.contains(best[:, None]).mean() < 0.3


@pytest.mark.slow
def test_the_town_is_neither_easy_nor_hopeless(district: PlaceDataset, tmp_path: Path) -> None:
    model = dv.fit(dv.load_model("rootsift-vlad", resize="none"), district.database)
    database = dv.extract(model, district.database, tmp_path / "database")
    queries = dv.extract(model, district.queries, tmp_path / "queries")
    ranking = dv.build_index("flat", database).search(queries, k=10)
    assert 0.3 < dv.evaluate(ranking, district.truth).recall[1] < 0.9
