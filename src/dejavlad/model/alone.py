"""Does a descriptor depend on the photos beside it? Found out by describing photos alone and together.

Legend: N photos, D numbers of a descriptor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dejavlad.model.place_model import PlaceModel

ROUNDING = 1e-4
"""Largest change of a number, over the descriptor's largest, that is still rounding in float32."""
REDUCED = 0.05
"""The same in bfloat16."""
HEIGHT, WIDTH = 240, 320


@dataclass(frozen=True, slots=True)
class BatchComparison:
    """One way of describing photos together, against each alone."""

    photos: str
    """Which were described together, in words."""
    difference: float
    """The largest, over the largest number of any descriptor."""
    cosine: float
    """The least cosine between a photo's two descriptors."""
    ok: bool
    """Whether that is rounding."""


def batch_dependence(model: PlaceModel) -> list[BatchComparison]:
    """Compare descriptors of made photos described alone with those of the same described together.

    Returns:
        For two photos together, all of them, and all of them in the other order.

    Raises:
        InputError: the model is not fitted, or the photos are too small for it.
    """
    prepared = torch.stack([torch.from_numpy(model.preprocess(photo)) for photo in made_photos()])
    limit = ROUNDING if model.precision == "fp32" else REDUCED
    with model.describing():
        alone_ND = torch.cat([model.describe(photo_CHW[None]) for photo_CHW in prepared]).float().cpu()
        turned = list(reversed(range(len(prepared))))
        ways = {
            "two together": [0, 1],
            f"{len(prepared)} together": turned[::-1],
            "the other way round": turned,
        }
        comparisons = []
        for photos, rows in ways.items():
            together_nD = model.describe(prepared[rows]).float().cpu()
            apart_nD = alone_ND[rows]
            difference = float((together_nD - apart_nD).abs().max() / apart_nD.abs().max().clamp(min=1e-12))
            cosine = float(torch.nn.functional.cosine_similarity(together_nD, apart_nD).min())
            comparisons.append(BatchComparison(photos, difference, cosine, difference <= limit))
    return comparisons


def made_photos(count: int = 4) -> NDArray[np.uint8]:
    """Photos of coloured blocks of several sizes, uint8 [count, 240, 320, 3]."""
    random = np.random.default_rng(0)
    photos = np.zeros((count, HEIGHT, WIDTH, 3))
    for side in (8, 24, 80):
        cells = random.uniform(0, 85, (count, HEIGHT // side + 1, WIDTH // side + 1, 3))
        photos += cells.repeat(side, 1).repeat(side, 2)[:, :HEIGHT, :WIDTH]
    return photos.astype(np.uint8)
