"""A service that runs in this process on a free port, over a map of twelve places."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dejavlad.fitting import fit
from dejavlad.model import PlaceModel
from dejavlad.photo import Photo, PhotoList
from dejavlad.places import PlaceMap
from dejavlad.positions import with_positions
from dejavlad.zoo import load_model
from made_photos import view, write

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from dejavlad.client import Client
from dejavlad.serve.limits import Limits
from dejavlad.serve.openapi import document
from dejavlad.serve.options import ServeOptions
from dejavlad.serve.server import RunningServer, build_service
from dejavlad.serve.service import Service

TOKEN = "a secret of the tests, 123"
PLACES = 12
LAT, LON = 48.1, 11.5


@dataclass
class Town:
    """Photos, and a map of those of them that lie in `database`."""

    folder: Path
    map: Path

    def query(self, place: int) -> Path:
        return self.folder / "queries" / f"{place:02d}.jpg"

    def photo(self, place: int) -> Path:
        return self.folder / "database" / f"{place:02d}.jpg"


@functools.cache
def model() -> PlaceModel:
    """The model of all maps here, learnt once from a few photos: most of what making a map costs."""
    photos = PhotoList([Photo(str(place), Path(str(place)), pixels=view(place)) for place in range(4)])
    plain = load_model("rootsift-vlad", device="cpu")  # made larger than photos of 128 pixels need it
    return fit(plain.with_preprocess(replace(plain.preprocess, resize="longest:160")), photos)


def build_town(folder: Path, *, places: int = PLACES, longest: int = 160) -> Town:
    """A town whose map describes photos at so many pixels of their longer side (more take longer)."""
    lines = ["name,lat,lon"]
    for place in range(places):
        write(folder / "database" / f"{place:02d}.jpg", view(place))
        write(folder / "queries" / f"{place:02d}.jpg", view(place, 5))
        lines.append(f"{place:02d}.jpg,{LAT + 0.001 * place:.6f},{LON + 0.001 * place:.6f}")
    table = folder / "positions.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    paths = sorted((folder / "database").iterdir())
    photos = PhotoList([Photo(path.name, path) for path in paths], root=folder / "database")
    network = model().with_preprocess(replace(model().preprocess, resize=f"longest:{longest}"))
    PlaceMap.build(network, with_positions(photos, table), folder / "town.map", local="sift")
    return Town(folder, folder / "town.map")


@pytest.fixture(scope="package")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return build_town(tmp_path_factory.mktemp("town"))


@dataclass
class Running:
    service: Service
    address: str
    client: Client

    @property
    def port(self) -> int:
        return int(self.address.rstrip("/").rpartition(":")[2])


def undocumented(service: Service) -> list[tuple[str, str, str]]:
    """Route, method and status of answers that were given and are not in the OpenAPI document."""
    paths, missing = document("1", False)["paths"], []
    for sample in (sample for metric in service.metrics.requests.collect() for sample in metric.samples):
        path, method, status = (sample.labels[name] for name in ("route", "method", "status"))
        method = "get" if method == "HEAD" else method.lower()
        statuses = paths.get(path, {}).get(method, {"responses": {"405"}})["responses"]
        if path.startswith(("/v1", "/metrics")) and status not in ("0", *statuses):
            missing.append((path, method, status))
    return missing


class Runner:
    """Starts services, and ends them with the test."""

    def __init__(self) -> None:
        self._servers: list[RunningServer] = []
        self._clients: list[Client] = []

    def __call__(self, *sources: Path | str, limits: Limits | None = None, **options: object) -> Running:
        given = ServeOptions(port=0, limits=limits or Limits(), **options)  # type: ignore[arg-type]
        service = build_service([str(source) for source in sources], given)
        server = RunningServer(service, given)
        self._servers.append(server)
        client = Client(server.address, token=given.token, timeout=60)
        self._clients.append(client)
        return Running(service, server.address, client)

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        ended = [server.stop() for server in self._servers]  # all of them, before any is complained of
        assert all(ended)
        assert not [status for server in self._servers for status in undocumented(server.service)]


@pytest.fixture(scope="package")
def running(town: Town) -> Iterator[Running]:
    """A service over the map, which no test changes."""
    runner = Runner()
    yield runner(town.map)
    runner.stop()


@pytest.fixture
def run() -> Iterator[Runner]:
    """Starts services with options of a test's own."""
    runner = Runner()
    yield runner
    runner.stop()
