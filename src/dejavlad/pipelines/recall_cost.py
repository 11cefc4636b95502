"""What a quantised network costs in recall, measured on a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dejavlad.datasets import open_dataset
from dejavlad.errors import InputError
from dejavlad.evaluation import Result, evaluate
from dejavlad.evaluation.statistics import paired
from dejavlad.export import open_export
from dejavlad.export.cost import RecallCost
from dejavlad.extraction.extract import describe
from dejavlad.ground_truth import PlaceDataset
from dejavlad.index import build_index
from dejavlad.model import PlaceModel
from dejavlad.places.map_folder.in_memory_rows import InMemoryRows
from dejavlad.progress import OnProgress, silent

RECALLS = (1, 5, 10)


def measured_dataset(dataset: str, *, root: Path | None = None) -> PlaceDataset:
    """A dataset on which recall can be measured.

    Raises:
        InputError: there is no such dataset, or it has no ground truth.
    """
    places = open_dataset(dataset, root=root)
    if places.truth is None:
        raise InputError(f"dataset {dataset!r} has no ground truth, so nothing tells what int8 costs")
    return places


def recall_cost(
    model: PlaceModel, exported: Path, places: PlaceDataset, *, on_progress: OnProgress = silent
) -> RecallCost:
    """Recall with a model and with its export, on the same photos.

    Args:
        model: in PyTorch.
        exported: the certified file.
        places: the photos (`measured_dataset`).
        on_progress: called with each step.

    Raises:
        InputError: its photos cannot be described.
    """
    before, after = (
        result_of(describer, places, on_progress=on_progress) for describer in (model, open_export(exported))
    )
    assert before.hits_at is not None and after.hits_at is not None
    pairs = paired(before.hits_at, after.hits_at, RECALLS, before.blocks)
    return RecallCost(
        dataset=places.name,
        n_queries=before.n_queries,
        recall={str(n): [float(before.recall[n]), float(after.recall[n])] for n in RECALLS},
        change={str(pair.n): [pair.low, pair.high] for pair in pairs},
        alone={str(pair.n): [pair.first_only, pair.second_only] for pair in pairs},
    )


def result_of(model: PlaceModel, places: PlaceDataset, *, on_progress: OnProgress = silent) -> Result:
    """recall@`RECALLS` of a model, by exact search.

    Raises:
        InputError: its photos cannot be described.
    """
    assert places.truth is not None
    rows = [
        InMemoryRows(values, np.asarray(values.any(axis=1)))
        for photos in (places.database, places.queries)
        for values, _ in [describe(model, photos, on_progress=on_progress)]
    ]
    ranking = build_index("flat", rows[0]).search(rows[1], min(max(RECALLS), len(places.database)))
    return evaluate(ranking, places.truth, recall_at=RECALLS, queries=places.queries)
