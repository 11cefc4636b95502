"""Whole tasks that the command and Python programs both call: evaluate models, find loops, explain a ranking.

Names are loaded when first used: `explain` needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.pipelines.bench_table import Bench
    from dejavlad.pipelines.benchmark import bench
    from dejavlad.pipelines.evaluate_dataset import Evaluation, evaluate, evaluate_ranking
    from dejavlad.pipelines.loop_closures import LoopResult, LoopSetting, LoopTruth, loops
    from dejavlad.pipelines.scoring import Scoring

_HOME: Final = {
    "Bench": "dejavlad.pipelines.bench_table",
    "bench": "dejavlad.pipelines.benchmark",
    "Evaluation": "dejavlad.pipelines.evaluate_dataset",
    "evaluate": "dejavlad.pipelines.evaluate_dataset",
    "evaluate_ranking": "dejavlad.pipelines.evaluate_dataset",
    "Scoring": "dejavlad.pipelines.scoring",
    "LoopResult": "dejavlad.pipelines.loop_closures",
    "LoopSetting": "dejavlad.pipelines.loop_closures",
    "LoopTruth": "dejavlad.pipelines.loop_closures",
    "loops": "dejavlad.pipelines.loop_closures",
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


__getattr__ = lazy_names(__name__, _HOME)
