"""Models by name: off-the-shelf networks, released ones, folders, runs and files.

Names are loaded when first used: the list needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.zoo.listing import BEST_MODEL, DEFAULT_MODEL, ModelEntry, default_model, list_models
    from dejavlad.zoo.resolve import load_model

_HOME: Final = {
    "BEST_MODEL": "dejavlad.zoo.listing",
    "DEFAULT_MODEL": "dejavlad.zoo.listing",
    "ModelEntry": "dejavlad.zoo.listing",
    "default_model": "dejavlad.zoo.listing",
    "list_models": "dejavlad.zoo.listing",
    "load_model": "dejavlad.zoo.resolve",
}

__all__ = ["BEST_MODEL", "DEFAULT_MODEL", "ModelEntry", "default_model", "list_models", "load_model"]


__getattr__ = lazy_names(__name__, _HOME)
