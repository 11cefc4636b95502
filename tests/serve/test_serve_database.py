"""A map that lies in a database is served as one in a folder is, and what others change is seen."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from database_maps import address_of, small_model
from dejavlad.errors import InputError, StoreError
from dejavlad.photo import Photo, PhotoList
from dejavlad.places import PlaceMap
from dejavlad.positions import with_positions
from dejavlad.serve import served_map
from dejavlad.serve.photo_id import photo_id
from dejavlad.serve.served_map import map_names

from .conftest import LAT, LON, Runner, Town, build_town
from .conftest import model as learnt_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(served_map, "SECONDS", 0.0)


@pytest.fixture
def own(tmp_path: Path) -> Town:
    return build_town(tmp_path, places=4)


def listed(own: Town) -> PhotoList:
    paths = sorted((own.folder / "database").iterdir())
    photos = PhotoList([Photo(path.name, path) for path in paths], root=own.folder / "database")
    return with_positions(photos, own.folder / "positions.csv")


def same_but_for_names(answers: list[dict[str, Any]], name: str) -> Any:
    """Answers, with the map's name in them replaced."""
    return str(answers).replace(f"/v1/maps/{name}/", "/").replace(f"'map': '{name}'", "")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lance", "qdrant"])
def test_it_answers_as_a_folder_map_and_sees_changes(
    own: Town, run: Runner, tmp_path: Path, kind: str, make_view: Any, make_photo: Any
) -> None:
    with address_of(kind, tmp_path) as address:
        PlaceMap.build(learnt_model(), listed(own), address, local="sift")
        client = run(own.map, address).client
        folder, (name,) = client.map("town"), {m["name"] for m in client.maps()} - {"town"}
        town = client.map(name)
        for field in ("photos", "with_position", "bbox", "degrees", "fingerprint", "dims", "local"):
            assert town.get(field) == folder.get(field)
        photos = [same_but_for_names(list(client.photos(each)), each) for each in (name, "town")]
        assert photos[0] == photos[1]
        query = own.query(2)
        for filters in ({}, {"near": f"{LAT},{LON},150"}):
            of_address, of_folder = (client.locate([query], map=each, **filters) for each in (name, "town"))
            assert same_but_for_names(of_address, name) == same_but_for_names(of_folder, "town")
        assert client.image(name, photo_id("01.jpg"), size=96)
        path = make_photo(own.folder / "database" / "07.jpg", make_view(7))
        PlaceMap.open(address).add(PhotoList([Photo("07.jpg", path)], root=path.parent))
        seventh = make_photo(own.folder / "queries" / "07.jpg", make_view(7, 5))
        (after,) = client.locate([seventh], map=name)
        assert after["known"] and after["matches"][0]["name"] == "07.jpg"
        assert client.map(name)["photos"] == 5
        PlaceMap.open(address).remove(["07.jpg"])
        (again,) = client.locate([seventh], map=name)
        assert "07.jpg" not in [match["name"] for match in again["matches"]]


@pytest.mark.slow
def test_a_database_is_not_asked_at_every_question(
    own: Town, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with address_of("lance", tmp_path) as address:
        PlaceMap.build("rootsift-vlad", listed(own), address)
        monkeypatch.setattr(served_map, "SECONDS", 3600.0)
        running = run(address)
        PlaceMap.open(address).remove(["00.jpg"])
        assert running.client.map("db")["photos"] == 4
        monkeypatch.setattr(served_map, "SECONDS", 0.0)
        assert running.client.map("db")["photos"] == 3


@pytest.mark.slow
def test_answers_go_on_while_the_database_is_away(
    own: Town, run: Runner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with address_of("lance", tmp_path) as address:
        PlaceMap.build(learnt_model(), listed(own), address, local="sift")
        client = run(address).client
        before = client.locate([own.query(1)], verify="none")
        shutil.move(tmp_path / "db", tmp_path / "away")
        with caplog.at_level(logging.ERROR):
            for _ in range(2):
                assert client.locate([own.query(1)], verify="none") == before
                assert client.map("db")["photos"] == 4
        assert len(caplog.records) == 2  # each said once
        assert "map db is answered as it was" in caplog.text and "is shown as it was" in caplog.text
        shutil.move(tmp_path / "away", tmp_path / "db")
        PlaceMap.open(address).remove(["01.jpg"])
        time.sleep(0.01)
        assert client.map("db")["photos"] == 3


@pytest.mark.slow
def test_another_map_at_the_same_place_is_seen(own: Town, run: Runner, tmp_path: Path) -> None:
    with address_of("lance", tmp_path) as address:
        photos = listed(own)
        PlaceMap.build("rootsift-vlad", photos, address)
        client = run(address).client
        for model, sample in (("rootsift-vlad", photos[:3]), (small_model(), photos[1:3])):
            shutil.rmtree(tmp_path / "db")
            PlaceMap.build(model, sample, address)  # of as many commits
            (answer,) = client.locate([own.query(1)], verify="none")
            assert sorted(match["name"] for match in answer["matches"]) == sample.keys
            assert client.map("db")["photos"] == len(sample)


@pytest.mark.slow
def test_what_cannot_be_served(own: Town, run: Runner, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--writable: 'lance:x' lies in a database"):
        run("lance:x", writable=True)
    with pytest.raises(StoreError, match="there is no map at 'lance:"):
        run(f"lance:{tmp_path}/none")


def test_names_of_addresses() -> None:
    given = ["lance:a/town", "s3://bucket/town", "qdrant://host:6333/town", "lance:a/town@2026-11-29"]
    assert map_names(given) == ["town", "town-2", "town-3", "town-2026-11-29"]
