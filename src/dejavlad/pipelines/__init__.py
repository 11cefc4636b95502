"""Whole tasks that the command and Python programs both call: evaluate models, find loops, explain a ranking.

Names are loaded when first used: `explain` needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.pipelines.bench_table import Bench as Bench
    from dejavlad.pipelines.benchmark import bench as bench
    from dejavlad.pipelines.evaluate_dataset import Evaluation as Evaluation
    from dejavlad.pipelines.evaluate_dataset import evaluate as evaluate
    from dejavlad.pipelines.evaluate_dataset import evaluate_ranking as evaluate_ranking
    from dejavlad.pipelines.loop_closures import LoopResult as LoopResult
    from dejavlad.pipelines.loop_closures import LoopSetting as LoopSetting
    from dejavlad.pipelines.loop_closures import LoopTruth as LoopTruth
    from dejavlad.pipelines.loop_closures import loops as loops
    from dejavlad.pipelines.scoring import Scoring as Scoring

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "bench_table": ("Bench",),
        "benchmark": ("bench",),
        "evaluate_dataset": ("Evaluation", "evaluate", "evaluate_ranking"),
        "loop_closures": ("LoopResult", "LoopSetting", "LoopTruth", "loops"),
        "scoring": ("Scoring",),
    },
)
