import json
import re
from typing import Any

import pytest

from dejavlad.serve.app import build_app
from dejavlad.serve.openapi import EXAMPLES, SCHEMAS, document
from dejavlad.serve.photo_id import photo_id

from .conftest import Running, Town
from .raw import request

KINDS = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}


def faults(value: Any, schema: dict[str, Any], at: str = "") -> list[str]:
    """What of a document is not as its schema says: a plain reading of the few words that we use."""
    if "$ref" in schema:
        return faults(value, SCHEMAS[schema["$ref"].rpartition("/")[2]], at)
    if "anyOf" in schema:
        return [] if any(not faults(value, each) for each in schema["anyOf"]) else [f"{at}: none of anyOf"]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    fits = any(
        isinstance(value, KINDS[k]) and not (isinstance(value, bool) and k != "boolean") for k in kinds
    )
    if kinds and not fits:
        return [f"{at}: {value!r} is not {kinds}"]
    found_faults: list[str] = []
    if isinstance(value, dict) and "properties" in schema:
        found_faults += [f"{at}.{n} is missing" for n in schema["required"] if n not in value]
        found_faults += [f"{at}.{n} is not in the schema" for n in value if n not in schema["properties"]]
        for name, each in schema["properties"].items():
            if name in value:
                found_faults += faults(value[name], each, f"{at}.{name}")
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            found_faults += faults(item, schema["items"], f"{at}[{i}]")
    if "enum" in schema and value not in schema["enum"]:
        found_faults.append(f"{at}: {value!r} is not in {schema['enum']}")
    if "minimum" in schema and not schema["minimum"] - 1e-6 <= value:
        found_faults.append(f"{at}: {value} is too small")
    return found_faults


def test_every_route_is_in_the_document_and_every_address_is_a_route(running: Running) -> None:
    routes = {
        (method.lower(), route.path)
        for route in build_app(running.service).app.routes
        for method in route.app.methods
        if route.path.startswith("/v1") or route.path == "/metrics"
    }
    documented = {(method, path) for path, of in document("1", False)["paths"].items() for method in of}
    assert documented == routes


def test_the_document_is_whole() -> None:
    whole = document("1.2.3", True)
    text = json.dumps(whole)
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in SCHEMAS
    identities = [of["operationId"] for path in whole["paths"].values() for of in path.values()]
    assert len(set(identities)) == len(identities)
    assert whole["security"] == [{"token": []}] and "security" not in document("1", False)
    for name, example in EXAMPLES.items():
        assert not faults(example, SCHEMAS[name], name)


@pytest.mark.slow
def test_answers_are_as_the_document_says(running: Running, town: Town) -> None:
    client, paths = running.client, request(running.port, "/v1/openapi.json").json["paths"]

    def schema(method: str, path: str) -> dict[str, Any]:
        (response,) = [r for s, r in paths[path][method]["responses"].items() if s.startswith("2")]
        return response["content"]["application/json"]["schema"]

    photo = f"/v1/maps/town/photos/{photo_id('03.jpg')}"
    for path, target in (
        ("/v1/health", "/v1/health"),
        ("/v1/service", "/v1/service"),
        ("/v1/maps", "/v1/maps"),
        ("/v1/maps/{map}", "/v1/maps/town"),
        ("/v1/maps/{map}/photos", "/v1/maps/town/photos?limit=2"),
        ("/v1/maps/{map}/points", "/v1/maps/town/points"),
        ("/v1/maps/{map}/photos/{id}", photo),
    ):
        assert not faults(request(running.port, target).json, schema("get", path), path)
    photos = [town.query(3)]
    for path, options in (
        ("/v1/locate", {}),
        ("/v1/describe", {}),
        ("/v1/match", {"photo": photo_id("03.jpg")}),
    ):
        assert not faults(client._post(path, photos, options), schema("post", path), path)
    broken = client._post("/v1/locate", [b"x", town.query(3)], {})
    assert not faults(broken, schema("post", "/v1/locate"))
    assert broken["answers"][0].keys() == broken["answers"][1].keys()
    assert not faults(request(running.port, "/v1/nothing").json, SCHEMAS["Error"])


@pytest.mark.parametrize("value", [{"error": {"status": "404", "reason": "x"}}, {"error": {}}, {}, []])
def test_the_reading_of_schemas_sees_faults(value: Any) -> None:
    assert faults(value, SCHEMAS["Error"])
