"""Where models meet photos: maps to locate photos in, and what is known of an answer.

Names are loaded when first used: the forms of addresses and filters need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dejavlad.places.answer import Answer, Match
    from dejavlad.places.info import MapInfo
    from dejavlad.places.place_map import PlaceMap

_MODULES: Final = {"Answer": "answer", "MapInfo": "info", "Match": "answer", "PlaceMap": "place_map"}

__all__ = ["Answer", "MapInfo", "Match", "PlaceMap"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'dejavlad.places' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dejavlad.places.{_MODULES[name]}"), name)
