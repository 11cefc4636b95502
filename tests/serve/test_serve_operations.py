"""A walk through the OpenAPI document: each route, option and status is as the service behaves."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from dejavlad.errors import MissingExtraError
from dejavlad.serve import app, writer
from dejavlad.serve.openapi import document
from dejavlad.serve.photo_id import photo_id
from dejavlad.serve.questions import Described, DescribeQuestion

from .conftest import LAT, LON, Runner, Running, Town
from .raw import Reply, request, send
from .test_serve_bodies import form

PATHS: dict[str, dict[str, Any]] = document("1", False)["paths"]
OPERATIONS = [(method.upper(), path) for path, methods in PATHS.items() for method in methods]
WITH_PHOTOS = [each for each in OPERATIONS if "requestBody" in PATHS[each[1]][each[0].lower()]]
IDENTITY = photo_id("03.jpg")
NEEDED = {"/v1/exif": {"lat": "1", "lon": "2"}, "/v1/match": {"photo": IDENTITY}}
"""What must be given besides the option that is tried."""
SAMPLES = {
    "map": (("town",), ()),
    "name": (("a.jpg",), ("..",)),
    "near": ((f"{LAT},{LON},60", "exif:50"), ("nowhere", "1,2")),
    "after": (("2020-01-01",), ("soon",)),
    "before": (("2020-01-01T10:00:00",), ("soon",)),
    "heading": (("90+-30",), ("north",)),
    "photo": ((IDENTITY,), ()),
    "cursor": (("Mg",), ("!", "a" * 90)),
    "bbox": (("1,2,3,4",), ("1,2,3", "1,4,3,2", "1,2,3,nan", "")),
}
"""Options that are texts: good and bad values."""


@pytest.fixture(scope="module")
def writable(town: Town) -> Iterator[Running]:
    """A service that may change the map, which no test here does."""
    runner = Runner()
    yield runner(town.map, writable=True)
    runner.stop()


def ask(
    port: int,
    method: str,
    path: str,
    options: dict[str, str],
    fields: dict[str, str] | None = None,
    **ids: str,
) -> Reply:
    """A request whose photo, where it takes one, is none; options in the address, or in a form's fields."""
    target = path.format(**{"map": "town", "id": "bm9uZQ", **ids})
    target += f"?{urlencode(options)}" if options else ""
    if (method, path) not in WITH_PHOTOS:
        return request(port, target, method=method)
    if fields is None:
        return request(port, target, method=method, body=b"no photo", Content_Type="image/jpeg")
    parts = [("photos", None, b"no photo"), *((n, None, value.encode()) for n, value in fields.items())]
    kind = "multipart/form-data; boundary=b"
    return request(port, target, method=method, body=form(*parts), Content_Type=kind)


def fields_of(method: str, path: str) -> dict[str, Any]:
    """The fields of a form, by the document."""
    content: dict[str, Any] = PATHS[path][method.lower()]["requestBody"]["content"]["multipart/form-data"]
    fields: dict[str, Any] = content["schema"]["properties"]
    return fields


def values(parameter: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Values of an option that are taken, and some that are not."""
    schema = parameter["schema"]
    if "enum" in schema:
        return schema["enum"], ["orb", ""]
    if schema["type"] == "string":
        good, bad = SAMPLES[parameter["name"]]
        return list(good), list(bad)
    least, most = schema["minimum"], schema["maximum"]
    fractions = ["2.5"] if schema["type"] == "integer" else ["nan"]
    return [str(least), str(most)], [str(least - 1), str(most + 1), "x", "", *fractions]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_options_are_those_of_the_document(writable: Running, method: str, path: str) -> None:
    parameters = [p for p in PATHS[path][method.lower()]["parameters"] if p["in"] == "query"]
    for parameter in parameters:
        name, (good, bad) = parameter["name"], values(parameter)
        needed = {n: value for n, value in NEEDED.get(path, {}).items() if n != name}
        pair = {"lat": "lon", "lon": "lat"}.get(name)
        needed |= {pair: "1"} if pair else {}
        for value, is_good in [*((v, True) for v in good), *((v, False) for v in bad)]:
            reply = ask(writable.port, method, path, {name: value, **needed})
            assert (reply.status != 400) is is_good, (name, value, reply.body)
            if (method, path) in WITH_PHOTOS:  # a text field is an option like any other
                same = ask(writable.port, method, path, needed, {name: value})
                assert (same.status, same.body) == (reply.status, reply.body)
        twice = [(name, good[0])] * 2
        target = path.format(map="town", id=IDENTITY) + "?" + urlencode(twice)
        reply = request(writable.port, target, method=method)
        assert reply.status == 400 and "twice" in reply.json["error"]["reason"]
        assert not parameter["required"]  # it may stand in the form
        if path == "/v1/exif" and name in ("lat", "lon"):
            for fields in (None, {}):
                reply = ask(writable.port, method, path, needed, fields)
                assert reply.status == 400 and name in reply.json["error"]["reason"]
    unknown = ask(writable.port, method, path, {"colour": "red"})
    if path in ("/v1/health", "/metrics"):  # probes add options of their own
        assert unknown.status == 200
    else:
        assert unknown.status == 400 and "unknown option 'colour'" in unknown.json["error"]["reason"]


@pytest.mark.parametrize(
    ("target", "status"),
    [("/v1/locate?map=nope", 404), ("/v1/maps/nope/photos", 404), ("/v1/exif?lat=1", 400)],
)
def test_what_the_address_refuses_is_refused_before_the_body(
    writable: Running, monkeypatch: pytest.MonkeyPatch, target: str, status: int
) -> None:
    monkeypatch.setattr(app, "read_body", None)
    reply = request(writable.port, target, method="POST", body=b"x", Content_Type="image/jpeg")
    assert reply.status == status


def test_descriptors_are_told_of_the_model_that_made_them(
    running: Running, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        title, fingerprint, descriptor_size = "other", "of another", 1

    answers = DescribeQuestion.answers

    def by_another(self: DescribeQuestion, *given: Any) -> list[Described]:
        return [replace(each, model=Other()) for each in answers(self, *given)]  # type: ignore[arg-type]

    monkeypatch.setattr(DescribeQuestion, "answers", by_another)
    photo = town.query(3).read_bytes()
    reply = request(running.port, "/v1/describe", method="POST", body=photo, Content_Type="image/jpeg").json
    assert (reply["model"], reply["fingerprint"], reply["dims"]) == ("other", "of another", 1)


@pytest.mark.parametrize(("method", "path"), WITH_PHOTOS)
def test_forms_have_no_other_fields(writable: Running, method: str, path: str) -> None:
    port, needed = writable.port, NEEDED.get(path, {})
    assert all("default" not in schema for schema in fields_of(method, path).values())
    body = PATHS[path][method.lower()]["requestBody"]["content"]["multipart/form-data"]["schema"]
    names = {p["name"] for p in PATHS[path][method.lower()]["parameters"] if p["in"] == "query"}
    assert body["properties"].keys() == {"photos", *names} and body["required"] == ["photos"]
    unknown = ask(port, method, path, needed, {"colour": "red"})
    assert unknown.status == 400
    reason = unknown.json["error"]["reason"]
    assert reason.startswith("unknown option 'colour'; valid: ") and all(name in reason for name in names)
    twice = ask(port, method, path, {**needed, "name": "a.jpg"}, {"name": "b.jpg"})
    assert twice.status == 400 and "twice" in twice.json["error"]["reason"]


def test_a_file_in_another_field_is_not_passed_over(running: Running, town: Town) -> None:
    content = form(("image", "a.jpg", town.query(1).read_bytes()))
    kind = "multipart/form-data; boundary=b"
    reply = request(running.port, "/v1/locate", method="POST", body=content, Content_Type=kind)
    assert reply.status == 400 and "send photos in field 'photos'" in reply.json["error"]["reason"]


def test_text_fields_are_honoured(running: Running, town: Town) -> None:
    kind, photo = "multipart/form-data; boundary=b", town.query(3).read_bytes()
    fields = [("k", None, b"2"), ("verify", None, b"none"), ("near", None, f"{LAT},{LON},400".encode())]
    content = form(("photos", None, photo), *fields, ("name", None, b"here.jpg"))
    reply = request(running.port, "/v1/locate", method="POST", body=content, Content_Type=kind)
    (answer,) = reply.json["answers"]
    in_address = urlencode({"k": 2, "verify": "none", "near": f"{LAT},{LON},400", "name": "here.jpg"})
    wanted = request(
        running.port, f"/v1/locate?{in_address}", method="POST", body=photo, Content_Type="image/jpeg"
    )
    assert wanted.json["answers"] == [answer] and answer["name"] == "here.jpg"
    assert len(answer["matches"]) == 2 and answer["matches"][0]["inliers"] is None
    assert answer["searched"]["photos"] == 3
    content = form(("photos", "a.jpg", photo), ("photo", None, IDENTITY.encode()))
    reply = request(running.port, "/v1/match", method="POST", body=content, Content_Type=kind)
    assert reply.json["candidate"] == "03.jpg" and reply.json["same_place"]
    content = form(("photos", "a.jpg", photo), ("photos", "b.jpg", photo))
    reply = request(running.port, "/v1/match", method="POST", body=content, Content_Type=kind)
    assert "agree with b.jpg" in reply.json["reason"]


def test_a_raw_photo_is_called_as_the_address_says(running: Running, town: Town) -> None:
    photo = town.query(3).read_bytes()
    for target, name in (("?name=b%20c.jpg", "b c.jpg"), ("", "photo"), ("?name=x%2Fy.jpg", "y.jpg")):
        reply = request(
            running.port, f"/v1/describe{target}", method="POST", body=photo, Content_Type="image/jpeg"
        )
        assert reply.json["descriptors"][0]["name"] == name


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_refusals_are_those_of_the_document(writable: Running, town: Town, method: str, path: str) -> None:
    """What can be provoked is documented, and what is documented can be provoked."""
    port, needed = writable.port, urlencode(NEEDED.get(path, {}))
    target = path.format(map="town", id=IDENTITY) + (f"?{needed}" if needed else "")
    join = "&" if needed else "?"
    damaged, lenient = town.query(0).read_bytes()[:900], path in ("/v1/health", "/metrics")
    statuses = {
        400 if lenient else request(port, f"{target}{join}colour=red", method=method).status,
        request(port, target, method=method, Origin="http://elsewhere.example").status,
        request(port, target, method=method, host="elsewhere.example").status,
        request(port, f"{target}{join}{'a' * 5000}", method=method).status,
    }
    assert statuses == {400, 403, 421, 414}
    if "{" in path or "map" in {p["name"] for p in PATHS[path][method.lower()]["parameters"]}:
        missing = path.format(map="village", id="bm9uZQ") + (
            "" if "{" in path else "?map=village&photo=bm9uZQ"
        )
        missing = missing if "match" in path else missing.partition("&photo")[0]
        body = town.query(0).read_bytes() if (method, path) in WITH_PHOTOS else b""
        statuses.add(request(port, missing, method=method, body=body, Content_Type="image/jpeg").status)
    if (method, path) in WITH_PHOTOS:
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: "
        )
        statuses.add(send(port, f"{head}{10**12}\r\n\r\n".encode()).status)
        statuses.add(request(port, target, method=method, body=b"x", Content_Type="text/plain").status)
        if "exif" in path:
            damaged = b"\xff\xd8\xff\xe1\xff"  # its pixels are never looked at
        statuses.add(request(port, target, method=method, body=damaged, Content_Type="image/jpeg").status)
    documented = {int(status) for status in PATHS[path][method.lower()]["responses"] if int(status) >= 400}
    assert statuses <= documented
    # 401 and 429: test_serve_gate; 408: test_serve_bodies; 409: test_serve_maps; 503: test_serve_inference
    elsewhere = {401, 429, 500, 503, 408, 409, 501, 507}
    assert documented - statuses <= elsewhere


def test_what_is_missing_here_is_said(writable: Running, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def not_installed(*_: object, **__: object) -> None:
        raise MissingExtraError("local features by 'aliked'", "local")

    monkeypatch.setattr(writer, "store", no_room)
    monkeypatch.setattr("dejavlad.local.create", not_installed)
    photo = town.query(1).read_bytes()
    for path, options, status in (
        ("/v1/maps/town/photos", "", 507),
        ("/v1/locate", "?verify=aliked", 501),
        ("/v1/match", f"?verify=disk&photo={IDENTITY}", 501),
    ):
        reply = request(writable.port, path + options, method="POST", body=photo, Content_Type="image/jpeg")
        assert reply.status == status
        (documented,) = [PATHS[p]["post"] for p in PATHS if p.format(map="town", id="") == path]
        assert str(status) in documented["responses"]
