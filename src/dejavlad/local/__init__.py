"""Local features: points of a photo that can be found again in others. One table holds what makes them.

Names are loaded when first used: features that are stored need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.local.base import DESCRIBING as DESCRIBING
    from dejavlad.local.base import LocalExtractor as LocalExtractor
    from dejavlad.local.base import describe_local as describe_local
    from dejavlad.local.base import local_features as local_features
    from dejavlad.local.extractors import AUTO as AUTO
    from dejavlad.local.extractors import EXTRACTORS as EXTRACTORS
    from dejavlad.local.extractors import best_kind as best_kind
    from dejavlad.local.extractors import create as create
    from dejavlad.local.weights import WEIGHTS as WEIGHTS
    from dejavlad.local.weights import LocalWeights as LocalWeights

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "base": ("DESCRIBING", "LocalExtractor", "describe_local", "local_features"),
        "extractors": ("AUTO", "EXTRACTORS", "best_kind", "create"),
        "weights": ("WEIGHTS", "LocalWeights"),
    },
)
