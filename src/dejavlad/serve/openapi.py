"""The interface as an OpenAPI 3.1 document: the table of operations, and the client's types as schemas."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Final, Literal, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from dejavlad import client
from dejavlad.serve.operations import COMMON, JSON, NPY, OPERATIONS, OTHERS, PLAIN, Operation, Option

Schema = dict[str, Any]
KINDS: Final = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
TYPES: Final = {
    "Position": client.Position,
    "Match": client.Match,
    "Answer": client.Answer,
    "Description": client.Description,
    "Pair": client.Pair,
    "Map": client.MapFields,
    "Photo": client.MapPhoto,
    "Job": client.Job,
}
"""Schema -> the type whose documents it describes."""


def schema_of(kind: Any) -> Schema:
    """What documents of a type look like."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in KINDS:
        return {"type": KINDS[kind]}
    for name, each in TYPES.items():
        if kind is each:
            return {"$ref": f"#/components/schemas/{name}"}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict:
        return {"type": "object"} | (
            {} if arguments[1] is Any else {"additionalProperties": schema_of(arguments[1])}
        )
    if origin is UnionType:
        return {"anyOf": [schema_of(each) for each in arguments]}
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    raise TypeError(kind)


def _fields_of(kind: Any) -> Schema:
    """The schema of a typed dictionary."""
    assert is_typeddict(kind)
    hints = get_type_hints(kind, include_extras=True)
    optional = {name: get_args(hint)[0] for name, hint in hints.items() if get_origin(hint) is NotRequired}
    fields = {name: schema_of(optional.get(name, hint)) for name, hint in hints.items()}
    return {"type": "object", "properties": fields, "required": [n for n in fields if n not in optional]}


def _object(**fields: Any) -> Schema:
    """The schema of an object of which every field is there."""
    properties = {name: each if isinstance(each, dict) else schema_of(each) for name, each in fields.items()}
    return {"type": "object", "properties": properties, "required": list(fields)}


SCHEMAS: Final[dict[str, Schema]] = {name: _fields_of(kind) for name, kind in TYPES.items()} | {
    "Error": _object(error=_object(status=int, reason=str)),
    "Answers": _object(map=str, answers=list[client.Answer]),
    "Descriptors": _object(
        map=str, model=str, fingerprint=str, dims=int, descriptors=list[client.Description]
    ),
    "Maps": _object(maps=list[client.MapFields]),
    "Photos": _object(photos=list[client.MapPhoto], total=int, cursor=str | None),
    "Points": _object(ids=list[str], x=list[float], y=list[float], degrees=bool, total=int),
    "Removed": _object(removed=int, name=str, photos=int),
    "Health": _object(status=str, version=str),
    "Service": {"type": "object", "description": "what the page needs: limits, maps, tiles, pages"},
    "Session": _object(seconds=float),
}
POSITION: Final = {"east": 686334.2, "north": 5330778.8, "zone": "32N", "lat": 48.103, "lon": 11.503}
SHOWN: Final[dict[str, Any]] = {
    "id": "MDMuanBn", "name": "03.jpg", "position": POSITION, "image": "/v1/maps/town/photos/MDMuanBn/image"
}  # fmt: skip
ANSWER: Final = {
    "name": "where.jpg", "map": "town", "known": True, "confidence": 0.998,
    "reason": "686 points agree with 03.jpg; the next place has 72", "position": POSITION,
    "uncertainty_m": 25.0, "failed": None, "blank": False,
    "matches": [SHOWN | {"score": 0.659, "distance": 0.826, "inliers": 686}],
}  # fmt: skip
PHOTO: Final[dict[str, Any]] = SHOWN | {"heading": 90.0, "time": 1700000000.0, "group": None, "tags": []}
JOB: Final = {
    "id": "3aF9Mf3_TVr2FkUz", "map": "town", "state": "running", "what": "describing photos",
    "done": 3, "steps": 10, "total": 10, "added": [], "failed": {}, "error": None,
}  # fmt: skip
EXAMPLES: Final[dict[str, Any]] = {
    "Error": {"error": {"status": 404, "reason": "there is no map 'village'; there is town"}},
    "Answers": {"map": "town", "answers": [ANSWER]},
    "Photo": PHOTO,
    "Photos": {"photos": [PHOTO], "total": 12, "cursor": "Mg"},
    "Points": {"ids": ["MDMuanBn"], "x": [11.503], "y": [48.103], "degrees": True, "total": 12},
    "Job": JOB,
    "Removed": {"removed": 1, "name": "03.jpg", "photos": 11},
    "Health": {"status": "ok", "version": "0.1.0"},
}
BINARY: Final = {"type": "string", "format": "binary"}


def document(version: str, token: bool) -> dict[str, Any]:
    """The document.

    Args:
        version: of this program.
        token: whether clients must show one.
    """
    refusals = {
        f"E{status}": {"description": words, "content": _content("Error")}
        for status, words in {**COMMON, **OTHERS}.items()
    }
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "dejavlad",
            "version": version,
            "description": "Where was this photo taken? Answers from maps of photos.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {"schemas": SCHEMAS, "responses": refusals},
    }
    if token:
        whole["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"token": []}]
    return whole


def _operation(operation: Operation) -> dict[str, Any]:
    words = [part.strip("{}") for part in operation.path.split("/") if part not in ("", "v1")]
    responses = {
        str(operation.status): {"description": operation.summary, "content": _content(operation.answer)}
    }
    if operation.handler == "image":
        responses["304"] = {"description": "it is still the one of If-None-Match"}
    for status in sorted({*COMMON, *operation.refusals}):
        responses[str(status)] = {"$ref": f"#/components/responses/E{status}"}
    described: dict[str, Any] = {
        "operationId": "_".join([operation.method.lower(), *words]).replace(".", "_"),
        "summary": operation.summary,
        "parameters": [
            {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
            for part in operation.path.split("/")
            if part.startswith("{")
        ]
        + [
            {
                "name": option.name,
                "in": "query",
                "description": option.words + ("; here or in the form, once" if operation.photos else ""),
                "required": option.required and not operation.photos,
                "schema": _option(option),
            }
            for option in operation.options
        ],
        "responses": responses,
    }
    return described | ({"requestBody": _body(operation)} if operation.photos else {})


def _option(option: Option) -> Schema:
    numeric = option.kind in ("integer", "number")
    values = {
        "type": option.kind if numeric else "string",
        "minimum": option.least if numeric else None,
        "maximum": option.most if numeric else None,
        "default": option.default,
        "enum": list(option.choices) or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _body(operation: Operation) -> dict[str, Any]:
    """Photos as they are, or in a form, whose text fields are options that do not stand in the address."""
    fields = {
        option.name: {key: value for key, value in _option(option).items() if key != "default"}
        for option in operation.options  # a default in both places would be given twice
    }
    form = {"photos": {"type": "array", "items": BINARY}} | fields
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "properties": form, "required": ["photos"]}},
            "image/*": {"schema": BINARY},
            NPY: {"schema": BINARY},
        },
    }


def _content(answer: str) -> dict[str, Any]:
    if answer in SCHEMAS:
        example = {"example": EXAMPLES[answer]} if answer in EXAMPLES else {}
        content: dict[str, Any] = {JSON: {"schema": {"$ref": f"#/components/schemas/{answer}"}, **example}}
        return content | ({NPY: {"schema": BINARY}} if answer == "Descriptors" else {})
    return {answer: {"schema": {JSON: {"type": "object"}, PLAIN: {"type": "string"}}.get(answer, BINARY)}}
