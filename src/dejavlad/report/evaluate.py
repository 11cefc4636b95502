"""The page of an evaluation: recall, and queries answered rightly and wrongly, on a map and as photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dejavlad.errors import InputError
from dejavlad.evaluation import Result, filter_ranking
from dejavlad.ground_truth import PlaceDataset
from dejavlad.ranking import Ranking
from dejavlad.report.gallery import MOST_QUERIES, Judged, queries_section
from dejavlad.report.matches import ShownMatch, matches_section
from dejavlad.report.page import write_sections
from dejavlad.report.recall import parts_section, recall_section, reliability_section, rerank_section
from dejavlad.report.sections import (
    notes_section,
    numbers_section,
    places_section,
    reproduce_section,
    unread_section,
)
from dejavlad.report.templating import render
from dejavlad.report.text import percent
from dejavlad.report.thumbnails import BUDGET, Thumbnails, side_of


def write_page(
    result: Result | None,
    ranking: Ranking,
    places: PlaceDataset,
    path: str | Path,
    *,
    command: str | None = None,
    title: str | None = None,
    matches: Sequence[ShownMatch] = (),
    unread: Mapping[str, Mapping[str, str]] | None = None,
    most_queries: int = MOST_QUERIES,
    rotate: bool = True,
    budget: int = BUDGET,
) -> Path:
    """Write the page of an evaluation: one HTML file that loads nothing.

    Args:
        result: the figures; None where no truth is known: then there are the rankings alone.
        ranking: rows of ``places.database`` for each of ``places.queries``.
        places: the photos and the truth.
        path: the file, or an existing folder to write ``index.html`` in.
        command: how the result was made.
        title: the page's heading; the dataset's name, unless given.
        matches: queries and answers whose matching patches are shown.
        unread: photos that could not be described, as `Result.unread` has them; the result's, unless given.
        most_queries: queries shown with their photos, at most.
        rotate: as the model read photos: ``model.preprocess.rotate``.
        budget: bytes of thumbnails, at most; queries beyond it are not shown.

    Raises:
        InputError: the ranking is of another number of queries, or holds rows that the database has not.
    """
    ranking = counted_ranking(ranking, places)
    thumbnails = Thumbnails(side_of(min(len(places.queries), most_queries)), budget, rotate=rotate)
    judged = Judged.of(result, places, len(places.queries))
    queries, shown = queries_section(ranking, places, judged, thumbnails, most=most_queries)
    if unread is None and result is not None:
        unread = result.unread
    sections = [
        recall_section(result, ranking),
        unread_section(unread),
        notes_section(places),
        parts_section(result),
        rerank_section(result),
        reliability_section(result),
        places_section(ranking, places, judged, shown),
        queries,
        matches_section(matches, thumbnails),
        numbers_section(result, places),
        reproduce_section(command),
    ]
    intro = render("evaluate", "intro", result=result, places=places, tiles=result_tiles(result, places))
    return write_sections(path, title or places.name, intro, sections, thumbnails.css())


def result_tiles(result: Result | None, places: PlaceDataset) -> list[tuple[str, str, bool]]:
    """The recalls and how many photos they are of: name, value, and whether it is the main figure."""
    recalls = list(result.recall.items())[:4] if result is not None else []
    return [
        *((f"recall@{n}", percent(value), i == 0) for i, (n, value) in enumerate(recalls)),
        ("queries", f"{len(places.queries):,}", False),
        ("database photos", f"{len(places.database):,}", False),
    ]


def counted_ranking(ranking: Ranking, places: PlaceDataset) -> Ranking:
    """The ranking without answers that do not count, so that its ranks are those of the result.

    Raises:
        InputError: it is of other photos.
    """
    if misfit := ranking.misfit(len(places.queries), len(places.database)):
        raise InputError(misfit)
    return ranking if places.truth is None else filter_ranking(ranking, places.truth, ranking.depth)
