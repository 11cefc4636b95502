"""Maps that change on disk while they are served: compacted, built anew, gone and back."""

import gc
import shutil
import threading
import time
from pathlib import Path

import pytest

from dejavlad.client import Client, ServiceError
from dejavlad.fitting import fit
from dejavlad.photo import Photo, PhotoList
from dejavlad.places import PlaceMap
from dejavlad.places.map_view import MapView
from dejavlad.serve import inference
from dejavlad.serve.limits import Limits
from dejavlad.zoo import load_model
from made_photos import view

from .conftest import Runner, Running, Town, build_town
from .raw import until


@pytest.fixture
def own(tmp_path: Path) -> Town:
    """A small map that a test may change."""
    return build_town(tmp_path, places=5)


def names(client: Client) -> list[str]:
    return [photo["name"] for photo in client.photos("town")]


@pytest.mark.slow
def test_a_compacted_map_is_read_on(run: Runner, own: Town) -> None:
    client = run(own.map).client
    assert client.locate([own.query(3)])[0]["matches"][0]["name"] == "03.jpg" and len(names(client)) == 5
    other = PlaceMap.open(own.map)
    other.remove(["00.jpg", "01.jpg"])
    assert other.compact() > 0 and (own.map / "rows.2.bin").exists()
    (answer,) = client.locate([own.query(3)])
    assert answer["known"] and answer["matches"][0]["name"] == "03.jpg"
    assert names(client) == ["02.jpg", "03.jpg", "04.jpg"] and client.map("town")["photos"] == 3
    assert len(client._get("/v1/maps/town/points", {})["ids"]) == 3
    other.remove(["04.jpg"])
    other.compact()
    assert names(client) == ["02.jpg", "03.jpg"] and client.locate([own.query(2)])[0]["known"]


@pytest.mark.slow
def test_a_map_compacted_in_the_middle_of_an_answer(
    run: Runner, own: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = run(own.map).client
    search, calls = MapView.search, []

    def compacting(self: MapView, *given: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 1:  # the rows are read after this, of a file that is not there any more
            other = PlaceMap.open(own.map)
            other.remove(["00.jpg"])
            assert other.compact() > 0
        return search(self, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(MapView, "search", compacting)
    (answer,) = client.locate([own.query(3)], verify="none")
    assert len(calls) == 2 and answer["matches"][0]["name"] == "03.jpg"


@pytest.mark.slow
def test_a_map_that_is_gone_is_no_fault_of_the_service(run: Runner, own: Town) -> None:
    client = run(own.map, writable=True).client
    assert client.locate([own.query(1)])[0]["known"]
    own.map.rename(own.folder / "aside")
    for ask in (
        lambda: client.locate([own.query(1)]),
        lambda: client.describe([own.query(1)]),
        lambda: client.map("town"),
        lambda: names(client),
        lambda: client._get("/v1/maps/town/points", {}),
    ):
        with pytest.raises(ServiceError, match="being made anew, was removed, or is damaged") as caught:
            ask()
        assert caught.value.status == 503 and caught.value.retry_after is not None
    (own.folder / "aside").rename(own.map)
    assert client.locate([own.query(1)])[0]["known"] and len(names(client)) == 5


@pytest.mark.slow
def test_a_map_built_anew_from_another_model(run: Runner, own: Town) -> None:
    """Who asks meanwhile gets an answer, or is told to try again; never an answer of a mixture."""
    running = run(own.map)
    photos = PhotoList([Photo(str(i), Path(str(i)), pixels=view(i)) for i in range(2, 5)])
    other = fit(load_model("rootsift-vlad", device="cpu"), photos, seed=1)
    statuses: list[int] = []
    wrong: list[object] = []
    ended = threading.Event()

    def ask() -> None:
        with Client(running.address) as client:
            while not ended.is_set():
                try:
                    (answer,) = client.locate([own.query(3)], verify="none")
                    wrong.extend([answer] if answer["matches"][0]["name"] not in ("03.jpg", "3") else [])
                    list(client.photos("town"))
                    statuses.append(200)
                except ServiceError as error:
                    statuses.append(error.status)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    shutil.rmtree(own.map)
    PlaceMap.build(other, photos, own.map)
    assert until(lambda: running.client.map("town")["fingerprint"] == other.fingerprint, 20)
    ended.set()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 503} and not wrong
    (answer,) = running.client.locate([own.query(3)], verify="none")
    direct = PlaceMap.open(own.map).locate([own.query(3)], verify="none")[0]
    assert answer["matches"][0]["name"] == "3"
    assert answer["matches"][0]["score"] == pytest.approx(direct.matches[0].score, abs=1e-5)


def slowed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> threading.Event:
    """Describing takes a while; set once it has started."""
    described, started = inference.described, threading.Event()

    def slow(*given: object) -> object:
        started.set()
        time.sleep(seconds)
        return described(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(inference, "described", slow)
    return started


@pytest.mark.slow
@pytest.mark.parametrize("patient", [True, False])
def test_what_is_under_way_is_answered_before_the_end(
    run: Runner, own: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, patient: bool
) -> None:
    """Or, where that takes longer than the service may, refused in words."""
    running: Running = run(own.map, limits=Limits() if patient else Limits(stop_seconds=0.1))
    started = slowed(monkeypatch, 0.3 if patient else 0.55)
    outcomes: list[object] = []

    def ask() -> None:
        with Client(running.address) as client:
            try:
                outcomes.append(client.locate([own.query(1)], verify="none")[0]["matches"][0]["name"])
            except ServiceError as error:
                outcomes.append((error.status, error.reason))

    thread = threading.Thread(target=ask)
    thread.start()
    assert started.wait(20)
    run.stop()
    thread.join()
    run._servers.clear()
    gc.collect()
    assert not caplog.records
    assert outcomes == ["01.jpg" if patient else (503, "the service is stopping")]
