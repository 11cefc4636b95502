"""Photo to descriptor, whole: what a model is made of and how it is kept."""

from __future__ import annotations

from dejavlad.model.checkpoint import load_folder, save_model
from dejavlad.model.patching import PatchSetting, cell_geometry
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.spec import AggregationSpec, BackboneSpec, ModelSpec
from dejavlad.model.whitening import Whitening

__all__ = [
    "AggregationSpec",
    "BackboneSpec",
    "ModelSpec",
    "PatchSetting",
    "PlaceModel",
    "Whitening",
    "cell_geometry",
    "load_folder",
    "save_model",
]
