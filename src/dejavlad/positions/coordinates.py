"""Numbers, degrees and UTM zones as people and programs write them into tables.

Degrees come as ``55.6983``, ``55,6983``, ``-33.8``, ``33.8 S``, ``55 deg 41' 53.80" N`` (exiftool),
``55°41.897'``, ``N 55 41 53.8`` or ``55:41:53.8``; metres as ``615000.5``, ``615 000,5``, ``615,000.50`` or
``615'000.5``. A mark followed by three digits may be a decimal mark or one of thousands: the file's other
numbers decide, and where they do not, it is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dejavlad.geo import parse_zone

BLANK: Final = frozenset(("", "-", "--", "na", "n/a", "nan", "nil", "none", "null", "#n/a", "?"))
"""Cells, in lower case, that tell nothing."""

_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_SPACES = re.compile(r"(?<=\d)[ '](?=\d{3}(?!\d))")
_TYPOGRAPHY = str.maketrans(
    {
        **dict.fromkeys("′’‘´ʹ`", "'"),
        **dict.fromkeys("″”“", '"'),
        **dict.fromkeys("º˚", "°"),
        **dict.fromkeys("−–", "-"),
        **dict.fromkeys("\u00a0\u202f\u2009", " "),
    }
)
_SIDES: Final = {
    "lat": {"n": 1, "north": 1, "s": -1, "south": -1},
    "lon": {"e": 1, "east": 1, "w": -1, "west": -1},
}
_WORD = r"north|south|east|west|[nsew]"
_SIDE_BEFORE = re.compile(rf"({_WORD})(?![a-z])\s*", re.IGNORECASE)
_SIDE_AFTER = re.compile(rf"(?<![a-z])\s*({_WORD})", re.IGNORECASE)
_UNITS = re.compile(r"degrees?|deg|minutes?|min|seconds?|sec|[°'\":dms]", re.IGNORECASE)


def is_blank(text: str) -> bool:
    """Whether a cell tells nothing, as an empty one, ``NaN`` or ``-``."""
    return text.strip().lower() in BLANK


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """Which mark stands before decimals in a file."""

    decimal: str | None
    """``.`` or ``,``; None where the file's numbers do not tell."""

    @classmethod
    def of(cls, cells: Iterable[str]) -> NumberStyle:
        """What the numbers of a file tell, whatever is told most often."""
        counts = {".": 0, ",": 0}
        for cell in cells:
            mark = _decimal_mark(_unspaced(cell))
            if mark is not None:
                counts[mark] += 1
        if counts["."] == counts[","]:
            return cls(None)
        return cls(max(counts, key=lambda mark: counts[mark]))

    def read(self, text: str, *, thousands: bool = True) -> float:
        """The number that a cell holds.

        Args:
            thousands: whether a number may have marks of thousands; degrees have none.

        Raises:
            ValueError: it is no finite number, or ambiguous.
        """
        plain = _unspaced(text)
        if plain.lower().lstrip("+-") in ("inf", "infinity"):
            raise ValueError(f"{text!r} is not a finite number")
        marks = [mark for mark in ".," if mark in plain]
        decimal = _decimal_mark(plain)
        if decimal is None and len(marks) == 1 and plain.count(marks[0]) == 1:  # one mark, three digits
            decimal = self._of_three(marks[0], text, thousands)
        for mark in marks:
            if mark != decimal:
                whole = plain.split(decimal)[0] if decimal else plain
                if not thousands or not re.fullmatch(rf"[+-]?\d{{1,3}}(\{mark}\d{{3}})+", whole, re.ASCII):
                    raise ValueError(f"{text!r} is not a number")
                plain = plain.replace(mark, "")
        plain = plain.replace(",", ".")
        if not _PLAIN.fullmatch(plain):
            raise ValueError(f"{text!r} is not a number")
        value = float(plain)
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is not a finite number")
        return value

    def _of_three(self, mark: str, text: str, thousands: bool) -> str | None:
        """Whether the one mark of ``615.000`` is that of decimals (returned) or of thousands (None)."""
        if self.decimal == mark or not thousands:
            return mark
        if self.decimal is not None:
            return None
        if mark == ".":  # as programs write numbers
            return mark
        raise ValueError(
            f"{text!r} may be {text.replace(',', '')} or {text.replace(',', '.')}; write it without the comma"
        )


UNKNOWN_STYLE: Final = NumberStyle(None)
"""Of a file whose numbers do not tell."""


def _unspaced(text: str) -> str:
    """A number without the spaces and apostrophes that separate thousands."""
    return _SPACES.sub("", text.strip().translate(_TYPOGRAPHY))


def _decimal_mark(plain: str) -> str | None:
    """The mark that must be that of decimals, by this number alone."""
    dots, commas = plain.count("."), plain.count(",")
    if dots and commas:
        return max(".,", key=plain.rfind)
    if dots + commas == 1:
        mark = "." if dots else ","
        before, _, after = plain.partition(mark)
        digits = before.lstrip("+-")
        grouped = re.fullmatch(r"\d{3}", after, re.ASCII) and 1 <= len(digits) <= 3 and digits != "0"
        return None if grouped else mark
    return None


def parse_degrees(text: str, axis: str, style: NumberStyle = UNKNOWN_STYLE, side: str = "") -> float:
    """Signed degrees of a cell.

    Args:
        axis: ``lat`` or ``lon``.
        style: how the file writes numbers.
        side: what another column says of the side, as ``S`` or ``South``; empty where there is none.

    Raises:
        ValueError: it is none, minutes or seconds are 60 or more, or its side is of the other axis.
    """
    plain = text.strip().translate(_TYPOGRAPHY).replace("''", '"')
    body, sign = _without_side(plain, axis, text)
    if sign is None and side.strip() and not is_blank(side):
        sign = _SIDES[axis].get(side.strip().lower())
        if sign is None:
            raise ValueError(f"{side!r} is no side of a {axis}; valid are {', '.join(_SIDES[axis])}")
        if body.startswith("-"):  # signed already, as exiftool -n writes it beside its reference
            sign = None
    elif sign is not None and body.startswith(("-", "+")):
        raise ValueError(f"{text!r} has both a sign and a side; keep one")
    negative = body.startswith("-")
    parts = _UNITS.sub(" ", body.lstrip("+-")).split()
    try:
        numbers = [style.read(part, thousands=False) for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or any(number < 0 for number in numbers):
        reason = (
            "is not a finite number" if body.lower().lstrip("+-").startswith("inf") else "is not a number"
        )
        raise ValueError(f"{text!r} {reason}, nor degrees as 55.6983 or 55°41'53.8\"N")
    if any(number >= 60 for number in numbers[1:]) or any(number % 1 for number in numbers[:-1]):
        raise ValueError(f"{text!r} is not degrees, minutes and seconds: these are whole, and below 60")
    degrees = math.fsum(number / 60**i for i, number in enumerate(numbers))
    return -degrees if negative or sign == -1 else degrees


def _without_side(plain: str, axis: str, text: str) -> tuple[str, int | None]:
    """Degrees without the letter of their side, and its sign."""
    match = _SIDE_BEFORE.match(plain)
    if match:
        body, word = plain[match.end() :], match[1]
    else:
        match = re.search(_SIDE_AFTER.pattern + r"$", plain, re.IGNORECASE)
        # 55d41m53s: the s is that of seconds
        if not match or (match[1] == "s" and re.search(r"\dm[\d., ]+s$", plain)):
            return plain, None
        body, word = plain[: match.start()], match[1]
    sign = _SIDES[axis].get(word.lower())
    if sign is None:
        hint = "are lat and lon swapped?"
        raise ValueError(f"{text!r} is no {'latitude' if axis == 'lat' else 'longitude'}; {hint}")
    return body.strip(), sign


BAND_S: Final = (3_530_000.0, 4_440_000.0)
"""Northings of the latitude band S, 32 to 40 degrees north."""
BAND_N_END: Final = 890_000.0
"""Northing at the end of the latitude band N, 8 degrees north."""
SOUTHERN_LAND: Final = frozenset((18, 19, 20, 21, 23, 24, 25, 32, 42, 43, 57, 58, 59, 60))
"""Zones with land between 50 and 58 degrees south, whose northings are those of the band S."""
_ZONE = re.compile(r"(?:utm|zone)?\s*(\d{1,2})\s*-?\s*([a-z]|north|south|northern|southern)?", re.IGNORECASE)
_EPSG = re.compile(r"(?:epsg:?\s*)?32([67])(\d\d)", re.IGNORECASE)


def names_bands(zones: Iterable[tuple[str, float]]) -> bool | None:
    """Whether the letters of a file's zones are latitude bands rather than hemispheres; None if not told.

    Args:
        zones: each row's zone as written, and its northing.
    """
    seen = set()
    for text, north in zones:
        match = _ZONE.fullmatch(text.strip())
        letter = (match[2] or "").upper() if match else ""
        if (letter in ("S", "SOUTH", "SOUTHERN") and not BAND_S[0] <= north <= BAND_S[1]) or (
            letter == "N" and north > BAND_N_END
        ):
            seen.add(False)
        elif len(letter) == 1 and letter not in "NS":
            seen.add(True)
    return None if len(seen) != 1 else seen.pop()


def read_zone(text: str, north: float, bands: bool | None) -> str:
    """A UTM zone with its hemisphere, as ``33N``, of what a cell says.

    The letter S is the southern hemisphere, or the band from 32 to 40 degrees north. Outside of that band's
    northings it is the hemisphere; within them the file's other zones decide, then whether there is land in
    the south.

    Args:
        text: ``33N``, ``33U`` (a band), ``33 south``, ``EPSG:32633``.
        north: the row's northing in metres.
        bands: what `names_bands` tells of the file.

    Raises:
        ValueError: it is no zone, lacks its hemisphere, or may be either.
    """
    text = text.strip()
    if epsg := _EPSG.fullmatch(text):
        number, northern = parse_zone(f"{epsg[2]}{'N' if epsg[1] == '6' else 'S'}")
        return f"{number}{'N' if northern else 'S'}"
    match = _ZONE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no UTM zone; valid: 1 to 60 with N or S, e.g. 33N")
    if match[2] is None:
        raise ValueError(f"zone {text!r} lacks its hemisphere; write {match[1]}N or {match[1]}S")
    letter = match[2].upper()
    number, _ = parse_zone(f"{match[1]}N")
    if len(letter) > 1:
        return f"{number}{letter[0]}"
    if letter in "ABIOYZ":
        raise ValueError(f"{text!r} is no UTM zone; valid: 1 to 60 with N or S, e.g. 33N")
    if letter != "S" or not BAND_S[0] <= north <= BAND_S[1]:
        northern = letter >= "N" and letter != "S"
    elif bands is not None:
        northern = bands
    elif number in SOUTHERN_LAND:
        raise ValueError(
            f"zone {text!r} may be the band S (32 to 40 degrees north) or the southern hemisphere: write "
            f"{number}N for north, {number}south for south"
        )
    else:
        northern = True
    return f"{number}{'N' if northern else 'S'}"
