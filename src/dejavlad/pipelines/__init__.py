"""Whole tasks that the command and Python programs both call: evaluate models, explain a ranking.

Names are loaded when first used: `explain` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dejavlad.pipelines.benchmark import Bench, bench

__all__ = ["Bench", "bench"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dejavlad.pipelines' has no attribute {name!r}")
    return getattr(importlib.import_module("dejavlad.pipelines.benchmark"), name)
