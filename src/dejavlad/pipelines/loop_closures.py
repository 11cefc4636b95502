"""Loop closures of a sequence that is described: found, verified, measured, and written with their page.

The folder::

    RESULTS/loops.csv          each frame with the earlier one that it resembles most, and whether it is right
    RESULTS/predictions.txt    the loops that are given, for `dejavlad pairs`
    RESULTS/result.json        the figures, and all that they depend on
    RESULTS/index.html         the page

Legend: N frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dejavlad.errors import InputError
from dejavlad.evaluation import list_hash
from dejavlad.evaluation.loops import both_ways as measure_both_ways
from dejavlad.evaluation.loops import reachable, score_loops, write_json
from dejavlad.evaluation.predictions import write_answers
from dejavlad.failures import failures_dict
from dejavlad.ground_truth.frames import sequence_numbers
from dejavlad.ground_truth.loop_truth import loop_truth, pose_centres
from dejavlad.places.loops import (
    KNOWN_FROM,
    WINDOW,
    Loop,
    LoopDetector,
    find_loops,
    similarities,
    write_loops,
)
from dejavlad.places.verification.loops import verify_loops
from dejavlad.places.verification.points import PointSetting
from dejavlad.progress import OnProgress, silent, timed
from dejavlad.report.loops import LoopStory, shown_frames, write_loops_page
from dejavlad.versions import versions

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from dejavlad.evaluation.loops import LoopScore
    from dejavlad.extraction import DescriptorStore
    from dejavlad.extraction.manifest import Setting
    from dejavlad.ground_truth.row_sets import RowSets
    from dejavlad.photo import PhotoList


@dataclass(frozen=True, slots=True)
class LoopSetting:
    """How loops are looked for.

    Raises:
        InputError: a value that cannot be, or both a threshold and verification.
    """

    window: int = WINDOW
    """Frames before each that do not count."""
    sequence: int = 1
    """Frames that decide together."""
    threshold: float | None = None
    """Score from which on a loop is given; None: where it stands out."""
    points: PointSetting | None = None
    """Give loops whose frames agree in space, by these local features."""

    def __post_init__(self) -> None:
        LoopDetector(window=self.window, sequence=self.sequence, threshold=self.threshold)
        if self.points is not None and self.threshold is not None:
            raise InputError("--threshold is a score of looks, --verify asks geometry: give one of the two")


SETTING: Final = LoopSetting()


@dataclass(frozen=True, slots=True)
class LoopTruth:
    """Which frames show one place."""

    right: RowSets
    """For each of N frames those of the same place."""
    description: dict[str, Any]
    """What it was read from, for results."""
    centres: NDArray[np.float64] | None = None
    """[N, 3] where the frames were taken, metres, where they are also measured both ways."""

    @classmethod
    def read(
        cls, truth: str, frames: PhotoList, radius: float | None = None, *, both_ways: bool = False
    ) -> LoopTruth:
        """Read a bitmap, a matrix, poses or ``positions:METRES``; see `dejavlad.ground_truth.loop_truth`."""
        right, description = loop_truth(truth, frames, radius)
        return cls(right, description, pose_centres(truth, frames) if both_ways else None)


@dataclass(frozen=True, slots=True)
class LoopResult:
    """Loop closures of a sequence."""

    loops: list[Loop]
    """Each frame's best earlier frame."""
    given: list[bool]
    """Which of them are given as loops."""
    score: LoopScore | None
    """Precision and recall, where the truth is known."""
    document: dict[str, Any]
    """What ``result.json`` holds."""
    page: Path
    """The page."""
    csv: Path
    """The table."""

    def __str__(self) -> str:
        wrong = ""
        if self.score is not None:
            wrong = f", {self.document['n_given'] - self.document['n_given_right']} of them wrong"
        text = (
            f"{self.document['n_given']} loops given in {self.document['n_frames']} frames{wrong}: {self.csv}"
        )
        return text if self.score is None else f"{self.score}\n{text}"


def loops(
    store: DescriptorStore,
    frames: PhotoList,
    out: str | Path,
    setting: LoopSetting = SETTING,
    *,
    truth: LoopTruth | None = None,
    device: torch.device | str = "cpu",
    seconds: Mapping[str, float] | None = None,
    command: str = "",
    on_progress: OnProgress = silent,
) -> LoopResult:
    """Find the loops of a sequence, verify and measure them, and write all that into a folder.

    Args:
        store: descriptors of the frames, in their order.
        frames: what they show; numbers in their names count where frames are missing (`sequence_numbers`).
        out: the folder.
        setting: how loops are looked for.
        truth: which frames show one place.
        device: where local features are made.
        seconds: what took how long before, for the results.
        command: how to do it again, for the page.
        on_progress: called with each step.

    Raises:
        InputError: the truth does not fit, or frames that it needs could not be described.
    """
    out, took, numbers = Path(out), dict(seconds or {}), sequence_numbers(frames)
    candidates = _candidates(store, frames, setting, numbers, took, on_progress=on_progress, device=device)
    limit = setting.threshold
    given = [loop.known if limit is None else loop.score >= limit for loop in candidates]
    protocol = _protocol(setting, numbered=numbers is not None)
    score = None
    if truth is not None:
        bare = {**protocol, "truth": truth.description, "frames_hash": list_hash(frames)}
        score = _scored(candidates, setting, truth, numbers, bare, store, took)
    document = _document(store, frames, given, score, {"protocol": protocol, "seconds": took})
    if truth is not None and truth.centres is not None:
        document["both_ways"] = _both_ways(store, truth, truth.centres, setting, numbered=numbers is not None)
    made_by = store.manifest.setting
    document["made_with"] = _made_with(made_by, command)
    out.mkdir(parents=True, exist_ok=True)
    names = frames.keys
    csv = write_loops(out / "loops.csv", candidates, names, None if score is None else score.right.tolist())
    chosen = [loop for loop, is_given in zip(candidates, given, strict=True) if is_given]
    write_answers(out / "predictions.txt", {names[loop.frame]: [names[loop.closes]] for loop in chosen})
    write_json(out / "result.json", document)
    titles = {key.replace("_", " ").capitalize(): value for key, value in protocol.items()}
    facts = {"Model": made_by.model, **titles}
    possible = None if truth is None else reachable(truth.right, setting.window, numbers)
    shown = similarities(store, shown_frames(len(frames)))
    story = LoopStory(frames, candidates, given, facts, score, possible, shown, store.failed)
    rotate = made_by.preprocess.get("rotate", True)
    page = write_loops_page(story, out / "index.html", command=command, rotate=rotate)
    return LoopResult(candidates, given, score, document, page, csv)


def _made_with(setting: Setting, command: str) -> dict[str, Any]:
    """How to do it again, and by which programs."""
    return {
        "command": command,
        "preprocess": setting.preprocess,
        "precision": setting.precision,
        "versions": versions(),
    }


def _candidates(
    store: DescriptorStore,
    frames: PhotoList,
    setting: LoopSetting,
    numbers: NDArray[np.int64] | None,
    took: dict[str, float],
    *,
    on_progress: OnProgress,
    device: torch.device | str,
) -> list[Loop]:
    """Each frame's best earlier frame; by geometry where that is asked for."""
    with timed(took, "find loops"):
        candidates = find_loops(
            store, window=setting.window, sequence=setting.sequence, numbers=numbers, on_progress=on_progress
        )
    if setting.points is None:
        return candidates
    with timed(took, "verify"):
        return verify_loops(
            candidates, frames, setting.points, window=setting.window, on_progress=on_progress, device=device
        )


def _scored(
    candidates: list[Loop],
    setting: LoopSetting,
    truth: LoopTruth,
    numbers: NDArray[np.int64] | None,
    protocol: dict[str, Any],
    store: DescriptorStore,
    took: dict[str, float],
) -> LoopScore:
    """Precision and recall, by confidence where geometry was asked, else by looks."""
    return score_loops(
        [loop.frame for loop in candidates],
        [loop.closes for loop in candidates],
        [loop.confidence if setting.points is not None else loop.score for loop in candidates],
        truth.right,
        window=setting.window,
        numbers=numbers,
        protocol=protocol,
        model=store.manifest.setting.made_by,
        seconds=took,
    )


def _both_ways(
    store: DescriptorStore,
    truth: LoopTruth,
    centres: NDArray[np.float64],
    setting: LoopSetting,
    *,
    numbered: bool,
) -> dict[str, Any]:
    """How well the descriptors tell pairs of frames apart, for ``result.json``."""
    if numbered:
        raise InputError(
            "--both-ways counts rows, and numbers are missing among the frames' names: leave it out"
        )
    if store.failed:
        raise InputError(f"--both-ways needs every frame; {len(store.failed)} could not be described")
    metres = truth.description["radius_m"]
    return measure_both_ways(store.rows, centres, radius=metres, window=setting.window).to_dict()


def _protocol(setting: LoopSetting, *, numbered: bool) -> dict[str, Any]:
    """All that the loops depend on beside the descriptors."""
    limit = setting.threshold
    protocol: dict[str, Any] = {
        "window": setting.window,
        "sequence": setting.sequence,
        "given_from": f"confidence {KNOWN_FROM}" if limit is None else limit,
    }
    if numbered:
        protocol["frames"] = "numbers in names"
    if setting.points is not None:
        protocol["verified_by"] = setting.points.chosen().kind
    return protocol


def _document(
    store: DescriptorStore,
    frames: PhotoList,
    given: Sequence[bool],
    score: LoopScore | None,
    bare: dict[str, Any],
) -> dict[str, Any]:
    """What ``result.json`` holds."""
    document: dict[str, Any] = {
        "n_frames": len(frames),
        "n_given": sum(given),
        **failures_dict(store.failed),
    }
    if score is None:
        return document | bare | {"model": store.manifest.setting.made_by}
    right = zip(score.right.tolist(), given, strict=True)
    return document | score.to_dict() | {"n_given_right": sum(ok and is_given for ok, is_given in right)}
