"""Paths that were meant, where one that was given is not there."""

from __future__ import annotations

import difflib
import itertools
from pathlib import Path
from typing import Final

MOST_ENTRIES: Final = 5000
"""Of a larger folder so many entries are compared with a path that is not there."""


def near_paths(given: str | Path) -> list[str]:
    """Paths that there are and that are written nearly like one that is not, in quotes; the nearest first.

    Of a path whose upper folders are not there either, the first part that is missing is compared.
    """
    path = Path(given)
    above = next((folder for folder in path.parents if folder.is_dir()), None)
    if above is None or path.exists():
        return []
    wrong = path.relative_to(above).parts[0]
    try:
        names = sorted(entry.name for entry in itertools.islice(above.iterdir(), MOST_ENTRIES))
    except OSError:
        return []
    lower = {name.lower(): name for name in names if not name.startswith(".")}
    near = difflib.get_close_matches(wrong.lower(), lower, n=3, cutoff=0.6)
    return [repr((above / lower[name]).as_posix()) for name in near]


def did_you_mean(given: str | Path) -> str:
    """``; did you mean ...?`` for a path that is not there; empty where nothing is near."""
    near = near_paths(given)
    return f"; did you mean {' or '.join(near)}?" if near else ""
