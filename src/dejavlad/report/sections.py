"""The parts that pages are put together from: each is a `Section`, or None where there is nothing to tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dejavlad.datasets import PlaceDataset
from dejavlad.evaluation import Result
from dejavlad.failures import blank, failures_text, unread
from dejavlad.photo import Photo, PhotoList
from dejavlad.ranking import Ranking
from dejavlad.report.gallery import MOST_QUERIES, Judged, gallery
from dejavlad.report.located import MOST_PHOTOS, failures, located, located_map
from dejavlad.report.numbers import (
    distances_table,
    facts,
    outcomes,
    parts_table,
    recall_table,
    reproduce,
)
from dejavlad.report.page import Section
from dejavlad.report.place_plot import Layer, place_plot, spread
from dejavlad.report.plots import distance_curve, recall_curve
from dejavlad.report.text import count, escape
from dejavlad.report.thumbnails import Thumbnails
from dejavlad.retrieval import Answer

SHEET = 18
"""Photos of a contact sheet."""


def recall_section(result: Result | None, ranking: Ranking) -> Section | None:
    """The recall curve beside its figures."""
    if result is None:
        return None
    return Section(
        "recall",
        "Recall",
        f'<div class="pair"><div class="card">{recall_curve(result, ranking.depth)}</div>'
        f'<div class="card">{recall_table(result)}{outcomes(result, ranking.depth)}</div></div>',
        "How often a right answer is among the first N: recall@N is the share of "
        f"{count(result.n_counted, 'query', 'queries')} with at least one right answer among their N best.",
    )


def parts_section(result: Result | None) -> Section | None:
    """Recall by parts, and over the distance within which an answer counts; None where neither is known."""
    if result is None or not (result.parts or result.by_distance):
        return None
    lead = "Which queries are hard" if result.parts else ""
    if result.by_distance:
        lead += ", and how near the answers are" if lead else "How near the answers are"
        lead += ": the share of queries with one of their first N answers taken at most so far away"
    cards = [distance_curve(result), parts_table(result) + distances_table(result)]
    html = "".join(f'<div class="card">{card}</div>' for card in cards if card)
    title = "Parts and distances" if result.parts and result.by_distance else None
    title = title or ("Parts" if result.parts else "How near the answers are")
    return Section("parts", title, f'<div class="pair">{html}</div>', lead + ".")


def queries_section(
    ranking: Ranking,
    places: PlaceDataset,
    judged: Judged,
    thumbnails: Thumbnails,
    *,
    most: int = MOST_QUERIES,
) -> tuple[Section, list[int]]:
    """The gallery of queries, and which queries are in it."""
    made = gallery(ranking, places, judged, thumbnails, most=most)
    scored = set(judged.states) - {"open"}
    lead = (
        "Failures come first, the worst of them at the top. A green frame marks a right answer; a dashed "
        "one a right answer that the ranking does not hold."
        if scored
        else "Each query with its best answers; without truth, nothing says which are right."
    )
    if not made.queries:
        return Section("queries", "Queries", '<p class="card">There are no queries to show.</p>'), []
    lead = " ".join(part for part in (lead, escape(made.lead)) if part)
    return Section("queries", "Queries and their best answers", made.html, lead), made.queries


def places_section(
    ranking: Ranking,
    places: PlaceDataset,
    judged: Judged,
    shown: Sequence[int],
    *,
    title: str = "Where the photos lie",
) -> Section | None:
    """The map of database and queries; None where no photo has a position."""
    database, queries = places.database, places.queries
    if not any(database.positions) and not any(queries.positions):
        return None
    cards = set(shown)
    styles = {"right": "m-good", "none": "m-none", "open": "m-ask", "wrong": "m-bad"}
    layers = [Layer("m-db", database.positions)]
    for state, style in styles.items():
        rows = [i for i, given in enumerate(judged.states) if given == state]
        layers.append(Layer(style, [queries[i].position for i in rows if i not in cards]))
    for state, style in styles.items():
        rows = [i for i in shown if judged.states[i] == state]
        if rows:
            layers.append(
                Layer(
                    style,
                    [queries[i].position for i in rows],
                    5.5,
                    [queries[i].key for i in rows],
                    [f"q{i}" for i in rows],
                )
            )
    best = ranking.indices[:, 0].tolist() if ranking.depth else [-1] * len(queries)
    lines = [
        (queries[i].position, database[best[i]].position)
        for i, state in enumerate(judged.states)
        if state == "wrong" and 0 <= best[i] < len(database)
    ]
    drawing = place_plot(
        layers, lines, alt=f"Map of {len(database)} database photos and {len(queries)} queries, north up"
    )
    if not drawing:
        return None
    names = {
        "right": '<i class="k-good"></i>query, first answer right',
        "wrong": '<i class="k-bad"></i>query, first answer wrong',
        "none": '<i class="k-none"></i>query without a right answer',
        "open": '<i class="k-ask"></i>query',
    }
    present = set(judged.states)
    key = "".join(f"<li>{told}</li>" for state, told in names.items() if state in present)
    if "wrong" in present and any(a is not None and b is not None for a, b in lines):
        key += '<li><i class="k-line"></i>from a wrong query to its best answer</li>'
    without = sum(p is None for p in [*database.positions, *queries.positions])
    lead = (
        f"{count(without, 'photo')} without a position {'is' if without == 1 else 'are'} not drawn."
        if without
        else ""
    )
    return Section(
        "places",
        title,
        f'<div class="card">{drawing}<ul class="key"><li><i></i>database photo</li>{key}</ul></div>',
        lead,
    )


def numbers_section(result: Result | None, places: PlaceDataset) -> Section | None:
    """All that the figures depend on."""
    if result is None:
        return None
    return Section("numbers", "Numbers", f'<div class="card">{facts(result, places)}</div>')


def reproduce_section(command: str | None) -> Section | None:
    """The command that made it all."""
    if command is None:
        return None
    return Section("again", "How to reproduce", reproduce(command))


def located_sections(
    answers: Sequence[Answer],
    photos: PhotoList,
    thumbnails: Thumbnails,
    *,
    asked: Sequence[Photo] | None = None,
    notes: Sequence[str] | None = None,
    most: int = MOST_PHOTOS,
) -> list[Section | None]:
    """Where the photos were taken, their cards, and those that could not be read or show nothing."""
    made = located(answers, photos, thumbnails, asked=asked, notes=notes, most=most)
    lead = (
        "The confidence is the estimated probability that the best match shows the same place; a place "
        "counts as known from the tick at 50&nbsp;% on."
    )
    drawing = located_map(answers, photos, made.answers)
    failed = {answer.name: answer.failed for answer in answers if answer.failed is not None}
    cards = None
    if made.answers:
        told = " ".join(filter(None, (lead, escape(made.lead))))
        cards = Section("photos", "Photos and their places", made.html, told)
    return [
        Section("located", "Where they were taken", drawing) if drawing else None,
        cards,
        failed_section(failed),
    ]


def failed_section(failed: Mapping[str, str], lead: str = "") -> Section | None:
    """Photos that could not be read, then those that show nothing, each with the reason; None without any."""
    if not failed:
        return None
    bad, empty = unread(failed), blank(failed)
    titles = {(True, False): "Photos that could not be read", (False, True): "Photos that show nothing"}
    title = titles.get((bool(bad), bool(empty)), "Photos that could not be read, or show nothing")
    told = f"{failures_text(failed)[:1].upper()}{failures_text(failed)[1:]}. {lead}".strip()
    return Section("failed", title, failures([*bad.items(), *empty.items()]), escape(told))


def unread_section(failed: Mapping[str, Mapping[str, str]] | None) -> Section | None:
    """Queries and database photos that could not be described; None where all could."""
    queries, database = ((failed or {}).get(what, {}) for what in ("queries", "database"))
    named = {f"query {key}": reason for key, reason in queries.items()}
    named |= {f"database {key}": reason for key, reason in database.items()}
    return failed_section(
        named,
        f"{count(len(queries), 'query', 'queries')} and {count(len(database), 'database photo')}: such a "
        "query counts as missed, and such a database photo is nobody's answer.",
    )


def sheet(photos: PhotoList, thumbnails: Thumbnails, number: int = SHEET) -> str:
    """Some of the photos, evenly spread, side by side."""
    chosen = [photos[i] for i in spread(len(photos), number)]
    shown = [photo for photo in chosen if thumbnails.admit([photo])]
    return f'<div class="sheet">{"".join(thumbnails.show(photo) for photo in shown)}</div>' if shown else ""
