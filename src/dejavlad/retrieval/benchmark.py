"""A model on a dataset: descriptors, ranking, result and page, in one folder that resumes.

The folder::

    RESULTS/model/             the model, where it learnt from the database photos
    RESULTS/database/          their descriptors (a DescriptorStore)
    RESULTS/queries/           the queries' descriptors
    RESULTS/ranking.npz        the nearest database photos of each query
    RESULTS/predictions.txt    the same by name, in kapture's form
    RESULTS/result.json        the figures, and all that they depend on

Legend: Q queries, K depth of the ranking, D descriptor size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dejavlad.datasets import PlaceDataset
from dejavlad.errors import InputError
from dejavlad.evaluation import Result, evaluate, write_predictions
from dejavlad.extraction import DescriptorStore, extract
from dejavlad.index import build_index
from dejavlad.model import PlaceModel
from dejavlad.progress import OnProgress, silent
from dejavlad.ranking import Ranking
from dejavlad.retrieval.learnt import learn_once


@dataclass(frozen=True, slots=True)
class Scoring:
    """How rankings are made and scored."""

    recall_at: tuple[int, ...] = (1, 5, 10)
    "N of recall@N."
    k: int = 100
    "Depth of the ranking, at most the size of the database."
    misses: Literal["count", "drop"] = "count"
    "Queries without a right answer count as misses, or are left out."
    index: str = "flat"
    "Kind of index: flat is exact."

    def __post_init__(self) -> None:
        if not self.recall_at or min(self.recall_at) < 1:
            raise InputError(f"recall is taken at N of 1 or more; given {list(self.recall_at)}")
        if self.k < max(self.recall_at):
            raise InputError(
                f"recall@{max(self.recall_at)} needs a ranking at least that deep; given -k {self.k}"
            )


SCORING = Scoring()


def describe_dataset(
    model: PlaceModel,
    dataset: PlaceDataset,
    out: Path,
    *,
    batch_size: int = 8,
    workers: int = 0,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> tuple[PlaceModel, DescriptorStore, DescriptorStore]:
    """The (fitted) model, and the descriptors of the database and of the queries, kept in `out`.

    Args:
        model: any model; one that learns from photos learns from the database, never from the queries.
        dataset: what to describe.
        out: the results' folder.
        batch_size: photos described at once.
        workers: threads that decode photos.
        seed: of what is learnt.
        on_progress: called with each step.
    """
    if not model.fitted:
        model = learn_once(
            model, dataset.database, out / "model", seed=seed, workers=workers, on_progress=on_progress
        )
    database, queries = (
        extract(model, part, out / name, batch_size=batch_size, workers=workers, on_progress=on_progress)
        for name, part in (("database", dataset.database), ("queries", dataset.queries))
    )
    return model, database, queries


def rank(database: DescriptorStore, queries: DescriptorStore, scoring: Scoring = SCORING) -> Ranking:
    """The nearest database photos of each query; photos that failed are no one's answer.

    Raises:
        StoreMismatchError: the two stores were made by different models.
    """
    if database.path is not None:
        database.manifest.setting.check(queries.manifest.setting, database.path)
    return build_index(scoring.index, database).search(queries, min(scoring.k, len(database)))


def score(
    ranking: Ranking,
    dataset: PlaceDataset,
    out: Path,
    scoring: Scoring = SCORING,
    *,
    model: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
    dims: Mapping[int, Mapping[int, float]] | None = None,
) -> Result | None:
    """Write ``ranking.npz`` and ``predictions.txt``, and ``result.json`` where the truth is known.

    Args:
        ranking: rows of `dataset.database` for each of `dataset.queries`.
        dataset: the lists, and the truth.
        out: the results' folder.
        scoring: at which N, and what a query without a right answer counts for.
        model: name, fingerprint and dims of what made the ranking.
        seconds: what took how long.
        dims: recalls with fewer dimensions, from `sweep`.

    Raises:
        InputError: the ranking is for other lists.
    """
    n_queries, n_database = len(dataset.queries), len(dataset.database)
    if ranking.n_queries != n_queries or ranking.indices.max(initial=-1) >= n_database:
        raise InputError(
            f"the ranking is of {ranking.n_queries} queries and rows to {ranking.indices.max(initial=-1)}, "
            f"the lists have {n_queries} queries and {n_database} database photos"
        )
    out.mkdir(parents=True, exist_ok=True)
    ranking.save(out / "ranking.npz")
    write_predictions(out / "predictions.txt", ranking, dataset.database, dataset.queries)
    if dataset.truth is None:
        return None
    result = evaluate(
        ranking,
        dataset.truth,
        recall_at=scoring.recall_at,
        misses=scoring.misses,
        database=dataset.database,
        queries=dataset.queries,
        model=model,
        seconds=seconds,
    )
    result = replace(result, dims=dims or {})
    result.save(out / "result.json")
    return result


def sweep(
    database: DescriptorStore,
    queries: DescriptorStore,
    dataset: PlaceDataset,
    dims: Sequence[int],
    scoring: Scoring = SCORING,
) -> dict[int, Mapping[int, float]]:
    """Recall with the first d dimensions alone, again at unit length, for each d.

    Returns:
        d -> N -> recall@N; nothing where no truth is known.

    Raises:
        InputError: more dimensions are asked for than there are.
    """
    if dataset.truth is None:
        return {}
    recalls: dict[int, Mapping[int, float]] = {}
    for d in dims:
        if d > database.dims:
            raise InputError(f"--dims {d}: the descriptors have {database.dims} dimensions")
        there, asked = np.flatnonzero(database.done), np.flatnonzero(queries.done)
        index = build_index(scoring.index, _first(database, d, there), ids=there)
        found = index.search(_first(queries, d, asked), min(scoring.k, len(database)))
        indices = np.full((len(queries), found.depth), -1, np.int64)
        indices[asked] = found.indices
        distances = np.full(indices.shape, np.inf, np.float32)
        distances[asked] = found.distances
        ranking = Ranking(indices, distances)
        recalls[d] = evaluate(
            ranking, dataset.truth, recall_at=scoring.recall_at, misses=scoring.misses
        ).recall
    return recalls


def _first(store: DescriptorStore, dims: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    cut = store.float32(rows)[:, :dims]
    return np.asarray(cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12), np.float32)
