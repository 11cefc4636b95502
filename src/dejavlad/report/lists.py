"""Lists of cards that a page shows in part, and that its reader filters by state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dejavlad.photo import Photo
from dejavlad.report.text import count


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the best answers of a photo, as it is shown."""

    photo: Photo
    """The answer."""
    tag: str
    """What stands on the photo: its rank."""
    facts: Sequence[str] = ()
    """Lines below its name."""
    kind: str = ""
    """``good`` (right), ``missed`` (right, but not among the answers) or nothing."""
    alt: str = ""
    """What it is, for those who do not see it."""


def filter_choices(states: Sequence[str], names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Buttons above a list: state and label of each, the first for all; none for a few cards.

    Args:
        states: of the cards.
        names: state -> label, in the order of the buttons.
    """
    if len(states) <= 3:
        return []
    buttons = [(state, f"{name} {states.count(state):,}") for state, name in names.items() if state in states]
    return [("", f"All {len(states):,}"), *(buttons if len(buttons) > 1 else [])]


def shown_part(shown: int, total: int, singular: str) -> str:
    """A sentence that says how many are shown; empty where all are."""
    if shown == total:
        return ""
    return f"To keep this file small it shows {shown:,} of {count(total, singular)}."
