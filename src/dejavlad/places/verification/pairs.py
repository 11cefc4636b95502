"""Pairs of photos for other tools, those alone whose points agree in space, with what says so."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dejavlad.files import write_whole
from dejavlad.photo import PhotoList
from dejavlad.places.verification.confidence import (
    Evidence,
    verified_confidence,
)
from dejavlad.places.verification.points import (
    PointSetting,
    PointSource,
)
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.rerank.point_reranker import DECISIVE

VERIFYING = "verifying pairs"
"""The task that `OnProgress` is told of."""


@dataclass(frozen=True, slots=True)
class VerifiedPair:
    """A query and a photo of the map."""

    query: str
    """Its key."""
    database: str
    """The key of the map's photo."""
    inliers: int
    """Points that agree in space."""
    confidence: float
    """Probability that both show one place, 0 to 1."""


def verify_pairs(
    answers: Mapping[str, Sequence[str]],
    queries: PhotoList,
    database: PhotoList,
    setting: PointSetting,
    *,
    on_progress: OnProgress = silent,
    **options: Any,
) -> tuple[dict[str, list[str]], list[VerifiedPair], dict[str, str]]:
    """Compare each query with its answers.

    Args:
        answers: key of a query -> keys of photos of the map, best first.
        queries: where the queries' pixels lie.
        database: where the map's photos lie.
        setting: how they are compared.
        on_progress: told of each query.
        options: of `dejavlad.local.create`, e.g. ``device``.

    Returns:
        The answers of which at least `DECISIVE` points agree, in their order; all pairs that were compared;
        and key -> reason, of the photos that could not be read.
    """
    setting = setting.chosen()
    extractor, reranker = setting.extractor(**options), setting.reranker()
    of_query, of_database = PointSource(extractor, queries), PointSource(extractor, database)
    query_rows = {key: row for row, key in enumerate(queries.keys)}
    database_rows = {key: row for row, key in enumerate(database.keys)}
    agreeing: dict[str, list[str]] = {}
    pairs = []
    for count, (query, names) in enumerate(answers.items(), 1):
        agreeing[query] = []
        for name in names:
            pair = reranker.verified(of_query(query_rows[query]), of_database(database_rows[name]))
            evidence = Evidence(0.0, 1).verified(pair)
            pairs.append(VerifiedPair(query, name, pair.inliers, verified_confidence(evidence)))
            if pair.inliers >= DECISIVE:
                agreeing[query].append(name)
        on_progress(Progress(VERIFYING, count, len(answers)))
    failed = {
        photos.keys[row]: why
        for photos, source in ((queries, of_query), (database, of_database))
        for row, why in source.failed.items()
    }
    return agreeing, pairs, failed


def write_scores(path: Path, pairs: Sequence[VerifiedPair]) -> Path:
    """Write ``query,database,inliers,confidence`` as CSV; the file is replaced whole."""
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["query", "database", "inliers", "confidence"])
    lines.writerows([pair.query, pair.database, pair.inliers, f"{pair.confidence:.4f}"] for pair in pairs)
    return write_whole(path, text.getvalue())
