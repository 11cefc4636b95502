import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dejavlad.client import ServiceError
from dejavlad.serve.limits import Limits
from dejavlad.serve.refusal import Refusal
from dejavlad.serve.uploads import Upload, clean_name, parse_form
from dejavlad.serve.writer import store

from .conftest import Runner, Running, Town
from .raw import Reply, receive, request, send, until

TIGHT = Limits(
    body=200_000,
    photo=100_000,
    photos=3,
    parts=6,
    head_seconds=0.5,
    idle_seconds=0.5,
    least_rate=100_000,
    memory=500_000,
    send_seconds=1,
    connections=20,
)


@pytest.fixture
def tight(run: Runner, town: Town) -> Running:
    """A service with small limits."""
    return run(town.map, limits=TIGHT)


def form(*parts: tuple[str, str | None, bytes], boundary: str = "b") -> bytes:
    pieces = []
    for name, filename, content in parts:
        given = "" if filename is None else f'; filename="{filename}"'
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{given}\r\n\r\n'
        pieces.append(head.encode("utf-8", "surrogateescape") + content + b"\r\n")
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


def post(port: int, body: bytes, kind: str = "multipart/form-data; boundary=b") -> Reply:
    return request(port, "/v1/locate", method="POST", body=body, Content_Type=kind)


def head_of(length: int) -> bytes:
    return (
        b"POST /v1/locate HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        b"Content-Length: %d\r\n\r\n" % length
    )


def still_answers(running: Running, town: Town) -> bool:
    return running.client.locate([town.query(1)])[0]["known"] and running.service.budget.used == 0


@pytest.mark.slow
def test_bodies_that_claim_too_much_are_refused_before_they_come(tight: Running, town: Town) -> None:
    reply = send(tight.port, head_of(10**12))
    assert reply.status == 413 and "200,000 at most" in reply.json["error"]["reason"]
    assert still_answers(tight, town)


@pytest.mark.slow
def test_an_endless_body_ends(tight: Running, town: Town) -> None:
    with socket.create_connection(("127.0.0.1", tight.port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/locate HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        sent = 0
        with suppress(OSError):  # the service has closed it
            while sent < 50_000_000:
                connection.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
                sent += 0x8000
        assert sent < 50_000_000
    reply = post(tight.port, form(("photos", "a.jpg", b"x" * 250_000)))
    assert reply.status == 413
    assert still_answers(tight, town)


def test_the_refusal_of_a_large_body_is_read_by_its_sender(tight: Running) -> None:
    """The connection is not cut while the client still sends."""
    with pytest.raises(ServiceError, match="bytes") as caught:
        tight.client.locate([b"x" * 1_500_000])
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([("photos", "a.jpg", b"x" * 150_000)], 413),
        ([("photos", "a.jpg", b"x")] * 4, 413),
        ([("other", None, b"x")] * 7, 413),
        ([("note", None, b"x" * 5000)], 413),
        ([("note", None, b"x")], 400),
        ([], 400),
    ],
)
def test_parts_are_counted(tight: Running, parts: list[tuple[str, str | None, bytes]], status: int) -> None:
    assert post(tight.port, form(*parts)).status == status


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"nothing of the kind", "multipart/form-data; boundary=b"),
        (form(("photos", "a", b"x"))[:-6], "multipart/form-data; boundary=b"),
        (form(("photos", "a", b"x")), "multipart/form-data"),
        (form(("photos", "a", b"x")), f"multipart/form-data; boundary={'b' * 80}"),
        (b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (b"--b\r\n" + b"X: y\r\n" * 50 + b"\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (b"--b\r\nX: " + b"y" * 90_000 + b"\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
    ],
)
def test_malformed_forms_are_refused(running: Running, body: bytes, kind: str) -> None:
    reply = post(running.port, body, kind)
    assert reply.status == 400 and reply.json["error"]["status"] == 400


def test_other_media_are_refused(running: Running) -> None:
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed"):
        assert post(running.port, b"{}", kind).status == 415


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..\\..\\windows\\win.ini",
        "C:\\a.jpg",
        "a/../../b.jpg",
        "%2e%2e%2fa.jpg",
        "a\0b.jpg",
        "..",
        ".",
        "",
        "\udcff\udcfe.jpg",
        "a" * 250 + ".jpg",
        "‮gpj.exe",
        "CON.jpg",
        "-rf",
        "~root",
    ],
)
def test_names_are_names_and_no_paths(run: Runner, tmp_path: Path, name: str) -> None:
    limits = Limits()
    try:
        clean = clean_name(name, limits)
    except Refusal as refusal:
        assert refusal.status == 400
        return
    assert "/" not in clean and "\\" not in clean and clean not in (".", "..") and clean.isprintable()
    photo = store(tmp_path / "photos", Upload(clean, b"content"))
    assert photo.path.resolve().parent == (tmp_path / "photos" / "added").resolve()
    assert photo.path.read_bytes() == b"content"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [photo.path]


@pytest.mark.parametrize(
    "target",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/v1/maps/..%2f..",
        "/v1/maps/town/photos/..%2f..%2fetc%2fpasswd",
        "/v1/maps/town/photos/Li4vLi4vZXRjL3Bhc3N3ZA",
        "/v1/maps/town/photos/Li4vLi4vZXRjL3Bhc3N3ZA/image",
        "/v1/maps/%00/photos",
        "/v1/jobs/..%2f",
        "/pages/town/..%2f..%2fmap.sqlite",
        "/v1/maps/town/photos/%ff%fe/image",
        "//etc/passwd",
        "/page/../gate.py",
        "/%2e%2e/gate.py",
        "/gate.py",
        "/__init__.py",
    ],
)
def test_no_address_leads_to_a_file(running: Running, target: str) -> None:
    reply = request(running.port, target)
    assert reply.status == 404 and b"root:" not in reply.body and b"import" not in reply.body


def test_long_addresses_are_refused(running: Running) -> None:
    assert request(running.port, "/v1/maps?" + "a" * 5000).status == 414
    assert request(running.port, "/v1/maps/" + "a" * 3000).status == 404
    assert request(running.port, "/" + "a" * 60_000).status in (400, 414, 431)


@pytest.mark.slow
def test_who_sends_no_head_is_cut_off(tight: Running, town: Town) -> None:
    with socket.create_connection(("127.0.0.1", tight.port), timeout=10) as connection:
        connection.sendall(b"GET /v1/health HTTP/1.1\r\nHost: local")
        started = time.monotonic()
        assert receive(connection).status == 0 and time.monotonic() - started < 5
    with (
        socket.create_connection(("127.0.0.1", tight.port), timeout=10) as connection,
        pytest.raises(OSError),
    ):
        for _ in range(100):  # a byte at a time
            connection.sendall(b"G")
            time.sleep(0.05)
    assert still_answers(tight, town)


@pytest.mark.slow
def test_who_sends_a_body_too_slowly_is_refused(tight: Running, town: Town) -> None:
    head = head_of(90_000)
    with socket.create_connection(("127.0.0.1", tight.port), timeout=10) as connection:
        connection.sendall(head + b"x")
        reply = receive(connection)  # nothing more comes
        assert reply.status == 408
    with socket.create_connection(("127.0.0.1", tight.port), timeout=10) as connection:
        connection.sendall(head)
        started = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - started < 5:  # always something, never enough
                connection.sendall(b"x" * 100)
                time.sleep(0.05)
        assert time.monotonic() - started < 4
    assert still_answers(tight, town)


@pytest.mark.slow
def test_who_does_not_read_its_answer_is_cut_off(run: Runner, town: Town) -> None:
    running = run(town.map, limits=Limits(send_seconds=0.5))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(("127.0.0.1", running.port))
        for _ in range(12):  # rows of 16384 numbers, which nobody reads
            body = form(*[("photos", "a.jpg", town.query(1).read_bytes())] * 8)
            head = (
                "POST /v1/describe HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            try:
                connection.sendall(head.encode() + body)
            except OSError:
                break
            if not until(lambda: running.service.metrics.under_way._value.get() == 0, 0.1):
                break
        assert until(lambda: running.service.budget.used == 0, 20)
        assert until(lambda: still_answers(running, town))


@pytest.mark.slow
def test_too_many_connections_are_closed(tight: Running, town: Town) -> None:
    silent = [socket.create_connection(("127.0.0.1", tight.port), timeout=10) for _ in range(40)]
    try:
        assert request(tight.port).status in (0, 200)
        assert until(lambda: request(tight.port).status == 200, 5)  # silent ones are cut off soon
    finally:
        for connection in silent:
            connection.close()
    assert still_answers(tight, town)


def test_there_is_a_limit_to_what_is_in_memory(tight: Running) -> None:
    slow = []
    head = head_of(190_000)
    try:
        for _ in range(3):
            connection = socket.create_connection(("127.0.0.1", tight.port), timeout=10)
            connection.sendall(head + b"x" * 180_000)
            slow.append(connection)
        statuses = sorted(receive(connection).status for connection in slow)
        assert statuses == [408, 408, 503]
    finally:
        for connection in slow:
            connection.close()
    assert until(lambda: tight.service.budget.used == 0)


@pytest.mark.slow
def test_photos_are_kept_only_where_that_is_wanted(run: Runner, town: Town, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    run(town.map, keep=kept).client.locate([town.query(2)])
    photo, answer = sorted(kept.iterdir())
    assert photo.read_bytes() == town.query(2).read_bytes() and answer.name == photo.name + ".json"
    assert '"known": true' in answer.read_text("ascii")


def test_the_form_parser_keeps_bytes_as_they_are() -> None:
    content = bytes(range(256)) * 3 + b"\r\n--b\r\n--bb--\r\n"[:3]
    body = parse_form(
        form(("photos", "ä.jpg", content), ("note", None, b"1"), ("photo", "b", b""), boundary="xyz"),
        "xyz",
        Limits(),
    )
    assert [(u.name, u.content) for u in body.photos] == [("ä.jpg", content), ("b", b"")]
    assert body.fields == [("note", "1")]
