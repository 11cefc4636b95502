"""Ranking and truth to a result; free of torch."""

from __future__ import annotations

from dejavlad.evaluation.compare import Comparison, compare
from dejavlad.evaluation.evaluate import evaluate, list_hash
from dejavlad.evaluation.pairs import read_answers, write_pairs
from dejavlad.evaluation.predictions import read_predictions, write_patch_netvlad, write_predictions
from dejavlad.evaluation.recall import (
    answers_of,
    depth_needed,
    filter_ranking,
    first_hits,
    recall_at,
    valid_mask,
)
from dejavlad.evaluation.result import Result

__all__ = [
    "Comparison",
    "Result",
    "answers_of",
    "compare",
    "depth_needed",
    "evaluate",
    "filter_ranking",
    "first_hits",
    "list_hash",
    "read_answers",
    "read_predictions",
    "recall_at",
    "valid_mask",
    "write_pairs",
    "write_patch_netvlad",
    "write_predictions",
]
