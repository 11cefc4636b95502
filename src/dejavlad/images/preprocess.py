"""Preprocessing as data: what a network wants its photos to be.

Legend: C = 3 channels, H x W the photo's pixels, h x w those of the prepared photo.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dejavlad.errors import InputError
from dejavlad.images.levels import Levels, checked_levels

Triple = tuple[float, float, float]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (BT.601)."""
MOST_SIDE = 16384
"""The largest side that may be asked for, in pixels."""
CHOICES = {
    "scale": ("0-1", "0-255"),
    "channels": ("rgb", "bgr"),
    "interpolation": ("bilinear", "bicubic"),
    "resize_on": ("picture", "values"),
    "multiple_by": ("resize", "crop"),
}
"""Settings that are one of a few words."""
LATER = ("interpolation", "resize_on", "multiple", "multiple_by", "levels", "reduce")
"""Settings that older models do not tell."""
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True)
class OneSide:
    """A resize policy by one side."""

    kind: str
    """``longest``, ``shortest`` or ``most``."""
    side: int
    """Pixels."""


@dataclass(frozen=True, slots=True)
class Preprocess:
    """From RGB uint8 [H, W, 3] to what a network takes, float32 [3, h, w].

    Values are ``(pixel * unit - mean) / std`` with unit 1 or 1/255, channel by channel.
    """

    resize: str = "none"
    """``"HxW"`` (both sides given, aspect not kept), ``"longest:N"`` (the longer side becomes N, also of
    smaller photos), ``"shortest:N"``, ``"most:N"`` (the longer side, where it is more) or ``"none"``.
    Always with antialiasing, as Pillow (and so Patch-NetVLAD) does it."""
    mean: Triple = (0.0, 0.0, 0.0)
    """Subtracted, in the channels' order, on the scale below."""
    std: Triple = (1.0, 1.0, 1.0)
    """Divided by, in the channels' order."""
    scale: Literal["0-1", "0-255"] = "0-1"
    """The range of values before the mean is taken off."""
    channels: Literal["rgb", "bgr"] = "rgb"
    """Order of the channels."""
    rotate: bool = True
    """Apply the photo's EXIF orientation (MATLAB does not)."""
    grey: bool = False
    """Make photos grey first: three equal channels."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Between pixels, where photos are resized."""
    resize_on: Literal["picture", "values"] = "picture"
    """What is resized: the picture in whole numbers (Pillow), or its values as real numbers (a tensor)."""
    multiple: int = 1
    """Both sides are made multiples of this, after `resize`."""
    multiple_by: Literal["resize", "crop"] = "resize"
    """How: resized to the nearest multiple (half to even), or cropped to the next smaller."""
    levels: Levels = "photo"
    """How photos of more than 8 bits become 8 (`dejavlad.images.levels`)."""
    reduce: bool = False
    """Decode JPEG at a half, a quarter or an eighth of its size where the network takes no more than that:
    far quicker for large photos, and not quite the same pixels."""

    def __post_init__(self) -> None:
        parse_resize(self.resize)
        for name, valid in CHOICES.items():
            if getattr(self, name) not in valid:
                raise InputError(f"{name} must be {' or '.join(valid)}; given {getattr(self, name)!r}")
        for name in ("mean", "std"):
            try:
                triple = tuple(float(value) for value in getattr(self, name))
            except (TypeError, ValueError):
                triple = ()
            if len(triple) != 3 or not np.isfinite(triple).all():
                raise InputError(f"{name} must be three numbers; given {getattr(self, name)!r}")
            object.__setattr__(self, name, triple)
        if min(self.std) <= 0:
            raise InputError(f"std must be above 0; given {self.std}")
        if type(self.multiple) is not int or not 1 <= self.multiple <= MOST_SIDE:
            raise InputError(f"multiple must be a whole number of at least 1; given {self.multiple!r}")
        object.__setattr__(self, "levels", checked_levels(self.levels))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of a prepared photo."""
        height, width = self._resized_size(height, width)
        if self.multiple_by == "crop":
            height, width = (max(1, side // self.multiple) * self.multiple for side in (height, width))
        return height, width

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) after resizing, before any crop."""
        wanted = parse_resize(self.resize)
        if isinstance(wanted, OneSide):
            kind, side = wanted.kind, wanted.side
            factor = side / (min if kind == "shortest" else max)(height, width)
            if kind != "most" or factor < 1:
                height, width = (max(1, round(s * factor)) for s in (height, width))
        elif wanted is not None:
            height, width = wanted
        if self.multiple == 1:
            return height, width
        if self.multiple_by == "crop":
            return max(height, self.multiple), max(width, self.multiple)
        height, width = (max(1, round(side / self.multiple)) * self.multiple for side in (height, width))
        return height, width

    def __call__(
        self, rgb_HWC: NDArray[np.uint8], size: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Prepare one photo.

        Args:
            rgb_HWC: uint8 [H, W, 3].
            size: (H, W) of the whole photo, where `rgb_HWC` was decoded at a smaller scale.

        Returns:
            float32 [3, h, w].

        Raises:
            InputError: it is another array.
        """
        if rgb_HWC.dtype != np.uint8 or rgb_HWC.ndim != 3 or rgb_HWC.shape[2] != 3 or 0 in rgb_HWC.shape:
            raise InputError(f"a photo is uint8 RGB [H, W, 3]; given {rgb_HWC.dtype} {list(rgb_HWC.shape)}")
        whole = size or (rgb_HWC.shape[0], rgb_HWC.shape[1])
        height, width = self._resized_size(*whole)
        resizes = (height, width) != rgb_HWC.shape[:2]
        resampling = RESAMPLING[self.interpolation]
        if resizes and self.resize_on == "picture":
            rgb_HWC = np.asarray(Image.fromarray(rgb_HWC).resize((width, height), resampling))
        if self.channels == "bgr":
            rgb_HWC = rgb_HWC[:, :, ::-1]
        values = rgb_HWC.transpose(2, 0, 1).astype(np.float32, order="C")
        if resizes and self.resize_on == "values":
            values = np.stack(
                [np.asarray(Image.fromarray(v).resize((width, height), resampling)) for v in values]
            )
        if self.multiple_by == "crop" and self.multiple > 1:
            h, w = self.output_size(*whole)
            top, left = round((height - h) / 2), round((width - w) / 2)
            values = np.ascontiguousarray(values[:, top : top + h, left : left + w])
        if self.grey:
            luma = np.array(LUMA if self.channels == "rgb" else LUMA[::-1], np.float32)
            values[:] = luma[0] * values[0] + luma[1] * values[1] + luma[2] * values[2]
        if self.scale == "0-1":
            values /= np.float32(255)
        if any(self.mean):
            values -= np.array(self.mean, np.float32)[:, None, None]
        if self.std != (1.0, 1.0, 1.0):
            values /= np.array(self.std, np.float32)[:, None, None]
        return values

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what `LATER` names only where it is not the default, so that older models stay equal."""
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in LATER or getattr(self, field.name) != field.default
        }
        values |= {"mean": list(self.mean), "std": list(self.std)}
        if isinstance(self.levels, tuple):
            values["levels"] = list(self.levels)
        return values

    def __str__(self) -> str:
        """For people: how photos are resized, and what is done with their values."""
        size = {"none": "their own size"}.get(self.resize, self.resize)
        if self.multiple > 1:
            by = "nearest multiples" if self.multiple_by == "resize" else "cropped to multiples"
            size += f", {by} of {self.multiple}"
        if self.resize != "none" or (self.multiple > 1 and self.multiple_by == "resize"):
            on = "the picture" if self.resize_on == "picture" else "the values"
            size += f", {self.interpolation} with antialiasing on {on}"
        values = f"{self.channels.upper()} {self.scale}"
        if any(self.mean) or self.std != (1.0, 1.0, 1.0):
            mean, std = (", ".join(f"{value:.4g}" for value in triple) for triple in (self.mean, self.std))
            values += f", mean {mean}, std {std}"
        return f"{size}; {values}"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` made.

        Raises:
            InputError: it holds something else.
        """
        try:
            return cls(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})
        except (TypeError, KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"this is no preprocessing: {error}") from None


def parse_resize(policy: str) -> tuple[int, int] | OneSide | None:
    """``"480x640"`` to (480, 640), ``"none"`` to None, others to `OneSide`.

    Raises:
        InputError: it is none of these.
    """
    if policy == "none":
        return None
    if not isinstance(policy, str):
        raise InputError(f"resize must be text; given {policy!r}")
    if numbers := re.fullmatch(r"(\d{1,9})x(\d{1,9})", policy, re.ASCII):
        sides = int(numbers[1]), int(numbers[2])
        if min(sides) >= 1 and max(sides) <= MOST_SIDE:
            return sides
    elif numbers := re.fullmatch(r"(longest|shortest|most):(\d{1,9})", policy, re.ASCII):
        side = int(numbers[2])
        if 1 <= side <= MOST_SIDE:
            return OneSide(numbers[1], side)
    raise InputError(
        f"resize {policy!r} is unknown; valid: HxW (480x640), longest:N, shortest:N, most:N, none, "
        f"sides of 1 to {MOST_SIDE}"
    )


PREPROCESSING: dict[str, Preprocess] = {
    "plain": Preprocess(),
    "torchvision": Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "efficientnet-lite": Preprocess(mean=(127.0,) * 3, std=(128.0,) * 3, scale="0-255"),
    "caffe": Preprocess(mean=(104.0, 117.0, 123.0), scale="0-255", channels="bgr"),
}
"""What published weights were trained with, by name."""
