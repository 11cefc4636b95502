"""Backbones: prepared photos to feature maps. One table (`table`) holds those that are known by name.

Names are loaded when first used: the table needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.backbones.base import Backbone as Backbone
    from dejavlad.backbones.base import Geometry as Geometry
    from dejavlad.backbones.base import train_from as train_from
    from dejavlad.backbones.chain import Chain as Chain
    from dejavlad.backbones.dinov2 import DinoV2 as DinoV2
    from dejavlad.backbones.making import build as build
    from dejavlad.backbones.making import create as create
    from dejavlad.backbones.making import fetch_weights as fetch_weights
    from dejavlad.backbones.table import BACKBONES as BACKBONES
    from dejavlad.backbones.table import CHAIN as CHAIN
    from dejavlad.backbones.table import BackboneEntry as BackboneEntry
    from dejavlad.backbones.weights import draw_weights as draw_weights
    from dejavlad.backbones.weights import parse_random as parse_random

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "base": ("Backbone", "Geometry", "train_from"),
        "chain": ("Chain",),
        "dinov2": ("DinoV2",),
        "making": ("build", "create", "fetch_weights"),
        "table": ("BACKBONES", "CHAIN", "BackboneEntry"),
        "weights": ("draw_weights", "parse_random"),
    },
)
