"""The interface as an OpenAPI 3.1 document: one table of what each address takes and answers."""

from __future__ import annotations

from typing import Any, Final

from dejavlad.local import AUTO, EXTRACTORS
from dejavlad.places.verification.points import NO_CHECK
from dejavlad.serve.thumbnails import SIZES

Schema = dict[str, Any]


def _object(fields: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    return {"type": "object", "properties": fields, "required": [n for n in fields if n not in optional]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(kind: str) -> Schema:
    return {"type": [kind, "null"]}


def _of(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT, WHOLE, REAL, FLAG = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
POSITION: Final = {"anyOf": [_of("Position"), {"type": "null"}]}
EXAMPLE_POSITION: Final = {"east": 686334.2, "north": 5330778.8, "zone": "32N", "lat": 48.103, "lon": 11.503}
EXAMPLE_MATCH: Final = {
    "id": "MDMuanBn",
    "name": "03.jpg",
    "score": 0.659,
    "distance": 0.826,
    "inliers": 686,
    "position": EXAMPLE_POSITION,
    "image": "/v1/maps/town/photos/MDMuanBn/image",
}
EXAMPLE_ANSWER: Final = {
    "name": "where.jpg",
    "map": "town",
    "known": True,
    "confidence": 0.998,
    "reason": "686 points agree with 03.jpg; the next place has 72",
    "position": EXAMPLE_POSITION,
    "uncertainty_m": 25.0,
    "matches": [EXAMPLE_MATCH],
    "failed": None,
    "blank": False,
}
EXAMPLE_PHOTO: Final = {
    "id": "MDMuanBn",
    "name": "03.jpg",
    "position": EXAMPLE_POSITION,
    "heading": 90.0,
    "time": 1700000000.0,
    "group": None,
    "tags": [],
    "image": "/v1/maps/town/photos/MDMuanBn/image",
}
EXAMPLE_JOB: Final = {
    "id": "3aF9Mf3_TVr2FkUz",
    "map": "town",
    "state": "running",
    "what": "describing photos",
    "done": 3,
    "steps": 10,
    "total": 10,
    "added": [],
    "failed": {},
    "error": None,
}

SCHEMAS: Final[dict[str, Schema]] = {
    "Error": _object({"error": _object({"status": WHOLE, "reason": TEXT})}),
    "Position": _object(
        {"east": REAL, "north": REAL, "zone": _or_null("string"), "lat": REAL, "lon": REAL}, ("lat", "lon")
    ),
    "Match": _object(
        {
            "id": TEXT,
            "name": TEXT,
            "score": REAL | {"minimum": -1, "maximum": 1},
            "distance": REAL | {"minimum": 0, "maximum": 2},
            "inliers": _or_null("integer"),
            "position": POSITION,
            "image": TEXT,
        }
    ),
    "Answer": _object(
        {
            "name": TEXT,
            "map": TEXT,
            "known": FLAG,
            "confidence": REAL | {"minimum": 0, "maximum": 1},
            "reason": TEXT,
            "position": POSITION,
            "uncertainty_m": _or_null("number"),
            "matches": _list(_of("Match")),
            "failed": _or_null("string"),
            "blank": FLAG,
            "searched": {"type": "object"},
        },
        optional=("searched",),
    ),
    "Answers": _object({"map": TEXT, "answers": _list(_of("Answer"))}),
    "Descriptors": _object(
        {
            "map": TEXT,
            "model": TEXT,
            "fingerprint": TEXT,
            "dims": WHOLE,
            "descriptors": _list(
                _object(
                    {
                        "name": TEXT,
                        "descriptor": {"type": ["array", "null"], "items": REAL},
                        "failed": _or_null("string"),
                    }
                )
            ),
        }
    ),
    "Pair": _object(
        {
            "query": TEXT,
            "candidate": TEXT,
            "same_place": FLAG,
            "confidence": REAL,
            "score": REAL,
            "reason": TEXT,
            "inliers": WHOLE,
            "tried": WHOLE,
            "points": _list(WHOLE),
            "features": TEXT,
            "sizes": _list(_list(WHOLE)),
            "pairs": _list(_list(REAL)),
            "model": {"type": "object"},
            "blank": {"type": "object", "additionalProperties": TEXT},
        }
    ),
    "Map": _object(
        {
            "name": TEXT,
            "photos": WHOLE,
            "with_position": WHOLE,
            "model": TEXT,
            "fingerprint": TEXT,
            "dims": WHOLE,
            "bbox": {"type": ["array", "null"], "items": REAL},
            "degrees": FLAG,
            "change": WHOLE,
            "writable": FLAG,
        }
    ),
    "Maps": _object({"maps": _list(_of("Map"))}),
    "Photo": _object(
        {
            "id": TEXT,
            "name": TEXT,
            "position": POSITION,
            "heading": _or_null("number"),
            "time": _or_null("number"),
            "group": _or_null("string"),
            "tags": _list(TEXT),
            "image": TEXT,
        }
    ),
    "Photos": _object({"photos": _list(_of("Photo")), "total": WHOLE, "cursor": _or_null("string")}),
    "Points": _object(
        {"ids": _list(TEXT), "x": _list(REAL), "y": _list(REAL), "degrees": FLAG, "total": WHOLE}
    ),
    "Job": _object(
        {
            "id": TEXT,
            "map": TEXT,
            "state": TEXT | {"enum": ["queued", "running", "done", "failed"]},
            "what": TEXT,
            "done": WHOLE,
            "steps": WHOLE,
            "total": WHOLE,
            "added": _list(_object({"name": TEXT, "photo": TEXT, "id": TEXT})),
            "failed": {"type": "object", "additionalProperties": TEXT},
            "error": {"type": ["object", "null"]},
            "address": TEXT,
        },
        ("address",),
    ),
    "Removed": _object({"removed": WHOLE, "name": TEXT, "photos": WHOLE}),
    "Health": _object({"status": TEXT, "version": TEXT}),
    "Service": {"type": "object", "description": "what the page needs: limits, maps, tiles, pages"},
    "Session": _object({"seconds": REAL}),
}
EXAMPLES: Final[dict[str, Any]] = {
    "Error": {"error": {"status": 404, "reason": "there is no map 'village'; there is town"}},
    "Answers": {"map": "town", "answers": [EXAMPLE_ANSWER]},
    "Photo": EXAMPLE_PHOTO,
    "Photos": {"photos": [EXAMPLE_PHOTO], "total": 12, "cursor": "Mg"},
    "Points": {"ids": ["MDMuanBn"], "x": [11.503], "y": [48.103], "degrees": True, "total": 12},
    "Job": EXAMPLE_JOB,
    "Removed": {"removed": 1, "name": "03.jpg", "photos": 11},
    "Health": {"status": "ok", "version": "0.1.0"},
}

VERIFY: Final = ("verify", TEXT | {"enum": [AUTO, NO_CHECK, *EXTRACTORS], "default": AUTO}, "local features")
MAP: Final = ("map", TEXT, "the map; may be left out where there is one")
BOX: Final = ("bbox", TEXT, "WEST,SOUTH,EAST,NORTH in degrees, or metres")
LAT: Final = ("lat", REAL | {"minimum": -90, "maximum": 90}, "degrees north")
LON: Final = ("lon", REAL | {"minimum": -180, "maximum": 180}, "degrees east")
PHOTO_BODY: Final = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": _object({"photos": _list(TEXT | {"format": "binary"})}),
        },
        "image/*": {"schema": TEXT | {"format": "binary"}},
        "application/octet-stream": {"schema": TEXT | {"format": "binary"}},
    },
}
JSON, JPEG, NPY, PLAIN = "application/json", "image/jpeg", "application/octet-stream", "text/plain"

Option = tuple[str, Schema, str]
Row = tuple[str, str, str, str, tuple[Option, ...], bool, int, tuple[int, ...]]
ASKING: Final = (400, 404, 408, 413, 415, 422, 503)
OPERATIONS: Final[tuple[Row, ...]] = (
    ("get", "/v1/health", "Whether it answers", "Health", (), False, 200, ()),
    ("get", "/v1/service", "What the page needs to know", "Service", (), False, 200, ()),
    ("get", "/v1/openapi.json", "This document", "json", (), False, 200, ()),
    ("post", "/v1/session", "A cookie that stands for the token", "Session", (), False, 200, (401, 429)),
    (
        "post",
        "/v1/locate",
        "Where were photos taken?",
        "Answers",
        (
            MAP,
            ("k", WHOLE | {"minimum": 1, "maximum": 100, "default": 5}, "places that are told"),
            VERIFY,
            ("near", TEXT, "LAT,LON,METRES, or exif:METRES: only photos of the map from there"),
            ("after", TEXT, "only photos of the map from then on"),
            ("before", TEXT, "only photos of the map until then"),
            ("heading", TEXT, "DEG+-TOL: only photos of the map that look so"),
        ),
        True,
        200,
        ASKING,
    ),
    ("post", "/v1/describe", "Descriptors of photos", "Descriptors", (MAP,), True, 200, ASKING),
    (
        "post",
        "/v1/match",
        "Do two photos show one place?",
        "Pair",
        (VERIFY, MAP, ("photo", TEXT, "the id of a photo of the map, in place of a second photo")),
        True,
        200,
        ASKING,
    ),
    (
        "post",
        "/v1/exif",
        "A copy of a JPEG with a position in its EXIF",
        JPEG,
        (LAT, LON, ("uncertainty_m", REAL, "how far off that may be")),
        True,
        200,
        (400, 408, 413, 415, 422),
    ),
    ("get", "/v1/maps", "All maps", "Maps", (), False, 200, ()),
    ("get", "/v1/maps/{map}", "One map", "Map", (), False, 200, (404,)),
    (
        "get",
        "/v1/maps/{map}/photos",
        "A map's photos, page by page",
        "Photos",
        (
            ("limit", WHOLE | {"minimum": 1, "maximum": 500, "default": 100}, "photos of a page"),
            ("cursor", TEXT, "of the page before"),
            BOX,
        ),
        False,
        200,
        (400, 404),
    ),
    (
        "post",
        "/v1/maps/{map}/photos",
        "Add photos to a map (--writable)",
        "Job",
        (LAT, LON),
        True,
        202,
        (400, 403, 404, 408, 409, 413, 415, 422, 429, 503),
    ),
    (
        "get",
        "/v1/maps/{map}/points",
        "Where a map's photos were taken, in brief",
        "Points",
        (("limit", WHOLE | {"minimum": 1, "maximum": 20_000, "default": 5000}, "photos"), BOX),
        False,
        200,
        (400, 404),
    ),
    ("get", "/v1/maps/{map}/photos/{id}", "One photo of a map", "Photo", (), False, 200, (404,)),
    (
        "delete",
        "/v1/maps/{map}/photos/{id}",
        "Take a photo out of a map (--writable)",
        "Removed",
        (),
        False,
        200,
        (403, 404, 409),
    ),
    (
        "get",
        "/v1/maps/{map}/photos/{id}/image",
        "A small picture of a photo of a map",
        JPEG,
        (("size", WHOLE | {"default": 640}, f"longer side: {', '.join(map(str, SIZES))}"),),
        False,
        200,
        (400, 404),
    ),
    ("get", "/v1/jobs/{id}", "How a change of a map goes", "Job", (), False, 200, (404,)),
    ("get", "/metrics", "Counts and times for Prometheus", PLAIN, (), False, 200, ()),
)


def document(version: str, token: bool) -> dict[str, Any]:
    """The document.

    Args:
        version: of this program.
        token: whether clients must show one.
    """
    paths: dict[str, Any] = {}
    for row in OPERATIONS:
        paths.setdefault(row[1], {})[row[0]] = _operation(row)
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "dejavlad",
            "version": version,
            "description": "Where was this photo taken? Answers from maps of photos.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }
    if token:
        whole["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"token": []}]
    return whole


def _operation(row: Row) -> dict[str, Any]:
    method, path, summary, answer, options, has_body, status, errors = row
    name = "_".join([method, *(part.strip("{}") for part in path.split("/") if part not in ("", "v1"))])
    parameters = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": TEXT}
        for part in path.split("/")
        if part.startswith("{")
    ]
    parameters += [
        {"name": option, "in": "query", "description": words, "schema": schema}
        for option, schema, words in options
    ]
    responses = {str(status): {"description": summary, "content": _content(answer)}}
    for error in errors:
        responses[str(error)] = {"description": "refused", "content": _content("Error")}
    operation: dict[str, Any] = {
        "operationId": name.replace(".", "_"),
        "summary": summary,
        "parameters": parameters,
        "responses": responses,
    }
    return operation | ({"requestBody": PHOTO_BODY} if has_body else {})


def _content(answer: str) -> dict[str, Any]:
    if answer in SCHEMAS:
        example = {"example": EXAMPLES[answer]} if answer in EXAMPLES else {}
        content: dict[str, Any] = {JSON: {"schema": _of(answer), **example}}
        return content | ({NPY: {"schema": TEXT | {"format": "binary"}}} if answer == "Descriptors" else {})
    if answer == "json":
        return {JSON: {"schema": {"type": "object"}}}
    return {answer: {"schema": TEXT if answer == PLAIN else TEXT | {"format": "binary"}}}
