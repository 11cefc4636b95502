"""Where models meet photos: maps to locate photos in, and the evaluation of a model on a dataset."""

from dejavlad.places.answer import (
    Answer,
    Match,
)
from dejavlad.places.info import MapInfo
from dejavlad.places.place_map import PlaceMap

__all__ = ["Answer", "MapInfo", "Match", "PlaceMap"]
