"""Photo to descriptor, whole: what a model is made of and how it is kept.

Names are loaded when first used: what a model is made of is data, which needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.model.checkpoint import load_folder, save_model
    from dejavlad.model.patching import PatchSetting, cell_geometry
    from dejavlad.model.place_model import PlaceModel
    from dejavlad.model.spec import AggregationSpec, BackboneSpec, ModelSpec
    from dejavlad.model.whitening import Whitening

_HOME: Final = {
    "AggregationSpec": "dejavlad.model.spec",
    "BackboneSpec": "dejavlad.model.spec",
    "ModelSpec": "dejavlad.model.spec",
    "PatchSetting": "dejavlad.model.patching",
    "PlaceModel": "dejavlad.model.place_model",
    "Whitening": "dejavlad.model.whitening",
    "cell_geometry": "dejavlad.model.patching",
    "load_folder": "dejavlad.model.checkpoint",
    "save_model": "dejavlad.model.checkpoint",
}

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


__getattr__ = lazy_names(__name__, _HOME)
