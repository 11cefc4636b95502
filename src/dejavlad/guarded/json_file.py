"""JSON under limits of size and depth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dejavlad.errors import MalformedFileError
from dejavlad.guarded.nesting import check_depth, too_deep
from dejavlad.guarded.plain_file import LARGE, SMALL, decode_utf8, read_bytes

__all__ = [
    "LARGE",
    "SMALL",
    "parse_json",
    "parse_json_object",
    "read_json_object",
    "with_checksum",
    "without_checksum",
]

CHECKSUM = "checksum"
"""The key under which an object's own checksum stands."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; MalformedFileError where it is none, or nested too deep."""
    try:
        value = json.loads(decode_utf8(text) if isinstance(text, bytes) else text)
    except RecursionError:
        raise too_deep() from None
    except (ValueError, MemoryError) as error:
        raise MalformedFileError(f"it is no JSON: {error}") from None
    check_depth(value)
    return value


def parse_json_object(text: str | bytes) -> dict[str, Any]:
    """As `parse_json`, of a text that must be an object; else MalformedFileError."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise MalformedFileError(f"it holds {_kind(value)}, where an object {{...}} is expected")
    return value


def read_json_object(path: str | Path, most: int = SMALL) -> dict[str, Any]:
    """The object that a file of JSON holds.

    Args:
        most: bytes that it may have.

    Raises:
        MalformedFileError: it is no regular file, too large, no JSON, nested too deep, or no object.
    """
    return parse_json_object(read_bytes(path, most))


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object with a checksum of all its values as its last one; see `without_checksum`."""
    plain = json.loads(json.dumps(value))  # keys that are numbers become texts, as when read again
    return {**value, CHECKSUM: _checksum(plain)}


def without_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object that `with_checksum` was given; one without a checksum is taken as it is.

    Raises:
        MalformedFileError: it was changed since.
    """
    bare = {key: inner for key, inner in value.items() if key != CHECKSUM}
    if CHECKSUM in value and value[CHECKSUM] != _checksum(bare):
        raise MalformedFileError(
            f"it was changed since it was written: its {CHECKSUM} differs (take that out to use it as it is)"
        )
    return bare


def _checksum(value: Mapping[str, Any]) -> str:
    """The first 64 bits of a SHA-256, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
