"""Filters on maps in databases leave exactly what they leave on a map in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import dejavlad as dv
from database_maps import address_of, answers, placed, small_model
from dejavlad.errors import InputError
from dejavlad.geo import Position
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.databases import rows as database_rows
from dejavlad.places.databases.rows import DatabaseRows

FILTERS: list[dict[str, Any]] = [
    {"near": (Position(500150.0, 5400000.0, "33N"), 65.0)},
    {"near": (Position(500150.0, 5400000.0, "33N"), 1e6)},
    {"near": (Position(500150.0, 5400000.0, "33N"), 1.0)},
    {"near": "10,10,500"},
    {"near": "exif:95"},
    {"after": 1.5e9 + 5},
    {"before": 1.5e9 + 5, "after": 1.5e9 + 5},
    {"heading": "350+-45"},
    {"near": (Position(500150.0, 5400000.0, "33N"), 200.0), "after": 1.5e9 + 3, "heading": (60.0, 20.0)},
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(params=["lance", "qdrant", "engine"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with address_of(request.param, tmp_path) as given:
        yield given


@pytest.mark.slow
def test_filters_leave_what_they_leave_on_a_folder_map(
    street: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, model = placed(dv.photos(street / "database")), small_model()
    folder = dv.PlaceMap.build(model, photos, tmp_path / "map")
    town = dv.PlaceMap.build(model, photos, address)
    listed = dv.photos(street / "queries")
    queries = PhotoList(
        Photo(p.name, p.path, position=None if i == 2 else Position(500000.0 + 40 * i, 5400010.0, "33N"))
        for i, p in enumerate(listed[:4])
    )
    expected = [answers(folder, queries, verify="none", **given) for given in FILTERS]
    assert len({str(each) for each in expected}) == len(FILTERS)  # each filter leaves something else
    assert sum(a["reason"].startswith("no photo of this map") for a in expected[3]) == 4
    for in_memory in (1 << 30, 0):
        monkeypatch.setattr(database_rows, "IN_MEMORY", in_memory)
        town.refresh()
        for given, right in zip(FILTERS, expected, strict=True):
            assert answers(town, queries, verify="none", **given) == right


@pytest.mark.parametrize("in_memory", [1 << 30, 0])
def test_a_narrow_filter_reads_few_rows(
    street: Path, address: str, in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_rows, "IN_MEMORY", in_memory)
    monkeypatch.setattr(database_rows, "SHARE", 0.5)
    town = dv.PlaceMap.build(small_model(), placed(dv.photos(street / "database")), address)
    town.refresh()
    rows = town.snapshot.file_rows
    assert isinstance(rows, DatabaseRows)
    read: list[int] = []
    before = type(rows.view).vectors

    def counted(self: Any, ids: NDArray[np.uint64] | None = None) -> Iterator[Any]:
        for part in before(self, ids):
            read.append(len(part[0]))
            yield part

    monkeypatch.setattr(type(rows.view), "vectors", counted)
    near = (Position(500000.0, 5400000.0, "33N"), 35.0)
    (answer,) = town.locate(dv.photos(street / "queries")[:1], verify="none", near=near)
    assert answer.searched == {"photos": 2, "without": {"position": 1}} and answer.matches[0].name == "00.png"
    assert max(read) <= 2


def test_positions_of_two_kinds_are_refused(street: Path, address: str) -> None:
    photos = dv.photos(street / "database")[:2]
    plane = PhotoList(
        (Photo(p.name, p.path, position=Position(float(i), 0.0, None)) for i, p in enumerate(photos)),
        root=photos.root,
    )
    town = dv.PlaceMap.build(small_model(), plane, address)
    with pytest.raises(InputError, match="cannot be compared with latitude and longitude"):
        town.locate(dv.photos(street / "queries")[:1], verify="none", near="48,11,100")
