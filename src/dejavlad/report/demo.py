"""The demo's page: a town, its map, photos located, a network trained, and how often that is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dejavlad.evaluation import Result
from dejavlad.evaluation.breakdown import apart
from dejavlad.failures import blank, unread
from dejavlad.ground_truth import PlaceDataset
from dejavlad.photo import PhotoList
from dejavlad.places import Answer, PlaceMap
from dejavlad.ranking import Ranking
from dejavlad.report.charts.axes import spread
from dejavlad.report.evaluate import counted_ranking, result_tiles
from dejavlad.report.gallery import Judged, queries_section
from dejavlad.report.locate import located_sections
from dejavlad.report.matches import ShownMatch, matches_section
from dejavlad.report.page import Section, write_sections
from dejavlad.report.recall import recall_section, rerank_section
from dejavlad.report.sections import numbers_section, places_section, reproduce_section, unread_section
from dejavlad.report.templating import render
from dejavlad.report.text import metres
from dejavlad.report.thumbnails import BUDGET, Thumbnails
from dejavlad.report.training import Learnt, learnt_section

DEMO_QUERIES = 24
"""Queries of the evaluation that the page shows."""
STREETS = 18
"""Photos of the town that it shows."""


def write_demo_page(
    path: str | Path,
    *,
    places: PlaceDataset,
    answers: Sequence[Answer],
    town: PlaceMap,
    result: Result,
    ranking: Ranking,
    learnt: Learnt | None = None,
    matches: Sequence[ShownMatch] = (),
    command: str | None = None,
    most_queries: int = DEMO_QUERIES,
    budget: int = BUDGET,
) -> Path:
    """Write the page of ``dejavlad demo``: a town, its map, photos located, and how often that is right.

    Args:
        path: the file, or an existing folder to write ``index.html`` in.
        places: the town's streets: database, queries and truth.
        answers: photos located in the map, some of `places.queries` and some taken elsewhere.
        town: the map made of ``places.database``.
        result: of the queries.
        ranking: of the queries.
        learnt: a training, and what it brought on the same streets.
        matches: queries and answers whose matching patches are shown.
        command: how all of it was made.
        most_queries: queries of the evaluation shown, at most.
        budget: bytes of thumbnails, at most.
    """
    ranking = counted_ranking(ranking, places)
    thumbnails = Thumbnails(400, budget, rotate=town.model.preprocess.rotate)
    judged = Judged.of(result, places, len(places.queries))
    streets = _town_section(places.database, thumbnails)
    notes = [_truth(answer, places) for answer in answers]
    located, photos, failed = located_sections(answers, town.photos, thumbnails, notes=notes)
    queries, shown = queries_section(ranking, places, judged, thumbnails, most=most_queries)
    sections = [
        streets,
        _map_section(town),
        photos,
        located,
        failed,
        None if learnt is None else learnt_section(learnt),
        recall_section(result, ranking),
        unread_section(result.unread),
        rerank_section(result),
        places_section(ranking, places, judged, shown, title="Where it goes right and wrong"),
        queries,
        matches_section(matches, thumbnails),
        numbers_section(result, places),
        reproduce_section(command),
    ]
    tiles = result_tiles(result, places)
    intro = render("demo", "intro", n_queries=result.n_queries, first=result.recall.get(1), tiles=tiles)
    return write_sections(path, "From photos to places", intro, sections, thumbnails.css())


def _town_section(database: PhotoList, thumbnails: Thumbnails) -> Section:
    """Some photos of the town, evenly spread."""
    chosen = [database[row] for row in spread(len(database), STREETS)]
    shown = [photo for photo in chosen if thumbnails.admit([photo])]
    return Section.of("town", "A town", "demo", photos=shown, n_photos=len(database), thumbnails=thumbnails)


def _map_section(town: PlaceMap) -> Section:
    bad, empty = unread(town.failed), blank(town.failed)
    figures = [
        ("photos in the map", len(town.photos)),
        ("with a position", sum(position is not None for position in town.photos.positions)),
        *([("could not be read", len(bad))] if bad else []),
        *([("show nothing", len(empty))] if empty else []),
        ("numbers describe a photo", town.model.descriptor_size),
    ]
    tiles = [(what, f"{number:,}", False) for what, number in figures]
    return Section.of("map", "Its map", "demo", model=town.model.name, tiles=tiles)


def _truth(answer: Answer, places: PlaceDataset) -> str:
    """Where a photo of the demo was taken in truth."""
    taken = {photo.path: photo.position for photo in places.queries}
    if answer.path not in taken:
        return "In truth it was taken in streets that this map does not hold."
    off = apart(taken[answer.path], answer.matches[0].position) if answer.matches else None
    if off is None:
        return "In truth it was taken in the streets of this map."
    return f"In truth it was taken in the streets of this map, {metres(off)} from its best match."
