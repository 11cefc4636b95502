"""Loops checked by geometry: only those whose two frames agree in space are given.

Looks alone give too few loops, as many of them are wrong below a high threshold; geometry tells these apart,
so each frame's best earlier frame is compared whatever its score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dejavlad.photo import PhotoList
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.retrieval.loops import Loop
from dejavlad.retrieval.points import PointSetting, PointSource
from dejavlad.retrieval.verified_confidence import Evidence, verified_confidence

VERIFYING = "verifying loops"
"""The task that `OnProgress` is told of."""


def verify_loops(
    loops: Sequence[Loop],
    frames: PhotoList,
    setting: PointSetting,
    *,
    on_progress: OnProgress = silent,
    **options: Any,
) -> list[Loop]:
    """The loops with the confidence that geometry gives them, 0 where a frame cannot be read.

    Args:
        loops: frames with the earlier frames that they resemble most; their scores stay.
        frames: the sequence.
        setting: how they are compared.
        on_progress: told of each loop.
        options: of `dejavlad.local.create`, e.g. ``device``.
    """
    setting = setting.chosen()
    source = PointSource(setting.extractor(**options), frames)
    reranker = setting.reranker()
    verified = []
    for count, loop in enumerate(loops, 1):
        pair = reranker.verified(source(loop.frame), source(loop.closes))
        evidence = Evidence(0.0, 1, pair.inliers, min(pair.nearness.coverage))
        verified.append(replace(loop, confidence=verified_confidence(evidence)))
        on_progress(Progress(VERIFYING, count, len(loops)))
    return verified
