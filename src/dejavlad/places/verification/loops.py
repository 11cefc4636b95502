"""Loops checked by geometry: only those whose two frames agree in space are given.

Looks alone give too few loops, as many of them are wrong below a high threshold; geometry tells these apart,
so each frame's best earlier frame is compared whatever its score.

That two frames agree is not enough: along one corridor, frames many metres apart do. A loop is where the
views are about as near as those of neighbouring frames, so its inliers are compared with those of either
frame and the ones a tenth of the window away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from dejavlad.photo import PhotoList
from dejavlad.places.loops import Loop
from dejavlad.places.verification.confidence import (
    Evidence,
    verified_confidence,
)
from dejavlad.places.verification.points import (
    PointSetting,
    PointSource,
)
from dejavlad.progress import OnProgress, Progress, silent

NEIGHBOUR: Final = 0.1
"""Share of the window by which neighbouring frames are apart, one frame at least."""
LEAST_SHARE: Final = 0.7
"""Share of the neighbours' inliers that a loop must have."""
STEEPNESS: Final = 4.0
"""How fast the confidence falls below that share: the power of the odds."""
VERIFYING = "verifying loops"
"""The task that `OnProgress` is told of."""


def verify_loops(
    loops: Sequence[Loop],
    frames: PhotoList,
    setting: PointSetting,
    *,
    window: int,
    on_progress: OnProgress = silent,
    **options: Any,
) -> list[Loop]:
    """The loops with the confidence that geometry gives them, 0 where a frame cannot be read.

    Args:
        loops: frames with the earlier frames that they resemble most; their scores stay.
        frames: the sequence.
        setting: how they are compared.
        window: so many frames before each do not count.
        on_progress: told of each loop.
        options: of `dejavlad.local.create`, e.g. ``device``.
    """
    setting = setting.chosen()
    source = PointSource(setting.extractor(**options), frames)
    reranker = setting.reranker()
    apart = max(1, round(NEIGHBOUR * window))
    neighbours: dict[int, int] = {}

    def near(frame: int) -> int:
        """Inliers of a frame and the one a little before it."""
        if frame not in neighbours:
            before = frame - apart
            pair = reranker.verified(source(frame), source(before)) if before >= 0 else None
            neighbours[frame] = 0 if pair is None else pair.inliers
        return neighbours[frame]

    verified = []
    for count, loop in enumerate(loops, 1):
        pair = reranker.verified(source(loop.frame), source(loop.closes))
        evidence = Evidence(0.0, 1).verified(pair)
        after = min(loop.closes + apart, loop.frame - 1)
        least = LEAST_SHARE * max(near(loop.frame), near(loop.closes), near(after))
        ours, theirs = pair.inliers**STEEPNESS, least**STEEPNESS
        share = ours / (ours + theirs) if ours else 0.0
        verified.append(replace(loop, confidence=verified_confidence(evidence) * share))
        on_progress(Progress(VERIFYING, count, len(loops)))
    return verified
