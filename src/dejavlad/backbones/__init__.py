"""Backbones: prepared photos to feature maps. One table (`table`) holds those that are known by name.

Names are loaded when first used: the table needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.backbones.base import Backbone, Geometry, train_from
    from dejavlad.backbones.chain import Chain
    from dejavlad.backbones.dinov2 import DinoV2
    from dejavlad.backbones.making import build, create, fetch_weights
    from dejavlad.backbones.table import BACKBONES, CHAIN, BackboneEntry
    from dejavlad.backbones.weights import draw_weights, parse_random

_HOME: Final = {
    "BACKBONES": "dejavlad.backbones.table",
    "Backbone": "dejavlad.backbones.base",
    "BackboneEntry": "dejavlad.backbones.table",
    "CHAIN": "dejavlad.backbones.table",
    "Chain": "dejavlad.backbones.chain",
    "DinoV2": "dejavlad.backbones.dinov2",
    "Geometry": "dejavlad.backbones.base",
    "build": "dejavlad.backbones.making",
    "create": "dejavlad.backbones.making",
    "draw_weights": "dejavlad.backbones.weights",
    "fetch_weights": "dejavlad.backbones.making",
    "parse_random": "dejavlad.backbones.weights",
    "train_from": "dejavlad.backbones.base",
}

__all__ = [
    "BACKBONES",
    "CHAIN",
    "Backbone",
    "BackboneEntry",
    "Chain",
    "DinoV2",
    "Geometry",
    "build",
    "create",
    "draw_weights",
    "fetch_weights",
    "parse_random",
    "train_from",
]


__getattr__ = lazy_names(__name__, _HOME)
