"""Photo to descriptor, whole: what a model is, where it is kept, and which models there are by name."""

from dejavlad.model.checkpoint import load_folder, save_model
from dejavlad.model.patching import PatchSetting, cell_geometry
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.spec import AggregationSpec, BackboneSpec, ModelSpec
from dejavlad.model.whitening import Whitening
from dejavlad.model.zoo import BEST_MODEL, DEFAULT_MODEL, ModelEntry, default_model, list_models, load_model

__all__ = [
    "BEST_MODEL",
    "DEFAULT_MODEL",
    "AggregationSpec",
    "BackboneSpec",
    "ModelEntry",
    "ModelSpec",
    "PatchSetting",
    "PlaceModel",
    "Whitening",
    "cell_geometry",
    "default_model",
    "list_models",
    "load_folder",
    "load_model",
    "save_model",
]
