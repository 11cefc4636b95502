"""Augmentation: each photo cropped, turned, mirrored and recoloured at random, by kornia, on tensors.

Shapes: N photos of one size, [N, 3, h, w], prepared as the network takes them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dejavlad.errors import MissingExtraError
from dejavlad.images import Preprocess
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.steps.network import combined_seed

HUE = 0.1
"""Of the change of the other colours, unless given."""
ASPECT = 4 / 3
"""By which a crop's aspect may differ from the photo's, either way."""


class Augment:
    """Changes photos at random; how depends on seeds alone, on the same device.

    Args:
        config: see its ``augment_crop``, ``augment_rotate``, ``augment_flip``, ``augment_colour`` and
            ``augment_hue``.
        preprocess: how the photos were prepared; colours are changed as they were before.

    Raises:
        MissingExtraError: kornia is not installed.
    """

    def __init__(self, config: TrainConfig, preprocess: Preprocess) -> None:
        self._config, self._kornia = config, kornia_augmentation()
        top = 255.0 if preprocess.scale == "0-255" else 1.0
        self._std_1C11 = torch.tensor(preprocess.std).view(1, 3, 1, 1) / top
        self._mean_1C11 = torch.tensor(preprocess.mean).view(1, 3, 1, 1) / top
        self._turned = preprocess.channels == "bgr"
        self._made: Callable[[int, int], nn.Module] = functools.lru_cache(maxsize=16)(self._make)

    def __call__(self, images_NCHW: Tensor, seeds: Sequence[Sequence[int]]) -> Tensor:
        """Prepared photos changed at random, each by its own seed; of the same size."""
        std_1C11, mean_1C11 = self._std_1C11.to(images_NCHW), self._mean_1C11.to(images_NCHW)
        plain_NCHW = self._order((images_NCHW * std_1C11 + mean_1C11).clamp(0, 1))
        change = self._made(*images_NCHW.shape[2:])
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            changed = []
            for image_CHW, seed in zip(plain_NCHW, seeds, strict=True):
                torch.default_generator.manual_seed(combined_seed(seed))
                changed.append(change(image_CHW[None]))
        return ((self._order(torch.cat(changed)) - mean_1C11) / std_1C11).contiguous()

    def _order(self, images_NCHW: Tensor) -> Tensor:
        return images_NCHW.flip(1) if self._turned else images_NCHW

    def _make(self, height: int, width: int) -> nn.Module:
        config, kornia = self._config, self._kornia
        made = []
        if config.augment_crop < 1:
            aspect = width / height
            made.append(
                kornia.RandomResizedCrop(
                    (height, width),
                    scale=(config.augment_crop, 1.0),
                    ratio=(aspect / ASPECT, aspect * ASPECT),
                    p=1.0,
                )
            )
        if config.augment_rotate:
            made.append(kornia.RandomAffine(config.augment_rotate, padding_mode="reflection", p=1.0))
        if config.augment_flip:
            made.append(kornia.RandomHorizontalFlip(p=config.augment_flip))
        if config.augment_colour or config.augment_hue:
            by = config.augment_colour
            made.append(kornia.ColorJitter(by, by, by, config.augment_hue or HUE * by, p=1.0))
        return nn.Sequential(*made)


def kornia_augmentation() -> Any:
    """The part of kornia that is used here.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import kornia.augmentation
    except ImportError:
        raise MissingExtraError("augmentation (augment_crop, _rotate, _flip, _colour)", "augment") from None
    return kornia.augmentation
