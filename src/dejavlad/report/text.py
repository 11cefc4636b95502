"""Words and numbers on a page: whatever comes from outside is escaped here."""

from __future__ import annotations

import html
import json
import re
from typing import Any

LONGEST_NAME = 160
"""Characters of a name that a page shows; the middle of a longer one is left out."""

UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""Characters that have no look of their own, turn the direction of text, or cannot be written as UTF-8."""


def escape(text: object) -> str:
    """Text for HTML, inside of an element or of a quoted attribute; unseen characters become U+FFFD."""
    return html.escape(UNSEEN.sub("\ufffd", str(text)), quote=True)


def shorten(name: str, longest: int = LONGEST_NAME) -> str:
    """The name, its middle left out where it is longer than so many characters."""
    if len(name) <= longest:
        return name
    head = longest // 3
    return f"{name[:head]}…{name[len(name) - (longest - head - 1) :]}"


def label(name: str, longest: int = LONGEST_NAME) -> str:
    """A photo's name, shortened and escaped."""
    return escape(shorten(name, longest))


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 photo``, ``12,345 photos``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def percent(share: float) -> str:
    """A share of 1, as ``93.5 %``; escaped for HTML, the space does not break."""
    return f"{100 * share:.1f}&nbsp;%"


def sure(confidence: float) -> str:
    """A confidence as ``87 %``; never quite none, never quite all."""
    if confidence > 0.99:
        return "over 99&nbsp;%"
    if confidence < 0.01:
        return "under 1&nbsp;%"
    return f"{100 * confidence:.0f}&nbsp;%"


def metres(length: float) -> str:
    """``3.2 m``, ``48 m``, ``12.5 km``; the space does not break in HTML."""
    if length < 9.95:
        return f"{length:.1f}&nbsp;m"
    if length < 9_999.5:
        return f"{length:,.0f}&nbsp;m"
    return f"{length / 1000:,.1f}&nbsp;km"


def duration(seconds: float) -> str:
    """``0.42 s``, ``38 s``, ``12 min 5 s``, ``2 h 3 min``."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plain(value: Any) -> str:
    """Plain data on one line, escaped, a long one cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return label(text, 300)
