"""Which pairs a page shows the matching patches of: failures first, then what went right.

Legend: Q queries, S patch sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dejavlad.errors import DejavladError
from dejavlad.evaluation import Result
from dejavlad.ground_truth import PlaceDataset
from dejavlad.images import Preprocess, read_size
from dejavlad.patches import PatchSet
from dejavlad.photo import Photo
from dejavlad.places import Answer, PlaceMap
from dejavlad.places.preset import Preset
from dejavlad.places.reranking import Source
from dejavlad.places.verification.points import PointSetting
from dejavlad.ranking import Ranking
from dejavlad.report.charts.axes import spread
from dejavlad.report.gallery import Judged
from dejavlad.report.matches import ShownMatch
from dejavlad.rerank import PatchMatch

FAILURES, RIGHT, LOCATED = 12, 6, 24
"""Queries shown, at most: answered wrongly and rightly; and photos located."""


def matched_pairs(
    ranking: Ranking,
    places: PlaceDataset,
    result: Result | None,
    preset: Preset,
    queries: Source,
    database: Source,
    preprocess: dict[str, Any],
) -> list[ShownMatch]:
    """Of some queries the first answer, and where that is wrong the first right one too.

    Args:
        ranking: re-ranked.
        places: the photos, and what is right.
        result: how the queries were answered; None where that is not known.
        preset: how it was re-ranked.
        queries: patches by row.
        database: likewise.
        preprocess: how photos were prepared, as the setting of a store says.
    """
    judged = Judged.of(result, places, len(places.queries))
    right = judged.rows("right") + judged.rows("open")
    chosen = judged.rows("wrong")[:FAILURES] + [right[i] for i in spread(len(right), RIGHT)]
    reranker = preset.reranker()
    pairs: list[ShownMatch] = []
    for q in chosen:
        state, hit = judged.states[q], judged.hits[q]
        for rank in [1, hit] if state == "wrong" and 1 < hit <= preset.depth else [1]:
            row = int(ranking.indices[q, rank - 1])
            patches = (queries(q), database(row)) if row >= 0 else ([], [])
            if not all(patches):
                continue
            (matches,) = reranker.match(patches[0], [patches[1]])
            verdict = None if state == "open" else state == "right" or rank > 1
            score = float(ranking.distances[q, rank - 1])
            pair = _shown(places.queries[q], places.database[row], verdict, matches, score, preprocess)
            pairs += [] if pair is None else [_with(pair, preset, patches[0], rank)]
    return pairs


def located_pairs(
    answers: Sequence[Answer], photos: Sequence[Photo], town: PlaceMap, preset: Preset
) -> list[ShownMatch]:
    """Of each located photo the best answer."""
    reorder, rows = town.reranker(preset), {photo.key: row for row, photo in enumerate(town.photos)}
    pairs: list[ShownMatch] = []
    for answer, photo in list(zip(answers, photos, strict=True))[:LOCATED]:
        if not answer.matches:
            continue
        row = rows[answer.matches[0].name]
        first, matches = reorder.compare(photo, row)
        if matches:
            preprocess = town.model.preprocess.to_dict()
            score = sum(match.score for match in matches) / len(matches)
            pair = _shown(photo, town.photos[row], None, matches, score, preprocess)
            pairs += [] if pair is None else [_with(pair, preset, first, 1)]
    return pairs


def located_points(
    answers: Sequence[Answer], photos: Sequence[Photo], town: PlaceMap, setting: PointSetting
) -> list[ShownMatch]:
    """Of each located photo the best answer, with the points that agree in space."""
    verifier, rows = town.verifier(setting), {photo.key: row for row, photo in enumerate(town.photos)}
    pairs: list[ShownMatch] = []
    for answer, photo in zip(answers, photos, strict=True):
        if len(pairs) == LOCATED:
            break
        if not answer.matches or answer.evidence is None:
            continue
        row = rows[answer.matches[0].name]
        query, candidate, verified = verifier.pair(photo, row)
        match = PatchMatch(
            -float(verified.inliers),
            query.keypoints[verified.matches.query],
            candidate.keypoints[verified.matches.candidate],
        )
        shown = ShownMatch(
            photo, town.photos[row], None, [match], query.size, candidate.size, answer.confidence
        )
        pairs.append(replace(shown, counts=(verified.tried,), rank=1, noun="point"))
    return pairs


def _shown(
    query: Photo,
    answer: Photo,
    right: bool | None,
    matches: Sequence[PatchMatch],
    score: float,
    preprocess: dict[str, Any],
) -> ShownMatch | None:
    """The pair; None where a photo cannot be read any more, or how it was prepared is not known."""
    try:
        prepared = Preprocess.from_dict(preprocess)
        sizes = [prepared.output_size(*read_size(photo, rotate=prepared.rotate)) for photo in (query, answer)]
    except DejavladError:
        return None
    return ShownMatch(query, answer, right, matches, sizes[0], sizes[1], score)


def _with(pair: ShownMatch, preset: Preset, patches: Sequence[PatchSet], rank: int) -> ShownMatch:
    return replace(pair, sizes=preset.sizes, counts=tuple(map(len, patches)), rank=rank)
