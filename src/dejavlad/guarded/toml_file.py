"""TOML under limits of size, depth and parts of a key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dejavlad.errors import MalformedFileError
from dejavlad.guarded.nesting import check_depth, too_deep
from dejavlad.guarded.plain_file import read_utf8

MOST_BYTES = 1 << 20
MOST_PARTS = 32
"""Parts of a dotted key; the parser takes time that grows with their square."""

_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MOST_PARTS}}}")


def parse_toml(text: str) -> dict[str, Any]:
    """The table that a TOML text is.

    Raises:
        MalformedFileError: it is no TOML, too long, nested too deep, or a key has too many parts.
    """
    import tomllib  # most commands read none

    if len(text) > MOST_BYTES:
        raise MalformedFileError(f"it has {len(text)} characters; at most {MOST_BYTES} are read")
    if _LONG_KEY.search(text):
        raise MalformedFileError(f"a key in it has more than {MOST_PARTS} parts")
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise too_deep() from None
    except (ValueError, MemoryError) as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise MalformedFileError(f"it is no TOML: {error}") from None
    check_depth(table)
    return table


def read_toml(path: str | Path) -> dict[str, Any]:
    """The table that a TOML file is.

    Raises:
        MalformedFileError: it is no regular file, or as of `parse_toml`.
    """
    return parse_toml(read_utf8(path, 4 * MOST_BYTES))
