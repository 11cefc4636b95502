"""Where models meet photos: maps to locate photos in, and what is known of an answer.

Names are loaded when first used: the forms of addresses and filters need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.places.answer import Answer, Match
    from dejavlad.places.info import MapInfo
    from dejavlad.places.place_map import PlaceMap

_HOME: Final = {
    "Answer": "dejavlad.places.answer",
    "MapInfo": "dejavlad.places.info",
    "Match": "dejavlad.places.answer",
    "PlaceMap": "dejavlad.places.place_map",
}

__all__ = ["Answer", "MapInfo", "Match", "PlaceMap"]


__getattr__ = lazy_names(__name__, _HOME)
