"""The page of loop closures: how surely they are found, where, and what they look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.evaluation.loops import LoopScore
from dejavlad.photo import PhotoList
from dejavlad.report.gallery import filter_tools, label_text
from dejavlad.report.loop_plots import MATRIX, matrix_plot, precision_recall_plot, sequence_plot
from dejavlad.report.numbers import grid, reproduce, table, tiles
from dejavlad.report.page import Section, page, write
from dejavlad.report.place_plot import Layer, place_plot, spread
from dejavlad.report.sections import failed_section
from dejavlad.report.text import count, duration, escape, label, percent, plain, sure
from dejavlad.report.thumbnails import BUDGET, Thumbnails
from dejavlad.retrieval.loops import Loop

MOST_CARDS = 120
"""Loops shown, at most."""

COLOURS = {"wrong": "bad", "right": "good", "missed": "ask", "kept": "none", "open": "good"}
"""State of a loop -> its colour."""
NAMES = {
    "wrong": "Given, but wrong",
    "right": "Given and right",
    "missed": "A loop, but not given",
    "open": "Given",
}
"""States that have cards, in the order in which they are shown."""


@dataclass(frozen=True, slots=True, eq=False)
class LoopStory:
    """All that the page tells of."""

    frames: PhotoList
    """The sequence."""
    loops: Sequence[Loop]
    """Each frame's best earlier frame, in order."""
    given: Sequence[bool]
    """Which of them are given as loops."""
    how: Mapping[str, Any]
    """Window, sequence, from when on a loop is given, the model: name -> value."""
    score: LoopScore | None = None
    """How well that is, where the truth is known."""
    revisits: NDArray[np.bool_] | None = None
    """bool [N], whether each frame closes a loop, where the truth is known."""
    similar: NDArray[np.floating] | None = None
    """[K, K] similarities of K frames evenly spread (`shown_frames`)."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Frames that could not be read, or show nothing: key -> reason; they close no loop."""

    @property
    def states(self) -> list[str]:
        """What each loop is: a name of `COLOURS`."""
        if self.score is None:
            return ["open" if given else "kept" for given in self.given]
        found = []
        for loop, given, right in zip(self.loops, self.given, self.score.right.tolist(), strict=True):
            there = self.revisits is not None and bool(self.revisits[loop.frame])
            found.append(("right" if right else "wrong") if given else "missed" if there else "kept")
        return found


def shown_frames(n_frames: int) -> list[int]:
    """Frames that the matrix of similarities shows."""
    return spread(n_frames, MATRIX)


def write_loops_page(
    story: LoopStory,
    path: str | Path,
    *,
    command: str | None = None,
    rotate: bool = True,
    budget: int = BUDGET,
) -> Path:
    """Write the page: one HTML file that loads nothing.

    Args:
        story: what it tells of.
        path: the file, or an existing folder to write ``index.html`` in.
        command: how it was made.
        rotate: as the model read photos: ``model.preprocess.rotate``.
        budget: bytes of thumbnails, at most.

    Returns:
        The file.
    """
    states = story.states
    thumbnails = Thumbnails(400, budget, rotate=rotate)
    cards = _cards(story, states, thumbnails)
    sections = [
        _curve_section(story),
        _sequence_section(story, states),
        _matrix_section(story, states),
        _track_section(story, states),
        cards,
        failed_section(story.failed, "These frames close no loop, and none closes one with them."),
        _numbers_section(story),
        None if command is None else Section("again", "How to reproduce", reproduce(command)),
    ]
    intro = f"<p>{_summary(story, states)}</p>\n{_tiles(story)}\n"
    return write(page("Been here before?", intro, sections, pictures=thumbnails.css()), path)


def _summary(story: LoopStory, states: Sequence[str]) -> str:
    given = sum(story.given)
    text = (
        f"{count(len(story.frames), 'frame')} of <b>{label(story.frames.name)}</b> in their order, each "
        f"compared with the earlier ones: <b>{count(given, 'loop')}</b> given"
    )
    if story.score is None:
        return text + ". Without truth, nothing says which are right."
    wrong = states.count("wrong")
    return text + (
        f", {'none' if not wrong else f'{wrong:,}'} of them wrong, of the "
        f"{story.score.curve.relevant:,} that there are."
    )


def _tiles(story: LoopStory) -> str:
    figures: list[tuple[str, str, bool]] = []
    if story.score is not None:
        told = story.score.curve.to_dict()
        figures += [
            ("recall at 100&nbsp;% precision", percent(told["recall_at_100_precision"]), True),
            ("area under the curve", f"{told['auc']:.3f}", False),
        ]
        if "max_f1" in told:
            figures.append(("best F1", f"{told['max_f1']:.3f}", False))
    figures += [
        ("loops given", f"{sum(story.given):,}", story.score is None),
        ("frames", f"{len(story.frames):,}", False),
    ]
    return tiles(figures)


def _curve_section(story: LoopStory) -> Section | None:
    if story.score is None:
        return None
    curve, right = story.score.curve, story.score.right
    rows: list[tuple[str, float | None, float, float]] = []
    if (full := curve.score_at_full_precision) is not None:
        rows.append(("no error", full, 1.0, curve.recall_at_full_precision))
    if (best := curve.best) is not None:
        rows.append(
            ("best F1", float(curve.scores[best]), float(curve.precision[best]), float(curve.recall[best]))
        )
        rows.append(
            ("every frame", float(curve.scores[-1]), float(curve.precision[-1]), float(curve.recall[-1]))
        )
    given = np.asarray(story.given, bool)
    if given.any():
        hits = int((right & given).sum())
        rows.append(("as given", None, hits / int(given.sum()), hits / curve.relevant))
    figures = grid(
        "Precision and recall",
        ("loops given", "from score", "precision", "recall"),
        (
            (name, ("–" if score is None else f"{score:.3f}", percent(precision), percent(recall)))
            for name, score, precision, recall in rows
        ),
    )
    return Section(
        "curve",
        "Precision and recall",
        f'<div class="pair"><div class="card">{precision_recall_plot(curve)}</div>'
        f'<div class="card">{figures}</div></div>',
        "The surer a loop must be to be given, the fewer are wrong, and the fewer are found.",
    )


def _sequence_section(story: LoopStory, states: Sequence[str]) -> Section | None:
    dots = [
        (
            loop.frame,
            loop.score,
            COLOURS[state],
            f"{_name(story, loop.frame)} and {_name(story, loop.closes)}, {loop.score:.3f}",
        )
        for loop, state in zip(story.loops, states, strict=True)
    ]
    faultless = None if story.score is None else story.score.curve.score_at_full_precision
    revisits = None if story.revisits is None else story.revisits.tolist()
    drawing = sequence_plot(dots, len(story.frames), revisits, faultless)
    if not drawing:
        return None
    lead = "How much each frame resembles the earlier one that it resembles most."
    if revisits is not None:
        lead += " Shaded: frames that do close a loop, by the truth."
    if faultless is not None:
        lead += " From the dashed line on, none is wrong."
    return Section("sequence", "Along the sequence", f'<div class="card">{drawing}{_key(states)}</div>', lead)


def _matrix_section(story: LoopStory, states: Sequence[str]) -> Section | None:
    if story.similar is None:
        return None
    pairs = [
        (loop.frame, loop.closes, COLOURS[state])
        for loop, state in zip(story.loops, states, strict=True)
        if state not in ("kept", "missed")
    ]
    key = _key([state for state in states if state not in ("kept", "missed")])
    bare = matrix_plot(story.similar, len(story.frames), [], "How much each two frames resemble each other")
    drawing = matrix_plot(story.similar, len(story.frames), pairs, "The same, with the loops that were given")
    if not drawing:
        return None
    return Section(
        "matrix",
        "Every frame against every other",
        f'<div class="pair even"><div class="card">{bare}</div><div class="card">{drawing}{key}</div></div>',
        "A row a frame, a column an earlier one, darker where they resemble each other more. A passage gone "
        "through again is a line beside the diagonal. To the right, the loops that were given.",
    )


def _track_section(story: LoopStory, states: Sequence[str]) -> Section | None:
    positions = story.frames.positions
    if not any(positions):
        return None
    layers = [Layer("m-db", positions)]
    for state in ("open", "missed", "right", "wrong"):
        rows = [loop.frame for loop, held in zip(story.loops, states, strict=True) if held == state]
        layers.append(Layer(f"m-{COLOURS[state]}", [positions[i] for i in rows]))
    wrong = [
        (positions[loop.frame], positions[loop.closes])
        for loop, held in zip(story.loops, states, strict=True)
        if held == "wrong"
    ]
    drawing = place_plot(layers, wrong, alt=f"Where the {len(positions)} frames were taken")
    if not drawing:
        return None
    key = '<ul class="key"><li><i></i>frame</li>' + _items([s for s in states if s != "kept"]) + "</ul>"
    return Section("track", "Where", f'<div class="card">{drawing}{key}</div>')


def _cards(story: LoopStory, states: Sequence[str], thumbnails: Thumbnails) -> Section | None:
    by_state: dict[str, list[int]] = {
        state: [i for i, held in enumerate(states) if held == state] for state in NAMES
    }
    by_state["wrong"].sort(key=lambda i: -story.loops[i].score)
    total = sum(map(len, by_state.values()))
    if not total:
        return None
    chosen: list[int] = []
    for state, rows in by_state.items():
        most = MOST_CARDS if state == "wrong" else MOST_CARDS // 3
        for i in (rows[j] for j in spread(len(rows), most)):
            loop = story.loops[i]
            if not thumbnails.admit([story.frames[loop.frame], story.frames[loop.closes]]):
                break
            chosen.append(i)
    html = "\n".join(_card(story, i, states[i], thumbnails) for i in chosen)
    there = {state: sum(states[i] == state for i in chosen) for state in NAMES}
    choices = [("", f"All {len(chosen)}"), *((s, f"{NAMES[s]} {n}") for s, n in there.items() if n)]
    told = "" if len(chosen) == total else f" To keep this file small it shows {len(chosen):,} of {total:,}."
    return Section(
        "loops",
        "Loops",
        f'{filter_tools("loops-tools", choices, "frames")}<div class="twins" data-list="loops-tools">\n'
        f"{html}\n</div>",
        "A frame, and the earlier one that it resembles most."
        + (" Wrong ones come first, the surest at the top." if "wrong" in states else "")
        + told,
    )


def _card(story: LoopStory, row: int, state: str, thumbnails: Thumbnails) -> str:
    loop = story.loops[row]
    frame, closes = story.frames[loop.frame], story.frames[loop.closes]
    chips = {
        "wrong": ("bad", "✗ Wrong"),
        "right": ("good", "✓ Right"),
        "missed": ("none", "Not given"),
        "open": ("", "Given"),
    }
    kind, told = chips[state]
    if state == "missed" and story.score is not None:
        told += ", would be right" if story.score.right[row] else ", would be wrong"
    names = [story.frames[number].key for number in (loop.frame, loop.closes)]
    photos = "".join(
        f'<div><div class="frame">{thumbnails.show(photo)}<span class="tag">{number:,}</span></div>'
        f'<p class="note">{label(photo.key)}</p></div>'
        for number, photo in ((loop.frame, frame), (loop.closes, closes))
    )
    return (
        f'<article class="card" id="l{row}" data-state="{state}" data-name="{label(" ".join(names))}">'
        f'<div class="head"><span class="chip {kind}">{told}</span>'
        f'<span class="note">score {loop.score:.3f}, '
        f"confidence {sure(loop.confidence)}, {loop.frame - loop.closes:,} frames before</span></div>"
        f'<div class="pair even">{photos}</div></article>'
    )


def _numbers_section(story: LoopStory) -> Section:
    rows = [(escape(name), f"<code>{plain(value)}</code>") for name, value in story.how.items()]
    if story.score is not None:
        rows += [
            ("Frames that close a loop", f"{story.score.curve.relevant:,}"),
            *((_title(key), f"<code>{plain(value)}</code>") for key, value in story.score.protocol.items()),
            *((f"Time to {escape(key)}", escape(duration(s))) for key, s in story.score.seconds.items()),
        ]
    return Section(
        "numbers", "Numbers", f'<div class="card">{table(rows, "What the figures depend on")}</div>'
    )


def _title(key: str) -> str:
    words = key.replace("_", " ")
    return plain(words[:1].upper() + words[1:])


def _key(states: Sequence[str]) -> str:
    return f'<ul class="key">{_items(states)}</ul>'


def _items(states: Sequence[str]) -> str:
    names = {
        "right": "given and right",
        "wrong": "given, but wrong",
        "missed": "a loop, but not given",
        "open": "given",
        "kept": "not given",
    }
    classes = {"good": "k-good", "bad": "k-bad", "none": "k-none", "ask": "k-ask"}
    present = set(states)
    return "".join(
        f'<li><i class="{classes[COLOURS[state]]}"></i>{told}</li>'
        for state, told in names.items()
        if state in present
    )


def _name(story: LoopStory, frame: int) -> str:
    return label_text(story.frames[frame])
