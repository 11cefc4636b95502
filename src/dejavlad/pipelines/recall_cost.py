"""What a quantised network costs in recall, measured on a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dejavlad.datasets import open_dataset
from dejavlad.errors import InputError
from dejavlad.evaluation import evaluate
from dejavlad.export import open_export
from dejavlad.extraction.extract import describe
from dejavlad.index import build_index
from dejavlad.model import PlaceModel
from dejavlad.places.map_folder.in_memory_rows import InMemoryRows
from dejavlad.progress import OnProgress, silent

RECALLS = (1, 5, 10)


def recall_cost(
    model: PlaceModel,
    exported: Path,
    dataset: str,
    *,
    root: Path | None = None,
    on_progress: OnProgress = silent,
) -> dict[str, Any]:
    """Recall with a model and with its export, on the same photos.

    Args:
        model: in PyTorch.
        exported: the certified file.
        dataset: its name.
        root: where it lies.
        on_progress: called with each step.

    Returns:
        ``recall``: N -> [of the model, of the export]; ``dataset`` and ``n_queries``.

    Raises:
        InputError: there is no such dataset, or its photos cannot be described.
    """
    places = open_dataset(dataset, root=root)
    if places.truth is None:
        raise InputError(f"dataset {dataset!r} has no ground truth, so nothing tells what int8 costs")
    both = []
    for describer in (model, open_export(exported)):
        (database, _), (queries, _) = (
            describe(describer, photos, on_progress=on_progress)
            for photos in (places.database, places.queries)
        )
        rows = [InMemoryRows(values, np.asarray(values.any(axis=1))) for values in (database, queries)]
        ranking = build_index("flat", rows[0]).search(rows[1], min(max(RECALLS), len(database)))
        both.append(evaluate(ranking, places.truth, recall_at=RECALLS))
    return {
        "dataset": dataset,
        "n_queries": both[0].n_queries,
        "recall": {str(n): [float(result.recall[n]) for result in both] for n in RECALLS},
    }
