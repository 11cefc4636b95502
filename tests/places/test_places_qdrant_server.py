"""Maps in Qdrant over HTTP, by a stand-in for its server; and what other programs ask of the collection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dejavlad as dv
from database_maps import answers, descriptors_alone, placed, put, small_model
from dejavlad.errors import StoreError
from dejavlad.geo import latlon
from dejavlad.places.databases import qdrant_points
from dejavlad.places.databases.qdrant_points import reason_of, server_url

pytest.importorskip("qdrant_client")

from small_qdrant import SmallQdrant, small_qdrant


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("QDRANT_API_KEY", "QDRANT_HTTPS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["local mode", "engine"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallQdrant]:
    """A server with the client's local mode, or with Qdrant's own engine."""
    if request.param == "engine":
        pytest.importorskip("qdrant_edge")
    with small_qdrant(tmp_path / "engine" if request.param == "engine" else None) as running:
        yield running


@pytest.mark.slow
def test_a_map_over_http_answers_as_a_folder_map(
    street: Path, tmp_path: Path, server: SmallQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_points, "AT_ONCE", 5)  # several pages
    photos, model = placed(dv.photos(street / "database")), small_model()
    folder = dv.PlaceMap.build(model, photos, tmp_path / "map")
    address = f"qdrant://{server.host}/town"
    town = dv.PlaceMap.build(model, photos[:9], address)
    other = dv.PlaceMap.open(address, device="cpu")
    assert town.add(photos) == 3
    assert not other.is_current()
    other.refresh()
    assert list(other.photos) == list(folder.photos) and other.is_current()
    np.testing.assert_array_equal(other.descriptors, folder.descriptors)
    queries = dv.photos(street / "queries")[:3]
    assert answers(other, queries, verify="none") == answers(folder, queries, verify="none")
    near = {"near": (photos[2].position, 35.0)}
    assert answers(other, queries, verify="none", **near) == answers(folder, queries, verify="none", **near)
    assert town.remove(["03.png"]) == 1 and not other.is_current()
    assert ("location", "geo") in server.indexed
    assert town.check()

    # what another program asks, live
    from qdrant_client import QdrantClient, models

    assert photos[6].position is not None
    lat, lon = latlon(photos[6].position)
    radius = models.GeoRadius(center=models.GeoPoint(lat=lat, lon=lon), radius=65)
    matches = QdrantClient(url=f"http://{server.host}", check_compatibility=False).query_points(
        "town",
        query=folder.descriptors[0].tolist(),
        query_filter=models.Filter(must=[models.FieldCondition(key="location", geo_radius=radius)]),
        limit=20,
    )
    assert {point.payload["key"] for point in matches.points} == {"05.png", "06.png", "07.png", "08.png"}


def test_a_key_of_access(server: SmallQdrant, monkeypatch: pytest.MonkeyPatch) -> None:
    server.key = "secret"
    address = f"qdrant://{server.host}/town"
    with pytest.raises(StoreError, match="access is refused; look at QDRANT_API_KEY") as caught:
        descriptors_alone(address)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    town = descriptors_alone(address)
    put(town, "a", "b")
    assert town.snapshot().photos.keys == ["a", "b"]


def test_a_server_that_is_away(server: SmallQdrant) -> None:
    address = f"qdrant://{server.host}/town"
    town = descriptors_alone(address)
    put(town, "a")
    server.shutdown()
    server.server_close()
    with pytest.raises(StoreError, match=rf"cannot reach {address}.*is Qdrant running there"):
        town.snapshot()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"status": {"error": "no room"}, "time": 0}', "refused: no room"),
        (b"<html>", "refused"),
        (b'{"status": "ok"}', "refused"),
        (b"[1]", "refused"),
        (b'{"status": {"error": 5}}', "refused"),
        (None, "refused"),
    ],
)
def test_the_server_s_own_words(body: bytes | None, words: str) -> None:
    error = RuntimeError("refused\nmore")
    error.content = body  # type: ignore[attr-defined]
    assert reason_of(error) == words


def test_addresses_of_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_url("qdrant://host") == "http://host:6333"
    assert server_url("qdrant://host:80") == "http://host:80"
    monkeypatch.setenv("QDRANT_HTTPS", "1")
    assert server_url("qdrant://host") == "https://host:6333"
