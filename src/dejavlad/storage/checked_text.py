"""JSON objects that end with their own checksum, so that a changed number in them is no other answer."""

from __future__ import annotations

from dejavlad.storage.state import checksum

FIELD = ',"checksum":'
"""What such a text ends with, before the number and a bracket."""


def with_checksum(text: str) -> str:
    """The text of a JSON object, with one field more at its end: the checksum of the text as it was."""
    return f"{text[:-1]}{FIELD}{checksum(text)}}}"


def check_text(text: str) -> bool:
    """Whether a text carries a checksum; texts of earlier versions do not.

    Raises:
        ValueError: it does, and is not the text that was written.
    """
    whole, field, number = text.rstrip("\n").rpartition(FIELD)
    if not field:
        return False
    if number != f"{checksum(whole + '}')}}}":
        raise ValueError("its checksum is wrong")
    return True
