"""The pages: of an evaluation, of located photos, and of the demo's whole story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dejavlad.datasets import PlaceDataset
from dejavlad.errors import InputError
from dejavlad.evaluation import Result
from dejavlad.failures import blank, unread
from dejavlad.photo import Photo
from dejavlad.ranking import Ranking
from dejavlad.report.gallery import MOST_QUERIES, Judged, apart
from dejavlad.report.located import MOST_PHOTOS
from dejavlad.report.matches import ShownMatch, matches_section
from dejavlad.report.numbers import result_tiles, tiles
from dejavlad.report.page import Section, page, write
from dejavlad.report.rerank import rerank_section
from dejavlad.report.sections import (
    located_sections,
    numbers_section,
    parts_section,
    places_section,
    queries_section,
    recall_section,
    reproduce_section,
    sheet,
    unread_section,
)
from dejavlad.report.text import count, label, metres, percent, plain
from dejavlad.report.thumbnails import BUDGET, Thumbnails
from dejavlad.report.training import Learnt, learnt_section
from dejavlad.retrieval import Answer, PlaceMap

DEMO_QUERIES = 24
"""Queries of the evaluation that the demo's page shows."""


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
    """The page of an evaluation: one HTML file that loads nothing.

    Args:
        result: the figures; None where no truth is known: then there are the rankings alone.
        ranking: rows of ``places.database`` for each of ``places.queries``.
        places: the photos and the truth.
        path: the file, or an existing folder to write ``index.html`` in.
        command: how the result was made.
        title: the page's heading; the dataset's name unless told otherwise.
        matches: queries and answers whose matching patches are shown.
        unread: photos that could not be described, as `Result.unread` has them; the result's unless told.
        most_queries: queries shown with their photos, at most.
        rotate: as the model read photos: ``model.preprocess.rotate``.
        budget: bytes of thumbnails, at most; queries beyond it are not shown.

    Returns:
        The file.

    Raises:
        InputError: the ranking is of another number of queries, or holds rows that the database has not.
    """
    _fit(ranking, places)
    thumbnails = Thumbnails(_side(min(len(places.queries), most_queries)), budget, rotate=rotate)
    judged = Judged.of(result, places, len(places.queries))
    queries, shown = queries_section(ranking, places, judged, thumbnails, most=most_queries)
    if unread is None and result is not None:
        unread = result.unread
    sections = [
        recall_section(result, ranking),
        unread_section(unread),
        parts_section(result),
        rerank_section(result),
        places_section(ranking, places, judged, shown),
        queries,
        matches_section(matches, thumbnails),
        numbers_section(result, places),
        reproduce_section(command),
    ]
    intro = f"<p>{_summary(result, places)}</p>\n{result_tiles(result, places)}\n"
    return write(page(title or places.name, intro, sections, pictures=thumbnails.css()), path)


def write_locate_page(
    answers: Sequence[Answer],
    town: PlaceMap,
    path: str | Path,
    *,
    asked: Sequence[Photo] | None = None,
    command: str | None = None,
    matches: Sequence[ShownMatch] = (),
    most_photos: int = MOST_PHOTOS,
    budget: int = BUDGET,
) -> Path:
    """The page of located photos: each with its best places, how sure the map is, and where that is.

    Args:
        answers: from `PlaceMap.locate`.
        town: the map.
        path: the file, or an existing folder to write ``index.html`` in.
        asked: the photos that were located, in order: shown where the answers' paths do not tell their pixels
            (arrays, frames of a video, crops).
        command: how the answers were made.
        matches: photos and answers whose matching patches are shown.
        most_photos: photos shown, at most.
        budget: bytes of thumbnails, at most.

    Returns:
        The file.

    Raises:
        InputError: `asked` are other photos than those answered.
    """
    if asked is not None and [photo.key for photo in asked] != [answer.name for answer in answers]:
        raise InputError(
            f"{len(answers)} answers, but `asked` holds other photos: give those that were located"
        )
    photos = town.photos
    rotate = town.model.preprocess.rotate
    thumbnails = Thumbnails(_side(min(len(answers), most_photos)), budget, rotate=rotate)
    sections = located_sections(answers, photos, thumbnails, asked=asked, most=most_photos)
    sections.append(matches_section(matches, thumbnails))
    known = sum(answer.known for answer in answers)
    empty = sum(answer.blank for answer in answers)
    failed = sum(answer.failed is not None for answer in answers) - empty
    unknown = len(answers) - known - failed - empty
    figures = [
        ("known places", f"{known:,}", True),
        ("not in the map", f"{unknown:,}", False),
        *([("could not be read", f"{failed:,}", False)] if failed else []),
        *([("show nothing", f"{empty:,}", False)] if empty else []),
        ("photos in the map", f"{len(photos):,}", False),
    ]
    intro = (
        f"<p>{count(len(answers), 'photo')} looked up in the map <b>{label(town.folder.name)}</b> with "
        f"<b>{label(town.model.name)}</b>.</p>\n{tiles(figures)}\n"
    )
    title = "Where was it taken?" if len(answers) == 1 else "Where were they taken?"
    return write(page(title, intro, [*sections, reproduce_section(command)], pictures=thumbnails.css()), path)


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
    """The page of ``dejavlad demo``: a town, its map, photos located, and how often that is right.

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

    Returns:
        The file.
    """
    _fit(ranking, places)
    thumbnails = Thumbnails(400, budget, rotate=town.model.preprocess.rotate)
    judged = Judged.of(result, places, len(places.queries))
    contact = sheet(places.database, thumbnails)
    located_at, photos, failed = located_sections(
        answers, town.photos, thumbnails, notes=[_truly(answer, places) for answer in answers]
    )
    queries, shown = queries_section(ranking, places, judged, thumbnails, most=most_queries)
    drawn = places_section(ranking, places, judged, shown, title="Where it goes right and wrong")
    sections = [
        Section(
            "town",
            "A town",
            contact,
            f"{count(len(places.database), 'photo')} of streets, each with the position where it was taken: "
            "this is all that a map needs.",
        ),
        _map_section(town),
        photos,
        located_at,
        failed,
        None if learnt is None else learnt_section(learnt),
        recall_section(result, ranking),
        unread_section(result.unread),
        rerank_section(result),
        drawn,
        queries,
        matches_section(matches, thumbnails),
        numbers_section(result, places),
        reproduce_section(command),
    ]
    first = next(iter(result.recall.items()), None)
    right = (
        f" The first answer is right for <b>{percent(first[1])}</b> of them."
        if first and first[0] == 1
        else ""
    )
    intro = (
        "<p>A made town is driven through and photographed. The photos become a map, new photos are looked "
        f"up in it, and {count(result.n_queries, 'query', 'queries')} with known answers tell how well that "
        f"works.{right}</p>\n{result_tiles(result, places)}\n"
    )
    return write(page("From photos to places", intro, sections, pictures=thumbnails.css()), path)


def _truly(answer: Answer, places: PlaceDataset) -> str:
    """Where a photo of the demo was taken in truth."""
    taken = {photo.path: photo.position for photo in places.queries}
    if answer.path not in taken:
        return "In truth it was taken in streets that this map does not hold."
    off = apart(taken[answer.path], answer.matches[0].position) if answer.matches else None
    if off is None:
        return "In truth it was taken in the streets of this map."
    return f"In truth it was taken in the streets of this map, {metres(off)} from its best match."


def _map_section(town: PlaceMap) -> Section:
    placed = sum(position is not None for position in town.photos.positions)
    figures = [
        ("photos in the map", f"{len(town.photos):,}", False),
        ("with a position", f"{placed:,}", False),
        *([("could not be read", f"{len(bad):,}", False)] if (bad := unread(town.failed)) else []),
        *([("show nothing", f"{len(empty):,}", False)] if (empty := blank(town.failed)) else []),
        ("numbers describe a photo", f"{town.model.descriptor_size:,}", False),
    ]
    return Section(
        "map",
        "Its map",
        tiles(figures),
        f"Every photo becomes one short row of numbers, made by <b>{label(town.model.name)}</b>; photos of "
        "one place have rows that lie close together.",
    )


def _summary(result: Result | None, places: PlaceDataset) -> str:
    if result is None:
        return (
            f"{count(len(places.queries), 'query', 'queries')} ranked against "
            f"{count(len(places.database), 'database photo')}. Without truth there is no recall."
        )
    name = result.model.get("name") if result.model is not None else None
    how = f"<b>{plain(name)}</b>" if name is not None else "The ranking"
    first = next(iter(result.recall.items()))
    return (
        f"{how} finds the right place among {count(result.n_database, 'photo')} "
        + ("at once" if first[0] == 1 else f"among its first {first[0]} answers")
        + f" for <b>{percent(first[1])}</b> of {count(result.n_counted, 'query', 'queries')}."
    )


def _side(shown: int) -> int:
    """The longer side of thumbnails: larger where few photos are shown."""
    return 480 if shown <= 30 else 320


def _fit(ranking: Ranking, places: PlaceDataset) -> None:
    deepest = int(ranking.indices.max(initial=-1))
    if ranking.n_queries != len(places.queries) or deepest >= len(places.database):
        raise InputError(
            f"the ranking is of {ranking.n_queries} queries and rows to {deepest}, the lists have "
            f"{len(places.queries)} queries and {len(places.database)} database photos"
        )
