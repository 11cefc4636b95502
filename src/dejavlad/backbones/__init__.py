"""Backbones: prepared photos to feature maps. One table (`table`) holds those that are known by name."""

from __future__ import annotations

from dejavlad.backbones.base import Backbone, Geometry, train_from
from dejavlad.backbones.chain import Chain
from dejavlad.backbones.dinov2 import DinoV2
from dejavlad.backbones.making import build, create, fetch_weights
from dejavlad.backbones.table import BACKBONES, CHAIN, BackboneEntry
from dejavlad.backbones.weights import draw_weights, parse_random

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
