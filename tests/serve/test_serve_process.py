"""The command as a process: how it starts, stops, and is killed."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dejavlad.cli import main
from dejavlad.client import Client, ServiceError
from dejavlad.places import PlaceMap
from warm_processes import Process, start

from .conftest import TOKEN, Town, build_town
from .raw import receive, request, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]


@contextlib.contextmanager
def process(*words: str | Path) -> Iterator[tuple[Process, int]]:
    """`dejavlad serve` with these words, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "import sys; from dejavlad.cli import main; sys.exit(main(sys.argv[1:]))"
    with start(command, "serve", *words, "--port", str(port), stderr=True) as started:
        try:
            assert until(lambda: answers(port) or started.poll() is not None, 60)
            assert started.poll() is None, started.stderr.read() if started.stderr else ""
            yield started, port
        finally:
            started.kill()


def soon() -> float:
    """Five seconds, or as much longer as this machine has more to do than it can."""
    return 5 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def answers(port: int) -> bool:
    try:
        return request(port).status == 200
    except OSError:
        return False


@pytest.fixture
def own(tmp_path: Path) -> Town:
    return build_town(tmp_path, places=4)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_within_five_seconds_and_requests_under_way_get_an_answer(own: Town, number: int) -> None:
    with process(own.map) as (service, port):
        with Client(f"http://127.0.0.1:{port}") as client:  # its processes that decode are started
            client.locate([own.query(0)] * 3, verify="none")
        outcomes: list[object] = []

        def ask() -> None:
            with Client(f"http://127.0.0.1:{port}") as client:
                try:
                    located = client.locate([own.query(1), own.query(2)], verify="none")
                    outcomes.append([answer["matches"][0]["name"] for answer in located])
                except ServiceError as error:
                    outcomes.append(str(error))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert until(lambda: re.search(rb"under_way [234]", request(port, "/metrics").body), 10)
        service.send_signal(number)
        started = time.monotonic()
        service.wait(60)
        assert time.monotonic() - started < soon()
        for thread in threads:
            thread.join()
        # On a machine that is too busy for an answer in time, that is what clients are told.
        wanted = (["01.jpg", "02.jpg"], "the service answers 503: the service is stopping")
        assert len(outcomes) == 3 and all(outcome in wanted for outcome in outcomes)
        assert service.returncode == 0
        assert service.stderr is not None
        assert service.stderr.read().splitlines() == [f"open http://localhost:{port}/ (Ctrl-C ends it)"]


@pytest.mark.slow
def test_clients_that_hang_do_not_keep_it_from_stopping(own: Town) -> None:
    with process(own.map) as (service, port):
        hanging = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        head = b"POST /v1/locate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        for connection in hanging[:3]:
            connection.sendall(head)
        time.sleep(0.2)
        service.terminate()
        started = time.monotonic()
        service.wait(60)
        assert service.returncode == 0 and time.monotonic() - started < soon()
        for connection in hanging[:3]:  # a client that is slow is told, not only cut off
            reply = receive(connection)
            assert reply.status == 503 and "stopping" in reply.json["error"]["reason"]
        for connection in hanging:
            connection.close()


@pytest.mark.slow
def test_programs_are_told_the_address_as_json(own: Town) -> None:
    command = [sys.executable, "-m", "dejavlad", "serve", str(own.map), "--port", "0", "--json", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None and service.stderr is not None
        try:
            ready = json.loads(service.stdout.readline())
            assert ready["maps"] == ["town"] and ready["pages"] == []
            with Client(ready["address"]) as client:
                assert client.map("town")["photos"] == 4
        finally:
            service.terminate()
        assert service.stdout.read() == "" and service.stderr.read() == ""
    assert service.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("way", ["kill", "terminate"])
def test_a_service_that_ends_while_it_adds_leaves_the_old_map(tmp_path: Path, way: str) -> None:
    from made_photos import view

    from .test_serve_maps import jpeg

    own = build_town(tmp_path, places=4, longest=400)  # 24 photos take longer than a service may to end
    photos = [jpeg(view(40 + i)) for i in range(24)]
    before = PlaceMap.open(own.map).photos.keys
    with process(own.map, "--writable") as (service, port), Client(f"http://127.0.0.1:{port}") as client:
        client.locate([own.query(0)])
        decoders = children_of(service.pid)
        job = client.add("town", photos)
        assert until(lambda: client.job(job["id"])["what"] == "describing photos", 30)
        assert client.job(job["id"])["state"] == "running"
        getattr(service, way)()
        started = time.monotonic()
        service.wait(60)
        assert time.monotonic() - started < soon()
        assert until(lambda: not any(map(is_alive, decoders)), 10)
    place_map = PlaceMap.open(own.map)
    assert place_map.photos.keys == before and place_map.check()
    assert place_map.locate([own.query(1)])[0].known
    with process(own.map, "--writable") as (_, port), Client(f"http://127.0.0.1:{port}") as client:
        done = client.wait(client.add("town", photos))
        assert len(done["added"]) == 24 and client.map("town")["photos"] == 28
    stored = list((own.map / "photos" / "added").iterdir())
    assert len(stored) == 24 and not [path for path in stored if path.name.startswith(".")]


def children_of(pid: int) -> list[int]:
    """The processes that decode; none where the system is not Linux, which lists them."""
    tasks = Path(f"/proc/{pid}/task/{pid}")
    if not tasks.is_dir():
        return []
    children = [int(child) for child in (tasks / "children").read_text().split()]
    assert children
    return children


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_what_cannot_be_served_is_one_line(
    own: Town, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    (tmp_path / "empty").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for words, reason in (
            (["no.map"], "there is nothing at 'no.map'"),
            ([str(tmp_path / "empty")], "there is no map at"),
            ([str(own.map), str(own.map)], "given twice"),
            ([str(own.map), "--host", "0.0.0.0"], "--token FILE"),
            ([str(own.map), "--port", str(port)], "cannot listen on 127.0.0.1"),
            ([str(own.map), "--tiles", "x"], "--tiles 'x'"),
            ([], ""),
        ):
            assert main(["serve", *words]) in (1, 2)
            out, err = capfd.readouterr()
            assert reason in err and len(err.splitlines()) == 1 and not out
