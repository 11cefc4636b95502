"""Whole tasks that the command and Python programs both call: evaluate models, find loops, explain a ranking.

Names are loaded when first used: `explain` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dejavlad.pipelines.benchmark import Bench, bench
    from dejavlad.pipelines.evaluate_dataset import Evaluation, evaluate, evaluate_ranking
    from dejavlad.pipelines.evaluation import Scoring
    from dejavlad.pipelines.loop_closures import LoopResult, LoopSetting, LoopTruth, loops

_MODULES: Final = {
    "Bench": "benchmark",
    "bench": "benchmark",
    "Evaluation": "evaluate_dataset",
    "evaluate": "evaluate_dataset",
    "evaluate_ranking": "evaluate_dataset",
    "Scoring": "evaluation",
    "LoopResult": "loop_closures",
    "LoopSetting": "loop_closures",
    "LoopTruth": "loop_closures",
    "loops": "loop_closures",
}

__all__ = [
    "Bench",
    "Evaluation",
    "LoopResult",
    "LoopSetting",
    "LoopTruth",
    "Scoring",
    "bench",
    "evaluate",
    "evaluate_ranking",
    "loops",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'dejavlad.pipelines' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dejavlad.pipelines.{_MODULES[name]}"), name)
