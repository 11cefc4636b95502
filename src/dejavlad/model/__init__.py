"""Photo to descriptor, whole: what a model is, where it is kept, and which models there are by name."""

from dejavlad.model.checkpoint import load_folder, save_model
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.spec import AggregationSpec, BackboneSpec, ModelSpec
from dejavlad.model.whitening import Whitening

__all__ = [
    "AggregationSpec",
    "BackboneSpec",
    "ModelSpec",
    "PlaceModel",
    "Whitening",
    "load_folder",
    "save_model",
]
