"""How deep lists and tables are nested: what reads, copies or prints them later goes as deep."""

from __future__ import annotations

from typing import Any

from dejavlad.errors import MalformedFileError

DEEPEST = 64
"""Levels of lists and tables that a file may have."""


def check_depth(value: Any) -> None:
    """Raise MalformedFileError for a value nested deeper than `DEEPEST`; looked at without recursion."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        if not level:
            return
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    if level:
        raise too_deep()


def too_deep() -> MalformedFileError:
    """The error for such a value."""
    return MalformedFileError(f"its lists and tables are nested more than {DEEPEST} deep")
