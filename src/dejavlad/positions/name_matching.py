"""Which row of a file tells of which photo, by their names.

Whole names come first. Else a photo and a row belong together where one name ends with the other, folder by
folder (``1.jpg`` and ``left/1.jpg``; ``left/1.jpg`` and ``/data/left/1.jpg``), if that is so of no other
photo and no other row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dejavlad.names import names_below, same_form


@dataclass(frozen=True, slots=True)
class NameMatches:
    """The row of each photo."""

    rows: tuple[int | None, ...]
    """For each photo the row that tells of it; None where there is none, or several may be meant."""
    ambiguous: tuple[int, ...]
    """Photos for which several rows, or whose row for several photos, may be meant."""


def match_names(photos: Sequence[str], rows: Sequence[str], root: str | Path = ".") -> NameMatches:
    """The rows that tell of photos.

    Args:
        root: the folder that the photos' names are relative to, as whole paths of rows below it then are.
    """
    matches = names_below(rows, root).match(photos, what="photos")
    wanted, given = [same_form(name) for name in photos], [same_form(name) for name in rows]
    taken = {row for row in matches if row is not None}
    by_base: dict[str, list[int]] = {}
    for row, name in enumerate(given):
        if row not in taken:
            by_base.setdefault(name.rsplit("/", 1)[-1], []).append(row)
    candidates: dict[int, list[int]] = {}
    for i, name in enumerate(wanted):
        if matches[i] is None:
            near = [row for row in by_base.get(name.rsplit("/", 1)[-1], []) if _ends_alike(name, given[row])]
            if near:
                candidates[i] = near
    claims = Counter(row for near in candidates.values() for row in near)
    ambiguous = []
    for i, near in candidates.items():
        if len(near) == 1 and claims[near[0]] == 1:
            matches[i] = near[0]
        else:
            ambiguous.append(i)
    return NameMatches(tuple(matches), tuple(ambiguous))


def _ends_alike(a: str, b: str) -> bool:
    """Whether one path ends with the other, folder by folder."""
    return a == b or a.endswith("/" + b) or b.endswith("/" + a)
