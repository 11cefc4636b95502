"""Photo to descriptor, whole: what a model is made of and how it is kept.

Names are loaded when first used: what a model is made of is data, which needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.model.checkpoint import load_folder as load_folder
    from dejavlad.model.checkpoint import save_model as save_model
    from dejavlad.model.patching import PatchSetting as PatchSetting
    from dejavlad.model.patching import cell_geometry as cell_geometry
    from dejavlad.model.place_model import PlaceModel as PlaceModel
    from dejavlad.model.spec import AggregationSpec as AggregationSpec
    from dejavlad.model.spec import BackboneSpec as BackboneSpec
    from dejavlad.model.spec import ModelSpec as ModelSpec
    from dejavlad.model.whitening import Whitening as Whitening

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "checkpoint": ("load_folder", "save_model"),
        "patching": ("PatchSetting", "cell_geometry"),
        "place_model": ("PlaceModel",),
        "spec": ("AggregationSpec", "BackboneSpec", "ModelSpec"),
        "whitening": ("Whitening",),
    },
)
