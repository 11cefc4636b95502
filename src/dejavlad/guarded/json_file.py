"""JSON under limits of size and depth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dejavlad.errors import MalformedFileError
from dejavlad.guarded.nesting import check_depth, too_deep
from dejavlad.guarded.plain_file import LARGE, SMALL, decode_utf8, read_bytes

__all__ = ["LARGE", "SMALL", "parse_json", "parse_json_object", "read_json_object"]


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        MalformedFileError: it is no JSON, or nested too deep.
    """
    try:
        value = json.loads(decode_utf8(text) if isinstance(text, bytes) else text)
    except RecursionError:
        raise too_deep() from None
    except (ValueError, MemoryError) as error:
        raise MalformedFileError(f"it is no JSON: {error}") from None
    check_depth(value)
    return value


def parse_json_object(text: str | bytes) -> dict[str, Any]:
    """As `parse_json`, of a text that must be an object.

    Raises:
        MalformedFileError: it is not.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        raise MalformedFileError(f"it holds {_kind(value)}, where an object {{...}} is expected")
    return value


def read_json_object(path: str | Path, most: int = SMALL) -> dict[str, Any]:
    """The object that a file of JSON holds.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        MalformedFileError: it is no regular file, too large, no JSON, nested too deep, or no object.
        OSError: it cannot be read.
    """
    return parse_json_object(read_bytes(path, most))


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
