"""Dense RootSIFT: upright SIFT descriptors on a grid, at several scales, by convolutions; needs no weights.

Lowe's descriptor (IJCV 2004) with Arandjelović & Zisserman's square root (CVPR 2012), sampled densely as in
VLFeat's ``vl_phow``. The gradient of each pixel is shared between the 8 orientations and the 4 x 4 spatial
bins by linear interpolation. In space that interpolation, and SIFT's Gaussian window, are separable, so all
descriptors of one scale are two strided convolutions.

Shapes: N photos, H x W grid cells, S scales, O = 8 orientations, h x w pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.errors import InputError

BINS = 4
"""Spatial bins along each axis."""
ORIENTATIONS = 8
CLIP = 0.2
"""Entries of the unit vector above this are cut, as SIFT does against glare."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (BT.601)."""
CAMERA_BLUR = 0.5
"""Gaussian blur, in pixels, that a photo is taken to have already."""
NOISE = 0.5 / 255
"""Mean gradient a pixel, of a photo from 0 to 1, below which there is nothing but rounding and noise."""


class RootSift(nn.Module):
    """Dense upright RootSIFT.

    Args:
        bin_sizes: side of a spatial bin in pixels, one for each scale, ascending, each at least 2.
        step: distance of neighbouring descriptors in pixels.
        smoothing: blur before the gradients in bins: SIFT's own 1/3, VLFeat's ``vl_phow`` 1/6.
        contrast: descriptors whose gradients are weaker than this share of the photo's mean, at their scale,
            are zero, whatever the light; so are those below `NOISE`. 0 keeps all but the entirely flat ones.

    Raises:
        InputError: no scales, bins smaller than 2 pixels or not ascending, a step below 1.
    """

    channels = BINS * BINS * ORIENTATIONS

    def __init__(
        self,
        bin_sizes: Sequence[float] = (4, 6, 8, 10),
        *,
        step: int = 8,
        smoothing: float = 1 / 6,
        contrast: float = 0.5,
    ) -> None:
        super().__init__()
        sizes = tuple(float(size) for size in bin_sizes)
        if not sizes or min(sizes) < 2 or any(a >= b for a, b in pairwise(sizes)):
            raise InputError(f"bin_sizes must be ascending and at least 2 pixels; given {list(bin_sizes)}")
        if step < 1:
            raise InputError(f"step must be at least 1 pixel; given {step}")
        if smoothing < 0 or contrast < 0:
            raise InputError(f"smoothing and contrast cannot be negative; given {smoothing} and {contrast}")
        self.bin_sizes, self.smoothing, self.contrast = sizes, float(smoothing), float(contrast)
        self.stride = int(step)
        self.scales = len(sizes)
        self._reach = math.ceil(sizes[-1] * (BINS + 1) / 2)
        self.receptive_field = 2 * self._reach + 1
        self.offset = float(self._reach)
        for i, size in enumerate(sizes):
            self.register_buffer(f"window{i}", _windows(size, self._reach), persistent=False)
            self.register_buffer(f"blur{i}", _gaussian(size * self.smoothing), persistent=False)
        self.register_buffer("luma", torch.tensor(LUMA).view(1, 3, 1, 1), persistent=False)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Descriptors of photos.

        Args:
            images_NCHW: float32 [N, 3, h, w] RGB from 0 to 1, or [N, 1, h, w] grey.

        Returns:
            float32 [N, 128, S*H, W], the smallest scale in the upper H rows. Each column is of unit length,
            or zero where there is too little contrast. Entries are ordered as OpenCV's: rows of bins,
            columns of bins, orientations counter-clockwise from the right.
        """
        if images_NCHW.ndim != 4 or images_NCHW.shape[1] not in (1, 3):
            raise InputError(f"photos must be [N, 3, H, W] or [N, 1, H, W]; given {list(images_NCHW.shape)}")
        # One by one: what is made on the way then stays small enough for the allocator to use again.
        photos = torch.tensor_split(images_NCHW.float(), max(1, len(images_NCHW)))
        return torch.cat([self._one_photo(image_1CHW) for image_1CHW in photos])

    def _one_photo(self, image_1CHW: Tensor) -> Tensor:
        if image_1CHW.shape[1] == 3:
            image_1CHW = (image_1CHW * self.get_buffer("luma")).sum(dim=1, keepdim=True)
        return torch.cat([self._one_scale(image_1CHW, i) for i in range(self.scales)], dim=2)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of one scale for a photo of that size; at least 1 x 1."""
        side = self.receptive_field
        return (max(0, height - side) // self.stride + 1, max(0, width - side) // self.stride + 1)

    def _one_scale(self, grey_N1hw: Tensor, scale: int) -> Tensor:
        n, _, height, width = grey_N1hw.shape
        gradients = _orientations(_blurred(grey_N1hw, self.get_buffer(f"blur{scale}")))
        gradients = F.pad(
            gradients, (0, max(0, self.receptive_field - width), 0, max(0, self.receptive_field - height))
        )
        window_B1L1 = self.get_buffer(f"window{scale}")
        # Every orientation is taken for a photo of its own, and then every row of bins: one small convolution
        # along each axis serves all of them, where a 2-D one would take the square of its work.
        down = F.conv2d(
            gradients.reshape(n * ORIENTATIONS, 1, *gradients.shape[2:]), window_B1L1, stride=(self.stride, 1)
        )
        _, _, rows, pixels = down.shape
        across = F.conv2d(
            down.reshape(n * ORIENTATIONS * BINS, 1, rows, pixels),
            window_B1L1.transpose(2, 3),
            stride=(1, self.stride),
        )
        columns = across.shape[-1]
        histograms = across.view(n, ORIENTATIONS, BINS, BINS, rows, columns).permute(0, 2, 3, 1, 4, 5)
        return _root(histograms.reshape(n, self.channels, rows, columns), self.contrast)


def _orientations(grey_N1hw: Tensor) -> Tensor:
    """[N, 8, h, w]: each pixel's gradient shared between its two nearest orientations."""
    padded = F.pad(grey_N1hw, (1, 1, 1, 1), mode="replicate")
    right = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    up = (padded[:, :, :-2, 1:-1] - padded[:, :, 2:, 1:-1]) / 2
    size = torch.hypot(right, up)
    turn = torch.atan2(up, right) * (ORIENTATIONS / (2 * math.pi))
    centres = torch.arange(ORIENTATIONS, dtype=turn.dtype, device=turn.device).view(1, -1, 1, 1)
    away = torch.remainder(turn - centres + ORIENTATIONS / 2, ORIENTATIONS) - ORIENTATIONS / 2
    return (1 - away.abs()).clamp_(min=0) * size


def _root(histograms_NCHW: Tensor, contrast: float) -> Tensor:
    """SIFT's normalisation, then the root of the shares: unit length, or zero where contrast is low."""
    gradient_N1HW = histograms_NCHW.sum(dim=1, keepdim=True)
    least = torch.zeros_like(gradient_N1HW)
    if contrast > 0:
        least = (contrast * gradient_N1HW.mean(dim=(2, 3), keepdim=True)).clamp(min=NOISE)
    length_N1HW = torch.linalg.vector_norm(histograms_NCHW, dim=1, keepdim=True)
    clipped_NCHW = torch.minimum(histograms_NCHW, CLIP * length_N1HW)
    total_N1HW = clipped_NCHW.sum(dim=1, keepdim=True)
    shares_NCHW = clipped_NCHW / total_N1HW.clamp(min=torch.finfo(total_N1HW.dtype).tiny)
    return torch.where(gradient_N1HW > least, shares_NCHW.sqrt(), 0.0)


def _blurred(grey_N1hw: Tensor, kernel_L: Tensor) -> Tensor:
    reach = len(kernel_L) // 2
    if reach == 0:
        return grey_N1hw
    grey_N1hw = F.pad(grey_N1hw, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(grey_N1hw, kernel_L.view(1, 1, -1, 1)), kernel_L.view(1, 1, 1, -1))


def _gaussian(sigma: float) -> Tensor:
    """A normalised Gaussian that brings a photo from the camera's blur to `sigma`; [1] where it has that."""
    extra = math.sqrt(max(0.0, sigma**2 - CAMERA_BLUR**2))
    reach = math.ceil(3 * extra)
    if reach == 0:
        return torch.ones(1)
    x = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (x / extra) ** 2)
    return (kernel / kernel.sum()).float()


def _windows(size: float, reach: int) -> Tensor:
    """[4, 1, 2*reach+1, 1]: for each bin, what pixels along one axis give to it.

    A triangle (linear interpolation between bin centres) times SIFT's Gaussian of two bins; scaled so that a
    descriptor's entries sum to the mean gradient in its window.
    """
    x = torch.arange(-reach, reach + 1, dtype=torch.float64) / size
    centres = torch.arange(BINS, dtype=torch.float64)[:, None] - (BINS - 1) / 2
    kernels = (1 - (x - centres).abs()).clamp(min=0) * torch.exp(-0.5 * (x / (BINS / 2)) ** 2)
    return (kernels / kernels.sum()).float().view(BINS, 1, -1, 1)
