"""Photos that could not be used, by the two kinds of reasons: they cannot be read, or they show nothing.

Everything that describes photos notes such photos as key -> reason, and leaves them out. Both are nobody's
answer; but only the first is a file to be mended, so that they are counted and listed apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from dejavlad.errors import SHOWS_NOTHING

NO_DESCRIPTOR: Final = f"{SHOWS_NOTHING}: its descriptor is all zeros"
"""Why a photo is left out that has contrast, but nothing in which the model sees anything."""

OnFailed = Callable[[Mapping[str, str]], None]
"""Told of the photos that could not be used, key -> reason; called once, and not where there are none."""


def ignored(_: Mapping[str, str]) -> None:
    """The default callback: says nothing."""


def blank(failed: Mapping[str, str]) -> dict[str, str]:
    """Of the photos that failed, by key, those that were readable but show nothing."""
    return {key: reason for key, reason in failed.items() if reason.startswith(SHOWS_NOTHING)}


def unread(failed: Mapping[str, str]) -> dict[str, str]:
    """Those that cannot be read, or not be described for another reason."""
    return {key: reason for key, reason in failed.items() if not reason.startswith(SHOWS_NOTHING)}


def failures_text(failed: Mapping[str, str], photo: str = "photo", photos: str = "photos") -> str:
    """How many of each, as ``2 photos could not be read, 1 shows nothing``; empty where there are none."""
    n_unread, n_blank = len(unread(failed)), len(blank(failed))
    parts = [f"{n_unread:,} {photo if n_unread == 1 else photos} could not be read"] if n_unread else []
    if n_blank:
        noun = "" if parts else f" {photo if n_blank == 1 else photos}"
        parts.append(f"{n_blank:,}{noun} {'shows' if n_blank == 1 else 'show'} nothing")
    return ", ".join(parts)


def failures_dict(failed: Mapping[str, str]) -> dict[str, Any]:
    """For JSON: how many of each, and the reasons by key."""
    return {"n_unread": len(unread(failed)), "n_blank": len(blank(failed)), "failed": dict(failed)}
