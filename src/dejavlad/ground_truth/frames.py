"""Frame numbers of two lists of photos: what ``frames:N`` compares.

The number of a photo is that of its video frame, or the digits at the end of its name (``0042.jpg``,
``Image042.jpg``). A list without a gap tells the same by its rows; one that lost a photo, or begins later,
does not.

Legend: N database photos, Q queries.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.names import same_form
from dejavlad.photo import Photo, PhotoList

Numbers = NDArray[np.int64]

FORM: Final = re.compile(r"(\d+)(@rows)?([+-]\d+)?", re.ASCII)
"""The forms ``N``, ``N@rows`` and ``N+SHIFT``: tolerance, rows instead of names, shift of the numbers."""
MOST_NUMBER: Final = 10**9
"""From here on the digits of a name are a time stamp, and no count of frames."""
_LAST_DIGITS = re.compile(r"(.*?)([0-9]+)", re.DOTALL)
_DATE = re.compile(r"(?:19|20)[0-9]{6}[_-]?\Z", re.ASCII)
"""What stands before the digits of a time of day, as in ``IMG_20240501_123000.jpg``."""


@dataclass(frozen=True, slots=True)
class FrameRule:
    """Which frames are right: ``2``, ``2@rows`` or ``2+105``."""

    tolerance: int
    """A map photo's number may differ by so many."""
    rows: bool = False
    """Photos are counted by their rows in the lists, whatever their names say."""
    shift: int = 0
    """What the number of a query is more than that of the map photo of its place."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """``2``, ``2@rows``, ``2+105``, ``2@rows-5``.

        Raises:
            InputError: another text.
        """
        parsed = FORM.fullmatch(text.strip())
        if not parsed:
            given = text.strip() or "nothing"
            raise InputError(f"frames are right within 0 or more; given {given} (valid: 2, 2@rows, 2+105)")
        return cls(int(parsed[1]), parsed[2] is not None, int(parsed[3] or 0))

    def __str__(self) -> str:
        shift = f"{self.shift:+d}" if self.shift else ""
        return f"frames:{self.tolerance}{'@rows' if self.rows else ''}{shift}"


@dataclass(frozen=True, slots=True)
class Frames:
    """The frame numbers of two lists, of one count."""

    database: Numbers
    """int64 [N]; those of different sequences lie far apart."""
    queries: Numbers
    """int64 [Q], less the rule's shift."""
    by_name: bool
    """Whether they are those in the names (or of a video), and not the rows."""


def frames_of(database: PhotoList, queries: PhotoList, rule: FrameRule) -> Frames:
    """The frame numbers that a rule compares.

    Where the names of both lists carry numbers, in one scheme, those are the frames. Where those of neither
    do, lists of equal length are compared row by row.

    Raises:
        InputError: names tell no numbers and the lists are of different lengths, the names of one list alone
            tell numbers, or no query has a map photo within the tolerance. What to type is told.
    """
    both = bool(len(database) and len(queries))
    sides = _numbered(database, queries, rule) if both and not rule.rows else None
    if sides is None:
        if both and not rule.rows:
            _refuse_unlike(database, queries, rule)
        rows = np.arange(len(database)), np.arange(len(queries)) - rule.shift
        return Frames(rows[0].astype(np.int64), rows[1].astype(np.int64), False)
    frames = Frames(sides[0], sides[1] - rule.shift, True)
    if not _any_near(frames, rule.tolerance):
        raise InputError(_far_apart(database, queries, rule, sides))
    return frames


def numbers_agree(database: PhotoList, queries: PhotoList) -> bool | None:
    """Whether row i of both lists has the same frame number; None where names tell none."""
    sides = _numbered(database, queries, FrameRule(0)) if len(database) and len(queries) else None
    return None if sides is None else np.array_equal(*sides)


def number_gaps(photos: PhotoList) -> list[int]:
    """Numbers that are missing between the first and the last one in the names of one sequence."""
    parts = _parts(photos)
    if parts is None or len({scheme for scheme, _ in parts}) != 1:
        return []
    numbers = sorted(number for _, number in parts)
    if numbers[-1] - numbers[0] > 2 * len(numbers):  # every tenth frame, or a number that counts no frames
        return []
    return sorted(set(range(numbers[0], numbers[-1])) - set(numbers))


def sequence_numbers(photos: PhotoList) -> Numbers | None:
    """The frame numbers in the names of a sequence from which some photos are missing.

    Returns:
        int64 [N], ascending; None where rows tell the same: no number is missing, the names are of no one
        sequence or not in order, or their numbers count no frames (every tenth, times).
    """
    parts = _parts(photos)
    if parts is None or not number_gaps(photos):
        return None
    numbers = np.array([number for _, number in parts], np.int64)
    return numbers if (np.diff(numbers) > 0).all() else None


def before_window(numbers: Numbers, window: int) -> Numbers:
    """int64 [N]: how many frames, from the first, lie more than `window` before each.

    Args:
        numbers: int64 [N] of the frames, ascending; their rows where all are there.
    """
    return np.searchsorted(numbers, numbers - window, "left").astype(np.int64)


def _numbered(database: PhotoList, queries: PhotoList, rule: FrameRule) -> tuple[Numbers, Numbers] | None:
    """The numbers of both lists; None where they are of no common scheme."""
    database_parts, query_parts = _parts(database), _parts(queries)
    if database_parts is None or query_parts is None:
        return None
    schemes, others = (
        list(dict.fromkeys(scheme for scheme, _ in parts)) for parts in (database_parts, query_parts)
    )
    if len(schemes) == len(others) == 1:
        which = {schemes[0]: 0, others[0]: 0}  # Summer012.jpg and Winter012.jpg
    elif set(others) <= set(schemes) or set(schemes) <= set(others):
        which = {scheme: i for i, scheme in enumerate(dict.fromkeys([*schemes, *others]))}
    else:
        return None
    widest = (
        max(number for _, number in [*database_parts, *query_parts])
        + 2 * rule.tolerance
        + abs(rule.shift)
        + 2
    )
    if widest * len(which) > 2**62:
        raise InputError(f"{rule}: numbers to {widest:,} are more than can be counted")
    sides = [
        np.array([which[s] * widest + n for s, n in parts], np.int64)
        for parts in (database_parts, query_parts)
    ]
    return sides[0], sides[1]


def _parts(photos: PhotoList) -> list[tuple[str, int]] | None:
    """Each photo's sequence and its number in it; None where a name tells none, or two the same."""
    parsed = [_part(photo) for photo in photos]
    parts = [part for part in parsed if part is not None]
    if not parts or len(parts) < len(parsed) or len(set(parts)) < len(parts):
        return None
    return parts


def _part(photo: Photo) -> tuple[str, int] | None:
    if photo.crop is not None:
        return None
    if photo.frame is not None:
        return f"{same_form(photo.name)}#", photo.frame
    folder, _, base = same_form(photo.name).rpartition("/")
    stem = base.rpartition(".")[0] or base
    parsed = _LAST_DIGITS.fullmatch(stem)
    if not parsed or len(parsed[2]) > 18 or int(parsed[2]) >= MOST_NUMBER or _DATE.search(parsed[1]):
        return None
    return f"{folder}/{parsed[1]}", int(parsed[2])


def _any_near(frames: Frames, tolerance: int) -> bool:
    numbers = np.sort(frames.database)
    low = np.searchsorted(numbers, frames.queries - tolerance, "left")
    high = np.searchsorted(numbers, frames.queries + tolerance, "right")
    return bool((high > low).any())


def _refuse_unlike(database: PhotoList, queries: PhotoList, rule: FrameRule) -> None:
    numbered = [_parts(photos) is not None for photos in (database, queries)]
    if len(database) == len(queries) and numbered[0] == numbered[1]:
        return
    lengths = f"{len(database)} map photos and {len(queries)} queries"
    if numbered[0] != numbered[1]:
        why = f"the names of only one list end in frame numbers ({_examples(database, queries)})"
    elif numbered[0]:
        why = f"the names' numbers are of different sequences ({_examples(database, queries)}; {lengths})"
    else:
        why = f"the lists differ in length ({lengths}) and their names end in no frame numbers"
    raise InputError(
        f"{rule}: {why}, so which frames are the same is not known; name photos by frame number "
        f"(0042.jpg), say frames:{rule.tolerance}@rows if row i of both lists shows the same place, or give "
        "a truth by positions or a truth file"
    )


def _far_apart(database: PhotoList, queries: PhotoList, rule: FrameRule, sides: Sequence[Numbers]) -> str:
    first, last = ([int(side[at]) for side in map(np.sort, sides)] for at in (0, -1))
    shift = first[1] - first[0]
    by_rows = f" to compare row by row frames:{rule.tolerance}@rows,"
    by_rows = by_rows if len(database) == len(queries) else ""
    return (
        f"{rule}: by the numbers in their names no query has a map photo within {rule.tolerance} frames (map "
        f"{first[0]} to {last[0]}, queries {first[1]} to {last[1]}; {_examples(database, queries)}). If the "
        f"first query shows the place of the first map photo, say frames:{rule.tolerance}{shift:+d};{by_rows}"
        " or give a truth by positions or a truth file"
    )


def _examples(database: PhotoList, queries: PhotoList) -> str:
    return ", ".join(repr(photos[0].key) if len(photos) else "no photo" for photos in (database, queries))
