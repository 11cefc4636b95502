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
from dejavlad.places.loops import Loop
from dejavlad.report.charts.axes import spread
from dejavlad.report.charts.curves import precision_recall_curve, sequence_chart
from dejavlad.report.charts.matrix import MOST_ROWS, matrix_chart
from dejavlad.report.charts.places import Layer, place_map
from dejavlad.report.lists import filter_choices, shown_part
from dejavlad.report.page import Section, write_sections
from dejavlad.report.sections import (
    facts_section,
    failed_section,
    protocol_facts,
    reproduce_section,
    time_facts,
)
from dejavlad.report.templating import render
from dejavlad.report.text import percent, plain
from dejavlad.report.thumbnails import BUDGET, Thumbnails

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
KEY = {
    "right": "given and right",
    "wrong": "given, but wrong",
    "missed": "a loop, but not given",
    "open": "given",
    "kept": "not given",
}
"""What the colours of the drawings mean."""


@dataclass(frozen=True, slots=True, eq=False)
class LoopStory:
    """A sequence and its loops: all that the page shows."""

    frames: PhotoList
    """The sequence."""
    loops: Sequence[Loop]
    """Each frame's best earlier frame, in order."""
    given: Sequence[bool]
    """Which of them are given as loops."""
    settings: Mapping[str, Any]
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
        states = []
        for loop, given, right in zip(self.loops, self.given, self.score.right.tolist(), strict=True):
            revisit = self.revisits is not None and bool(self.revisits[loop.frame])
            states.append(("right" if right else "wrong") if given else "missed" if revisit else "kept")
        return states


def shown_frames(n_frames: int) -> list[int]:
    """Frames that the matrix of similarities shows."""
    return spread(n_frames, MOST_ROWS)


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
        story: what it shows.
        path: the file, or an existing folder to write ``index.html`` in.
        command: how it was made.
        rotate: as the model read photos: ``model.preprocess.rotate``.
        budget: bytes of thumbnails, at most.
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
        reproduce_section(command),
    ]
    intro = render("loops", "intro", story=story, wrong=states.count("wrong"), tiles=_tiles(story))
    return write_sections(path, "Been here before?", intro, sections, thumbnails.css())


def _tiles(story: LoopStory) -> list[tuple[str, str, bool]]:
    figures: list[tuple[str, str, bool]] = []
    if story.score is not None:
        curve = story.score.curve.to_dict()
        figures += [
            ("recall at 100 % precision", percent(curve["recall_at_100_precision"]), True),
            ("area under the curve", f"{curve['auc']:.3f}", False),
        ]
        if "max_f1" in curve:
            figures.append(("best F1", f"{curve['max_f1']:.3f}", False))
    return [
        *figures,
        ("loops given", f"{sum(story.given):,}", story.score is None),
        ("frames", f"{len(story.frames):,}", False),
    ]


def _curve_section(story: LoopStory) -> Section | None:
    if story.score is None:
        return None
    curve, right = story.score.curve, story.score.right
    points: list[tuple[str, float | None, float, float]] = []
    if (full := curve.score_at_full_precision) is not None:
        points.append(("no error", full, 1.0, curve.recall_at_full_precision))
    if (best := curve.best) is not None:
        for name, i in (("best F1", best), ("every frame", -1)):
            points.append((name, float(curve.scores[i]), float(curve.precision[i]), float(curve.recall[i])))
    given = np.asarray(story.given, bool)
    if given.any():
        hits = int((right & given).sum())
        points.append(("as given", None, hits / int(given.sum()), hits / curve.relevant))
    rows = [
        (name, ("–" if score is None else f"{score:.3f}", percent(precision), percent(recall)))
        for name, score, precision, recall in points
    ]
    return Section.of(
        "curve", "Precision and recall", "loops", drawing=precision_recall_curve(curve), rows=rows
    )


def _sequence_section(story: LoopStory, states: Sequence[str]) -> Section | None:
    def pair(loop: Loop) -> str:
        return f"{story.frames[loop.frame].key} and {story.frames[loop.closes].key}, {loop.score:.3f}"

    dots = [
        (loop.frame, loop.score, COLOURS[state], pair(loop))
        for loop, state in zip(story.loops, states, strict=True)
    ]
    faultless = None if story.score is None else story.score.curve.score_at_full_precision
    revisits = None if story.revisits is None else story.revisits.tolist()
    drawing = sequence_chart(dots, len(story.frames), revisits, faultless)
    if drawing is None:
        return None
    return Section.of(
        "sequence",
        "Along the sequence",
        "loops",
        drawing=drawing,
        key=_key(states),
        shaded=revisits is not None,
        line=faultless is not None,
    )


def _matrix_section(story: LoopStory, states: Sequence[str]) -> Section | None:
    if story.similar is None:
        return None
    given = [
        (loop, state)
        for loop, state in zip(story.loops, states, strict=True)
        if state not in ("kept", "missed")
    ]
    pairs = [(loop.frame, loop.closes, COLOURS[state]) for loop, state in given]
    n_frames, alt = len(story.frames), "How much each two frames resemble each other"
    bare = matrix_chart(story.similar, n_frames, [], alt)
    drawing = matrix_chart(story.similar, n_frames, pairs, f"{alt}, with the loops that were given")
    if bare is None or drawing is None:
        return None
    key = _key([state for _, state in given])
    title = "Every frame against every other"
    return Section.of("matrix", title, "loops", bare=bare, drawing=drawing, key=key)


def _track_section(story: LoopStory, states: Sequence[str]) -> Section | None:
    positions = story.frames.positions
    layers = [Layer("m-db", positions)]
    for state in ("open", "missed", "right", "wrong"):
        frames = [loop.frame for loop, other in zip(story.loops, states, strict=True) if other == state]
        layers.append(Layer(f"m-{COLOURS[state]}", [positions[frame] for frame in frames]))
    wrong = [
        (positions[loop.frame], positions[loop.closes])
        for loop, state in zip(story.loops, states, strict=True)
        if state == "wrong"
    ]
    drawing = place_map(layers, wrong, alt=f"Where the {len(positions)} frames were taken")
    if drawing is None:
        return None
    key = [("db", "frame"), *_key([state for state in states if state != "kept"])]
    return Section("track", "Where", render("shared", "places", drawing=drawing, key=key, without=0))


def _cards(story: LoopStory, states: Sequence[str], thumbnails: Thumbnails) -> Section | None:
    by_state = {name: [row for row, state in enumerate(states) if state == name] for name in NAMES}
    by_state["wrong"].sort(key=lambda row: -story.loops[row].score)
    total = sum(map(len, by_state.values()))
    if not total:
        return None
    chosen: list[int] = []
    for state, rows in by_state.items():
        most = MOST_CARDS if state == "wrong" else MOST_CARDS // 3
        for row in (rows[i] for i in spread(len(rows), most)):
            loop = story.loops[row]
            if not thumbnails.admit([story.frames[loop.frame], story.frames[loop.closes]]):
                break
            chosen.append(row)
    return Section.of(
        "loops",
        "Loops",
        "loops",
        cards=[(row, states[row], story.loops[row]) for row in chosen],
        frames=story.frames,
        right=None if story.score is None else story.score.right.tolist(),
        choices=filter_choices([states[row] for row in chosen], NAMES),
        wrong="wrong" in states,
        part=shown_part(len(chosen), total, "loop"),
        thumbnails=thumbnails,
    )


def _numbers_section(story: LoopStory) -> Section:
    rows = [(name, plain(value), True) for name, value in story.settings.items()]
    if story.score is not None:
        rows.append(("Frames that close a loop", f"{story.score.curve.relevant:,}", False))
        rows += protocol_facts(story.score.protocol) + time_facts(story.score.seconds)
    return facts_section(rows)


def _key(states: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and meaning of each state that occurs."""
    return [(COLOURS[state], meaning) for state, meaning in KEY.items() if state in states]
