"""Where models meet photos: maps to locate photos in, and the evaluation of a model on a dataset."""

from dejavlad.retrieval.answer import Answer, Match
from dejavlad.retrieval.info import MapInfo
from dejavlad.retrieval.place_map import PlaceMap

__all__ = ["Answer", "MapInfo", "Match", "PlaceMap"]
