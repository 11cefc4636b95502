"""What of a model learns, as an option says it."""

from __future__ import annotations

import re

from dejavlad.errors import InputError

RANK = 8
"""Of adapters, unless given."""


def parse_trainable(text: str) -> tuple[str, int]:
    """``head``, ``all``, ``blocks:4``, ``adapters`` or ``adapters:16`` as a kind and its number; or nothing.

    Raises:
        InputError: it is none of these.
    """
    match = re.fullmatch(
        r"(head|all|)|(blocks):([1-9]\d{0,2})|(adapters)(?::([1-9]\d{0,3}))?", text, re.ASCII
    )
    if match is None:
        raise InputError(f"trainable is head, blocks:N, adapters, adapters:RANK or all; given {text!r}")
    if match[2]:
        return match[2], int(match[3])
    return (match[4], int(match[5] or RANK)) if match[4] else (match[1], 0)
