import re
from pathlib import Path

import pytest

from dejavlad.client import Client, ServiceError
from dejavlad.errors import InputError
from dejavlad.serve.options import ServeOptions, read_token, tile_origin

from .conftest import TOKEN, Runner, Running, Town
from .raw import request


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9", "127.0.0.1:8000", "[::1]", "LOCALHOST.", "10.1.2.3"]
)
def test_addresses_and_localhost_are_ours(running: Running, host: str) -> None:
    assert request(running.port, host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "user@localhost",
        "localhost/x",
        "",
        "a:b:c",
        "localhost:99999999",
    ],
)
def test_other_names_are_refused(running: Running, host: str) -> None:
    """A page whose name was pointed to this machine learns nothing."""
    reply = request(running.port, "/v1/maps", host=host)
    assert reply.status in (400, 421) and b"town" not in reply.body


def test_two_hosts_and_none_are_refused(running: Running) -> None:
    assert request(running.port, host=None).status == 400
    assert request(running.port, HOST="evil.example").status == 400


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"},
    ],
)
def test_pages_of_other_origins_are_refused(running: Running, method: str, headers: dict[str, str]) -> None:
    host = "localhost:8000"
    assert request(running.port, "/v1/maps/town/photos", method=method, host=host, **headers).status == 403


def test_the_page_itself_may_ask(running: Running) -> None:
    host = f"localhost:{running.port}"
    reply = request(
        running.port, "/v1/maps", host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin"
    )
    assert reply.status == 200 and "access-control-allow-origin" not in reply.headers
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert request(running.port, "/", host=host, **link).status == 200


def test_every_answer_carries_the_policy(running: Running) -> None:
    for target in ("/", "/v1/health", "/v1/nothing", "/nothing", "/v1/maps/town/photos", "/metrics"):
        headers = request(running.port, target).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert not re.search(r"unsafe|\*|data:|blob:|https?:", policy)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


def test_tiles_are_the_only_other_origin(run: Runner, town: Town) -> None:
    running = run(town.map, tiles="https://tiles.example:8443/{z}/{x}/{y}.png", attribution="A & B")
    policy = request(running.port, "/").headers["content-security-policy"]
    assert "img-src 'self' https://tiles.example:8443;" in policy and policy.count("https:") == 1
    about = request(running.port, "/v1/service").json
    assert about["tiles"] == {"url": "https://tiles.example:8443/{z}/{x}/{y}.png", "attribution": "A & B"}


@pytest.mark.parametrize(
    "address",
    [
        "tiles",
        "file:///{z}/{x}/{y}",
        "https://host/{z}/{x}.png",
        "https://ho st/{z}/{x}/{y}",
        "https://host;script-src/{z}/{x}/{y}",
        "https://u:p@host/{z}/{x}/{y}",
        "https://host:x/{z}/{x}/{y}",
    ],
)
def test_addresses_that_are_no_tiles_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="--tiles"):
        tile_origin(address)


def test_without_the_token_nothing_is_said(run: Runner, town: Town) -> None:
    running = run(town.map, token=TOKEN)
    port = running.port
    for target in (
        "/v1/maps",
        "/v1/service",
        "/metrics",
        "/v1/openapi.json",
        "/v1/maps/town/photos",
        "/pages/x/",
    ):
        reply = request(port, target)
        assert reply.status == 401 and "bearer" in reply.headers["www-authenticate"].lower()
        assert b"town" not in reply.body
    assert request(port, "/v1/locate", method="POST", body=b"x").status == 401
    for wrong in ("", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é" * 26):
        assert request(port, "/v1/maps", Authorization=f"Bearer {wrong}").status == 401
    assert request(port, "/v1/maps", Authorization=f"Basic {TOKEN}").status == 401
    assert request(port, "/v1/maps", Authorization=f"bearer {TOKEN}").status == 200
    assert request(port, "/v1/health").status == 200 and request(port, "/").status == 200
    assert running.client.maps()[0]["name"] == "town"
    with Client(running.address) as stranger, pytest.raises(ServiceError, match="token is needed"):
        stranger.maps()


def test_a_browser_gets_a_cookie_for_the_token(run: Runner, town: Town) -> None:
    port = run(town.map, token=TOKEN).port
    assert request(port, "/v1/session", method="POST").status == 401
    reply = request(port, "/v1/session", method="POST", Authorization=f"Bearer {TOKEN}")
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and TOKEN not in cookie
    pair = cookie.partition(";")[0]
    assert request(port, "/v1/maps", Cookie=pair).status == 200
    assert request(port, "/v1/maps", Cookie=f"a=b; {pair}").status == 200
    assert request(port, "/v1/maps", Cookie=pair[:-1]).status == 401
    assert request(port, "/v1/maps", Cookie=pair, Origin="http://evil.example").status == 403


def test_too_many_wrong_tokens_are_refused_and_the_right_one_is_not(run: Runner, town: Town) -> None:
    port = run(town.map, token=TOKEN).port
    statuses = [request(port, "/v1/maps", Authorization=f"Bearer {i}").status for i in range(33)]
    assert statuses == [401] * 30 + [429] * 3
    assert request(port, "/v1/maps", Authorization=f"Bearer {TOKEN}").status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "my-machine"])
def test_others_reach_it_with_a_token_alone(host: str) -> None:
    with pytest.raises(InputError, match="--token FILE"):
        ServeOptions(host=host)
    assert ServeOptions(host=host, token=TOKEN).host == host
    for own in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        assert ServeOptions(host=own).token is None


def test_tokens_are_secrets_of_some_length(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"  {TOKEN}\nmore\n", encoding="utf-8")
    assert read_token(path) == TOKEN
    for content in ("", "\n", "geheimnis ü 1234567"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match="--token"):
            read_token(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_token(tmp_path / "nothing")
    with pytest.raises(InputError, match="16 or more"):
        ServeOptions(token="short")


def test_names_that_are_given_are_ours(run: Runner, town: Town) -> None:
    port = run(town.map, names=("photos.lan",)).port
    assert request(port, host="photos.lan:8000").status == 200
    assert request(port, host="other.lan").status == 421


def test_methods_and_addresses_that_are_none(running: Running) -> None:
    reply = request(running.port, "/v1/maps", method="POST")
    assert reply.status == 405 and reply.headers["allow"] == "GET, HEAD"
    assert request(running.port, "/v1/locate").status == 405
    assert request(running.port, "/v1/maps", method="PATCH").status == 405
    assert request(running.port, "/v1/locate", method="OPTIONS", Origin="http://evil.example").status == 403
    reply = request(running.port, "/v1/maps", method="HEAD")
    assert reply.status == 200 and reply.body == b""
    for target in ("/v1/", "/v2/maps", "/v1/maps/", "/index.php", "/page/index.html", "/v1/maps/town/"):
        assert request(running.port, target).status == 404
