"""Ranking and truth to a result; free of torch."""

from __future__ import annotations

from dejavlad.evaluation.compare import Comparison, compare
from dejavlad.evaluation.evaluate import evaluate, list_hash
from dejavlad.evaluation.predictions import write_predictions
from dejavlad.evaluation.recall import first_hits, recall_at
from dejavlad.evaluation.result import Result

__all__ = [
    "Comparison",
    "Result",
    "compare",
    "evaluate",
    "first_hits",
    "list_hash",
    "recall_at",
    "write_predictions",
]
