"""Words and numbers of pages and figures, as plain text: the templates escape it.

Spaces between a number and its unit do not break.
"""

from __future__ import annotations

import json
import re
from typing import Any

LONGEST_NAME = 160
"""Characters of a name that a page shows; the middle of a longer one is left out."""
NBSP = "\u00a0"

UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""Characters that have no look of their own, turn the direction of text, or cannot be written as UTF-8."""


def visible(text: object) -> str:
    """The text with U+FFFD in the place of each character of `UNSEEN`."""
    return UNSEEN.sub("\ufffd", str(text))


def shorten(name: str, longest: int = LONGEST_NAME) -> str:
    """The name, its middle left out where it is longer than so many characters."""
    if len(name) <= longest:
        return name
    head = longest // 3
    return f"{name[:head]}…{name[len(name) - (longest - head - 1) :]}"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """``1 photo``, ``12,345 photos``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def percent(share: float) -> str:
    """A share of 1, as ``93.5 %``."""
    return f"{100 * share:.1f}{NBSP}%"


def sure(confidence: float) -> str:
    """A confidence of 0 to 1 as ``87 %``; never quite none, never quite all."""
    if confidence > 0.99:
        return f"over 99{NBSP}%"
    if confidence < 0.01:
        return f"under 1{NBSP}%"
    return f"{100 * confidence:.0f}{NBSP}%"


def metres(length: float) -> str:
    """``3.2 m``, ``48 m``, ``12.5 km``."""
    if length < 9.95:
        return f"{length:.1f}{NBSP}m"
    if length < 9_999.5:
        return f"{length:,.0f}{NBSP}m"
    return f"{length / 1000:,.1f}{NBSP}km"


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
    """Plain data on one line of at most 300 characters."""
    return shorten(
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str), 300
    )


def capitalized(key: str) -> str:
    """``recall_at`` as ``Recall at``."""
    words = key.replace("_", " ")
    return words[:1].upper() + words[1:]


def sentence(text: str) -> str:
    """The text with a capital letter at its beginning and a full stop at its end."""
    return f"{text[:1].upper()}{text[1:]}."
