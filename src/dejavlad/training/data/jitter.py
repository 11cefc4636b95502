"""Tuple-wise jitter, as the original's: all photos of a tuple are mirrored, or resized, together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dejavlad.training.config.options import TrainConfig


@dataclass(frozen=True, slots=True)
class View:
    """How the photos of a tuple are looked at."""

    shorter: int | None = None
    """The shorter side of prepared photos, in pixels; None: as they are."""
    flip: bool = False
    """Whether they are mirrored, left to right."""
    draw: int | None = None
    """For which query or place each photo is augmented; None: it is not."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a photo that is otherwise prepared to that size; the aspect is kept."""
        if self.shorter is None:
            return height, width
        longer = max(1, round(max(height, width) * self.shorter / min(height, width)))
        return (self.shorter, longer) if height <= width else (longer, self.shorter)


AS_IT_IS = View()


def draw_view(config: TrainConfig, first: tuple[int, int], epoch: int, batch: int, query: int) -> View:
    """The view of a tuple, which depends on seed, epoch, batch and query alone.

    Args:
        config: see its ``jitter_flip`` and ``jitter_scales``.
        first: prepared (height, width) of the first photo; scales are of its shorter side.
        epoch: from 1.
        batch: from 1.
        query: the tuple's.
    """
    if not config.jitters:
        return AS_IT_IS
    random = np.random.default_rng([config.seed, epoch, batch, query, 1])
    shorter = None
    if config.jitter_scales:
        shorter = max(1, round(float(random.choice(config.jitter_scales)) * min(first)))
    flip = bool(config.jitter_flip and random.random() > 0.5)
    return View(shorter, flip, query if config.augments else None)
