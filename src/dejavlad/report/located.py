"""Photos with the places that a map found for them, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dejavlad.photo import Photo, PhotoList
from dejavlad.report.gallery import ANSWERS, card, filter_tools
from dejavlad.report.place_plot import Layer, place_plot, spread
from dejavlad.report.plots import confidence_bar
from dejavlad.report.text import count, escape, label, sure
from dejavlad.report.thumbnails import Thumbnails
from dejavlad.retrieval import Answer
from dejavlad.retrieval.answer import position_text

MOST_PHOTOS = 160
"""Photos shown, at most."""
MOST_FAILED = 500
"""Photos that could not be read that are listed, at most."""
STATES = {"known": "Known places", "unknown": "Unknown"}


@dataclass(frozen=True, slots=True)
class Located:
    """The cards of located photos."""

    answers: list[int]
    """Rows of the answers that are shown, in order."""
    html: str
    lead: str
    """Which are shown, in words; empty where all are."""


def located(
    answers: Sequence[Answer],
    photos: PhotoList,
    thumbnails: Thumbnails,
    *,
    asked: Sequence[Photo] | None = None,
    notes: Sequence[str] | None = None,
    most: int = MOST_PHOTOS,
) -> Located:
    """Each photo with its best places.

    Args:
        answers: from `PlaceMap.locate`.
        photos: the photos of the map.
        thumbnails: takes the photos in, and says when the budget is spent.
        asked: the photos that were asked about, where their files do not tell (arrays, crops, frames).
        notes: what else is known of each photo, as HTML.
        most: photos shown, at most.
    """
    of_key = {photo.key: photo for photo in photos}
    read = [i for i, answer in enumerate(answers) if answer.failed is None]
    chosen: list[int] = []
    for i in (read[j] for j in _spread_order(len(read), most)):
        if not thumbnails.admit(_pictures(answers[i], _asked(answers[i], i, asked), of_key)):
            break
        chosen.append(i)
    chosen.sort()
    cards = "\n".join(
        _card(answers[i], i, _asked(answers[i], i, asked), of_key, thumbnails, notes[i] if notes else "")
        for i in chosen
    )
    states = [_state(answers[i]) for i in chosen]
    there = {state: states.count(state) for state in STATES if state in states}
    choices = [("", f"All {len(states)}")]
    if len(there) > 1:
        choices += [(state, f"{STATES[state]} {held}") for state, held in there.items()]
    tools = filter_tools("photos-tools", choices, "photos") if len(chosen) > 3 else ""
    listed = ' data-list="photos-tools"' if tools else ""
    lead = (
        f"To keep this file small it shows {len(chosen):,} of {len(read):,} photos."
        if len(chosen) < len(read)
        else ""
    )
    return Located(chosen, f'{tools}<div class="cards"{listed}>\n{cards}\n</div>' if chosen else "", lead)


def failures(failed: Sequence[tuple[str, str]]) -> str:
    """A table of photos that could not be read, or show nothing, with the reason; empty where there are none.

    Args:
        failed: name and reason of each.
    """
    if not failed:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{label(name)}</th><td>{escape(reason[:300])}</td></tr>'
        for name, reason in failed[:MOST_FAILED]
    )
    more = f'<p class="note">And {len(failed) - MOST_FAILED:,} more.</p>' if len(failed) > MOST_FAILED else ""
    return (
        '<div class="card"><div class="scroll"><table><thead><tr><th scope="col">photo</th>'
        f'<th scope="col">why</th></tr></thead><tbody>{rows}</tbody></table></div>{more}</div>'
    )


def located_map(answers: Sequence[Answer], photos: PhotoList, shown: Sequence[int]) -> str:
    """The map's photos and the estimated positions; nothing where none is known.

    Args:
        answers: from `PlaceMap.locate`.
        photos: the photos of the map.
        shown: rows of the answers that have a card to lead to.
    """
    if not any(photos.positions):
        return ""
    here = {i: answer for i, answer in enumerate(answers) if answer.position is not None}
    cards = set(shown)
    pins = [i for i in shown if i in here]
    others = Layer("m-ask", [here[i].position for i in here if i not in cards])
    pinned = Layer(
        "m-ask", [here[i].position for i in pins], 7, [here[i].name for i in pins], [f"a{i}" for i in pins]
    )
    drawing = place_plot(
        [Layer("m-db", photos.positions), others, pinned],
        alt=f"Map of {len(photos)} photos, with the estimated positions of {len(here)} photos",
    )
    key = (
        '<ul class="key"><li><i></i>photo of the map</li>'
        + (f'<li><i class="k-ask"></i>{count(len(here), "located photo")}</li>' if here else "")
        + "</ul>"
    )
    return f'<div class="card">{drawing}{key}</div>' if drawing else ""


def _spread_order(number: int, most: int) -> list[int]:
    """Evenly spread places, so that a budget that ends early still shows some of all: coarse steps first."""
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


def _state(answer: Answer) -> str:
    return "known" if answer.known else "unknown"


def _asked(answer: Answer, row: int, asked: Sequence[Photo] | None) -> Photo:
    return asked[row] if asked is not None else Photo(answer.name, answer.path)


def _pictures(answer: Answer, asked: Photo, of_key: dict[str, Photo]) -> list[Photo]:
    return [asked, *(_matched(match.name, match.path, of_key) for match in answer.matches[:ANSWERS])]


def _matched(name: str, path: object, of_key: dict[str, Photo]) -> Photo:
    from pathlib import Path

    return of_key[name] if name in of_key else Photo(name, Path(str(path)))


def _card(
    answer: Answer, row: int, asked: Photo, of_key: dict[str, Photo], thumbnails: Thumbnails, note: str
) -> str:
    chip = (
        '<span class="chip good">✓ Known place</span>'
        if answer.known
        else '<span class="chip none">Not a place of this map</span>'
    )
    where = (
        f'<span class="mono">{escape(position_text(answer.position))}</span>'
        if answer.position is not None
        else ""
    )
    tiles = "".join(
        f'<li><div class="frame">'
        f"{thumbnails.show(_matched(match.name, match.path, of_key), f'match {match.name[:100]}')}"
        f'<span class="tag">{rank}</span></div>'
        f'<div class="who" title="{label(match.name)}">{label(match.name)}</div>score {match.score:.3f}'
        + (f"<br>{escape(position_text(match.position))}" if match.position is not None else "")
        + "</li>"
        for rank, match in enumerate(answer.matches[:ANSWERS], 1)
    )
    bar = confidence_bar(answer.confidence, answer.known)
    beside = f'<div class="head">{chip}{where}</div>'
    beside += f'<div class="sure">Confidence {sure(answer.confidence)}{bar}</div>'
    beside += f'<ol class="answers">{tiles}</ol>' if tiles else ""
    beside += f'<p class="note gap">{note}</p>' if note else ""
    return card(f"a{row}", _state(answer), asked, thumbnails, beside)
