"""Models by name: off-the-shelf networks, released ones, folders, runs and files.

Names are loaded when first used: the list needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.zoo.listing import BEST_MODEL as BEST_MODEL
    from dejavlad.zoo.listing import DEFAULT_MODEL as DEFAULT_MODEL
    from dejavlad.zoo.listing import ModelEntry as ModelEntry
    from dejavlad.zoo.listing import default_model as default_model
    from dejavlad.zoo.listing import list_models as list_models
    from dejavlad.zoo.resolve import load_model as load_model

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "listing": ("BEST_MODEL", "DEFAULT_MODEL", "ModelEntry", "default_model", "list_models"),
        "resolve": ("load_model",),
    },
)
