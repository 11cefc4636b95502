"""Feature maps to descriptors: NetVLAD, VLAD, pooling, and the trained heads of later papers."""

from __future__ import annotations

from typing import Any

from dejavlad.aggregation.base import Aggregation
from dejavlad.aggregation.boq import BoQ
from dejavlad.aggregation.convap import ConvAP
from dejavlad.aggregation.cricavpr import CricaVPR
from dejavlad.aggregation.edtformer import EDTformer
from dejavlad.aggregation.head import Head
from dejavlad.aggregation.image_tokens import ImageTokens
from dejavlad.aggregation.mixvpr import MixVPR
from dejavlad.aggregation.netvlad import VLAD, NetVLAD
from dejavlad.aggregation.patch_vlad import PatchVLAD, patch_centres, patch_vlad
from dejavlad.aggregation.pooling import AvgPool, GeM, MaxPool
from dejavlad.aggregation.projected_gem import ProjectedGeM
from dejavlad.aggregation.qaa import QAA
from dejavlad.aggregation.salad import MegaLoc, Salad
from dejavlad.aggregation.selavprpp import SelaVPRpp
from dejavlad.aggregation.supervlad import SuperVLAD
from dejavlad.aggregation.tied_netvlad import TiedNetVLAD
from dejavlad.errors import InputError, UnknownNameError

__all__ = [
    "AGGREGATIONS",
    "PRE_L2",
    "VLAD",
    "Aggregation",
    "AvgPool",
    "GeM",
    "Head",
    "MaxPool",
    "NetVLAD",
    "PatchVLAD",
    "TiedNetVLAD",
    "create",
    "is_aggregation",
    "patch_centres",
    "patch_vlad",
]

AGGREGATIONS: dict[str, type[Aggregation]] = {
    "netvlad": NetVLAD,
    "netvlad_tied": TiedNetVLAD,
    "vlad": VLAD,
    "max": MaxPool,
    "avg": AvgPool,
    "gem": GeM,
    "gem_linear": ProjectedGeM,
    "convap": ConvAP,
    "mixvpr": MixVPR,
    "boq": BoQ,
    "salad": Salad,
    "megaloc": MegaLoc,
    "supervlad": SuperVLAD,
    "cricavpr": CricaVPR,
    "edtformer": EDTformer,
    "selavprpp": SelaVPRpp,
    "image_tokens": ImageTokens,
    "qaa": QAA,
}
"""Name -> class, made with the number of channels and the aggregation's own options."""


PRE_L2 = ("max_preL2", "avg_preL2", "gem_preL2")
"""Poolings of local features brought to unit length first, by the original's names."""


def is_aggregation(name: str) -> bool:
    """Whether `create` knows an aggregation layer of this name."""
    return name in AGGREGATIONS or name in PRE_L2


def create(name: str, dim: int, **options: Any) -> Aggregation:
    """An aggregation by name.

    Args:
        name: see `AGGREGATIONS` and `PRE_L2`.
        dim: channels of the feature map.
        options: the aggregation's own, e.g. ``clusters=64``.

    Raises:
        UnknownNameError: there is no such aggregation.
        InputError: it has no such option, or the option cannot be that.
    """
    if not is_aggregation(name):
        raise UnknownNameError("aggregation", name, [*AGGREGATIONS, *PRE_L2])
    if name in PRE_L2:
        name, options = name.removesuffix("_preL2"), {"normalize_input": True, **options}
    try:
        return AGGREGATIONS[name](dim, **options)
    except TypeError as error:
        raise InputError(f"aggregation {name!r}: {error}") from None
