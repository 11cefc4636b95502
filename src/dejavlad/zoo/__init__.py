"""Models by name: off-the-shelf networks, released ones, folders, runs and files."""

from __future__ import annotations

from dejavlad.zoo.listing import BEST_MODEL, DEFAULT_MODEL, ModelEntry, default_model, list_models
from dejavlad.zoo.resolve import load_model

__all__ = ["BEST_MODEL", "DEFAULT_MODEL", "ModelEntry", "default_model", "list_models", "load_model"]
