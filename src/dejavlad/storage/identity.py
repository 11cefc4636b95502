"""What a file of ours says of itself first: what it is, and of which version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dejavlad.errors import StoreError


def check_format(fields: Mapping[str, Any], kind: str, newest: int, path: Path | str) -> int:
    """Refuse another program's file, and one of a later version.

    Args:
        fields: with ``format`` and ``version``.
        newest: the latest version that is read.

    Returns:
        Its version.

    Raises:
        ValueError: it has another format (its reader says which file that is).
        KeyError: it says neither.
        StoreError: it is of a later version.
    """
    if fields["format"] != kind:
        raise ValueError(f"its format is {fields['format']!r}")
    version: int = fields["version"]
    if version > newest:
        raise StoreError(
            f"{str(path)!r} was written by a later dejavlad (format {version}, this one reads up to "
            f"{newest}); update dejavlad"
        )
    return version
