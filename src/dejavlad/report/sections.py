"""Sections that several pages have: each is a `Section`, or None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dejavlad.datasets.audit.near_duplicates import near_duplicates_text
from dejavlad.evaluation import Result
from dejavlad.failures import blank, failures_text, unread
from dejavlad.ground_truth import PlaceDataset
from dejavlad.photo.search import remarks
from dejavlad.ranking import Ranking
from dejavlad.report.charts.places import Layer, place_map
from dejavlad.report.gallery import Judged
from dejavlad.report.page import Section
from dejavlad.report.text import capitalized, count, duration, plain, shorten

LONGEST_COMMAND = 20_000
"""Characters of a command that a page shows."""
MOST_FAILED = 500
"""Photos that could not be used that are listed, at most."""
QUERY_KINDS = {
    "right": ("good", "query, first answer right"),
    "wrong": ("bad", "query, first answer wrong"),
    "none": ("none", "query without a right answer"),
    "open": ("ask", "query"),
}
"""State of a query -> its colour and meaning on the map."""

Fact = tuple[str, str, bool]
"""Name, value, and whether that is written as code."""


def places_section(
    ranking: Ranking,
    places: PlaceDataset,
    judged: Judged,
    shown: Sequence[int],
    *,
    title: str = "Where the photos lie",
) -> Section | None:
    """The map of database and queries; None where no photo has a position.

    Args:
        ranking: rows of the database for each query.
        places: the photos.
        judged: how the queries were answered.
        shown: queries that have a card to lead to.
        title: of the section.
    """
    database, queries = places.database, places.queries
    cards = set(shown)
    layers = [Layer("m-db", database.positions)]
    pins: list[Layer] = []
    for state, (colour, _) in QUERY_KINDS.items():
        alike = [row for row, other in enumerate(judged.states) if other == state]
        layers.append(Layer(f"m-{colour}", [queries[row].position for row in alike if row not in cards]))
        rows = [row for row in shown if judged.states[row] == state]
        at, names = [queries[row].position for row in rows], [queries[row].key for row in rows]
        pins.append(Layer(f"m-{colour}", at, 5.5, names, [f"q{row}" for row in rows]))
    best = ranking.indices[:, 0].tolist() if ranking.depth else [-1] * len(queries)
    lines = [
        (queries[row].position, database[best[row]].position)
        for row, state in enumerate(judged.states)
        if state == "wrong" and 0 <= best[row] < len(database)
    ]
    alt = f"Map of {len(database)} database photos and {len(queries)} queries, north up"
    drawing = place_map([*layers, *pins], lines, alt=alt)
    if drawing is None:
        return None
    key = [("db", "database photo"), *(QUERY_KINDS[s] for s in QUERY_KINDS if s in judged.states)]
    if any(a is not None and b is not None for a, b in lines):
        key.append(("line", "from a wrong query to its best answer"))
    without = sum(position is None for position in [*database.positions, *queries.positions])
    return Section.of("places", title, "shared", drawing=drawing, key=key, without=without)


def numbers_section(result: Result | None, places: PlaceDataset) -> Section | None:
    """Counts, model, protocol and seconds: all that the figures depend on."""
    if result is None:
        return None
    missing = count(result.n_without_truth, "query", "queries")
    dropped = "left out" if result.protocol.get("misses") == "drop" else "counted as misses"
    rows: list[Fact] = [
        ("Dataset", plain(places.name), False),
        ("Database", count(result.n_database, "photo"), False),
        ("Queries", count(result.n_queries, "query", "queries"), False),
        ("Without a right answer", f"{missing} ({dropped})" if result.n_without_truth else "none", False),
        ("Recall is a share of", count(result.n_counted, "query", "queries"), False),
    ]
    if duplicates := near_duplicates_text(result.twins):
        rows.append(("Queries in the database too", plain(duplicates), False))
    model = result.model or {}
    rows += [(f"Model {key}", plain(value), True) for key, value in model.items() if value is not None]
    if result.rerank is not None:
        rows.append(("Re-ranked", plain(result.rerank), False))
    if places.protocol is not None:
        rows.append(("What is right", plain(places.protocol), True))
    rows += [(plain(name), f"{value:.4f}", False) for name, value in result.metrics.items()]
    rows += protocol_facts(result.protocol) + made_facts(result.made_with) + time_facts(result.seconds)
    return facts_section(rows)


def facts_section(rows: Sequence[Fact]) -> Section:
    """A table of all that the figures depend on."""
    return Section.of("numbers", "Numbers", "shared", rows=rows)


def protocol_facts(protocol: Mapping[str, object]) -> list[Fact]:
    """Entries of a protocol, those of its truth among them."""
    flat: dict[str, object] = {}
    for key, value in protocol.items():
        if key == "truth" and isinstance(value, Mapping):
            flat |= {f"truth {name}": inner for name, inner in value.items()}
        elif value is not None:
            flat[key] = value
    return [(capitalized(key), plain(value), True) for key, value in flat.items()]


def made_facts(made_with: Mapping[str, object]) -> list[Fact]:
    """What else it takes to do it again; the command has a section of its own."""
    known = {key: value for key, value in made_with.items() if key != "command" and value is not None}
    flat = {key: value for key, value in known.items() if not isinstance(value, Mapping)}
    for key, values in known.items():
        if isinstance(values, Mapping):
            flat[key] = ", ".join(f"{name} {value}" for name, value in values.items())
    return [(capitalized(key), plain(value), True) for key, value in flat.items()]


def time_facts(seconds: Mapping[str, float]) -> list[Fact]:
    """How long each step took."""
    return [(f"Time to {key}", duration(value), False) for key, value in seconds.items()]


def reproduce_section(command: str | None, title: str = "How to reproduce") -> Section | None:
    """The command, ready to be copied."""
    if command is None:
        return None
    return Section.of("again", title, "shared", lines=shorten(command, LONGEST_COMMAND).split("\n"))


def failed_section(failed: Mapping[str, str], lead: str = "") -> Section | None:
    """Photos that could not be read, then those that show nothing, each with the reason; None without any.

    Args:
        failed: name -> reason.
        lead: a sentence about what that means.
    """
    if not failed:
        return None
    bad, empty = unread(failed), blank(failed)
    titles = {(True, False): "Photos that could not be read", (False, True): "Photos that show nothing"}
    title = titles.get((bool(bad), bool(empty)), "Photos that could not be read, or show nothing")
    rows = [*bad.items(), *empty.items()]
    summary = f"{capitalized(failures_text(failed))}. {lead}"
    return Section.of(
        "failed", title, "shared", lead=summary, rows=rows[:MOST_FAILED], more=len(rows[MOST_FAILED:])
    )


def notes_section(places: PlaceDataset) -> Section | None:
    """What the lists of photos left out, passed over or assumed; None where there is nothing to tell."""
    lists = (("database", places.database), ("queries", places.queries))
    rows = [(what, line) for what, photos in lists for line in remarks(photos)]
    return Section.of("notes", "Notes on the photos", "shared", rows=rows[:MOST_FAILED]) if rows else None


def unread_section(failed: Mapping[str, Mapping[str, str]] | None) -> Section | None:
    """Queries and database photos that could not be described; None where all could."""
    queries, database = ((failed or {}).get(what, {}) for what in ("queries", "database"))
    named = {f"query {key}": reason for key, reason in queries.items()}
    named |= {f"database {key}": reason for key, reason in database.items()}
    return failed_section(
        named,
        f"{count(len(queries), 'query', 'queries')} and {count(len(database), 'database photo')}: such a "
        "query counts as missed, and such a database photo is never an answer.",
    )
