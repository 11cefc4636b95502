"""Where models meet photos: maps to locate photos in, and what is known of an answer.

Names are loaded when first used: the forms of addresses and filters need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.places.answer import Answer as Answer
    from dejavlad.places.answer import Match as Match
    from dejavlad.places.info import MapInfo as MapInfo
    from dejavlad.places.place_map import PlaceMap as PlaceMap

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "answer": ("Answer", "Match"),
        "info": ("MapInfo",),
        "place_map": ("PlaceMap",),
    },
)
