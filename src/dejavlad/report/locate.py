"""The page of located photos: their places in a map, and how sure the map is of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dejavlad.errors import InputError
from dejavlad.photo import Photo, PhotoList
from dejavlad.places import Answer, PlaceMap
from dejavlad.places.filters import position_text
from dejavlad.report.charts.axes import spread
from dejavlad.report.charts.places import Layer, place_map
from dejavlad.report.gallery import ANSWERS
from dejavlad.report.lists import Tile, filter_choices, shown_part
from dejavlad.report.matches import ShownMatch, matches_section
from dejavlad.report.page import Section, write_sections
from dejavlad.report.sections import failed_section, reproduce_section
from dejavlad.report.templating import render
from dejavlad.report.text import count
from dejavlad.report.thumbnails import BUDGET, Thumbnails, side_of

MOST_PHOTOS = 160
"""Photos shown, at most."""
STATES = {"known": "Known places", "unknown": "Unknown"}


@dataclass(frozen=True, slots=True)
class Card:
    """A located photo with its best matches."""

    row: int
    """Of its answer."""
    answer: Answer
    photo: Photo
    matches: list[Tile]
    note: str
    """What else is known of it."""

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return "known" if self.answer.known else "unknown"


def write_locate_page(
    answers: Sequence[Answer],
    town: PlaceMap,
    path: str | Path,
    *,
    photos: Sequence[Photo] | None = None,
    command: str | None = None,
    matches: Sequence[ShownMatch] = (),
    most_photos: int = MOST_PHOTOS,
    budget: int = BUDGET,
) -> Path:
    """Write the page of located photos: each with its best places, how sure the map is, and where that is.

    Args:
        answers: from `PlaceMap.locate`.
        town: the map.
        path: the file, or an existing folder to write ``index.html`` in.
        photos: the photos that were located, in order: shown where the answers' paths do not lead to their
            pixels (arrays, frames of a video, crops).
        command: how the answers were made.
        matches: photos and answers whose matching patches are shown.
        most_photos: photos shown, at most.
        budget: bytes of thumbnails, at most.

    Raises:
        InputError: `photos` are other ones than those answered.
    """
    if photos is not None and [photo.key for photo in photos] != [answer.name for answer in answers]:
        raise InputError(
            f"{len(answers)} answers, but `photos` are other photos: give those that were located"
        )
    side = side_of(min(len(answers), most_photos))
    thumbnails = Thumbnails(side, budget, rotate=town.model.preprocess.rotate)
    sections = located_sections(answers, town.photos, thumbnails, photos=photos, most=most_photos)
    known = sum(answer.known for answer in answers)
    empty = sum(answer.blank for answer in answers)
    failed = sum(answer.failed is not None for answer in answers) - empty
    figures = [
        ("known places", known, True),
        ("not in the map", len(answers) - known - failed - empty, False),
        *([("could not be read", failed, False)] if failed else []),
        *([("show nothing", empty, False)] if empty else []),
        ("photos in the map", len(town.photos), False),
    ]
    tiles = [(what, f"{number:,}", main) for what, number, main in figures]
    intro = render("locate", "intro", n_answers=len(answers), town=town, tiles=tiles)
    return write_sections(
        path,
        "Where was it taken?" if len(answers) == 1 else "Where were they taken?",
        intro,
        [*sections, matches_section(matches, thumbnails), reproduce_section(command)],
        thumbnails.css(),
    )


def located_sections(
    answers: Sequence[Answer],
    database: PhotoList,
    thumbnails: Thumbnails,
    *,
    photos: Sequence[Photo] | None = None,
    notes: Sequence[str] | None = None,
    most: int = MOST_PHOTOS,
) -> list[Section | None]:
    """Where the photos were taken, their cards, and those that could not be read or show nothing.

    Args:
        answers: from `PlaceMap.locate`.
        database: the photos of the map.
        thumbnails: takes the photos in, and says when the budget is spent.
        photos: the located photos, where their files do not show them (arrays, crops, frames).
        notes: what else is known of each photo.
        most: photos shown, at most.
    """
    by_key = {photo.key: photo for photo in database}
    read = [row for row, answer in enumerate(answers) if answer.failed is None]
    cards: dict[int, Card] = {}
    for row in (read[i] for i in _spread_order(len(read), most)):
        answer = answers[row]
        photo = photos[row] if photos is not None else Photo(answer.name, answer.path)
        tiles = _tiles(answer, by_key)
        if not thumbnails.admit([photo, *(tile.photo for tile in tiles)]):
            break
        cards[row] = Card(row, answer, photo, tiles, notes[row] if notes else "")
    shown = [cards[row] for row in sorted(cards)]
    failed = {answer.name: answer.failed for answer in answers if answer.failed is not None}
    section = Section.of(
        "photos",
        "Photos and their places",
        "locate",
        cards=shown,
        choices=filter_choices([card.state for card in shown], STATES),
        part=shown_part(len(shown), len(read), "photo"),
        thumbnails=thumbnails,
    )
    return [
        _map_section(answers, database, sorted(cards)),
        section if shown else None,
        failed_section(failed),
    ]


def _map_section(answers: Sequence[Answer], database: PhotoList, shown: Sequence[int]) -> Section | None:
    """The map's photos and the estimated positions; None where no photo of the map has a position."""
    if not any(database.positions):
        return None
    placed = {row: answer for row, answer in enumerate(answers) if answer.position is not None}
    pins = {row: placed[row] for row in shown if row in placed}
    drawing = place_map(
        [
            Layer("m-db", database.positions),
            Layer("m-ask", [answer.position for row, answer in placed.items() if row not in pins]),
            Layer(
                "m-ask",
                [answer.position for answer in pins.values()],
                7,
                [answer.name for answer in pins.values()],
                [f"a{row}" for row in pins],
            ),
        ],
        alt=f"Map of {len(database)} photos, with the estimated positions of {len(placed)} photos",
    )
    if drawing is None:
        return None
    key = [("db", "photo of the map"), *([("ask", count(len(placed), "located photo"))] if placed else [])]
    values = {"drawing": drawing, "key": key, "without": 0}
    return Section("located", "Where they were taken", render("shared", "places", **values))


def _tiles(answer: Answer, by_key: dict[str, Photo]) -> list[Tile]:
    tiles = []
    for rank, match in enumerate(answer.matches[:ANSWERS], 1):
        facts = match.similarity_text.split(", ")
        if match.position is not None:
            facts.append(position_text(match.position))
        photo = by_key.get(match.name) or Photo(match.name, Path(match.path))
        tiles.append(Tile(photo, str(rank), facts, alt=f"match {match.name}"))
    return tiles


def _spread_order(number: int, most: int) -> list[int]:
    """Numbers below `number`, evenly spread, coarse steps first: then a small budget shows some of all."""
    chosen = spread(number, most)
    order: list[int] = []
    step = 1
    while step < len(chosen):
        step *= 2
    seen: set[int] = set()
    while step >= 1:
        for i in range(0, len(chosen), step):
            if i not in seen:
                seen.add(i)
                order.append(chosen[i])
        step //= 2
    return order
