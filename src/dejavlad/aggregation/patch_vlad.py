"""NetVLAD or VLAD of every patch of a feature map (Patch-NetVLAD: Hausler et al., CVPR 2021), whitened.

Shapes: N photos, D channels, H x W cells, K clusters, T feature maps stacked in the height; P patches of one
size, row by row; d whitened dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dejavlad.aggregation.base import Aggregation
from dejavlad.aggregation.boxes import patch_scales
from dejavlad.aggregation.fused import Projection, Residuals, Sums, fused_patches
from dejavlad.aggregation.netvlad import VLADBase
from dejavlad.errors import InputError
from dejavlad.patches import PatchSet


class CellGeometry(Protocol):
    """Where cells lie in the photo; `dejavlad.backbones` and their ``geometry`` are."""

    @property
    def stride(self) -> int:
        """Pixels from one cell to the next."""

    @property
    def offset(self) -> float:
        """Centre of what cell (0, 0) sees, in pixels from the centre of the photo's first pixel."""


def patch_vlad(
    feat_NDHW: Tensor,
    layer: Aggregation,
    whitening: Projection | None,
    sizes: Sequence[int] = (2, 5, 8),
    strides: Sequence[int] = (1, 1, 1),
    *,
    stacked: int = 1,
    dtype: torch.dtype = torch.float32,
    sums: Sums = "direct",
) -> list[Tensor]:
    """Descriptors of all patches of feature maps: what the layer itself makes of the cells of each patch.

    Equivalent to the local descriptors of ``PatchNetVLAD.forward`` and ``get_pca_encoding``
    (patchnetvlad/models), for a `NetVLAD` with ``epsilon="torch"``: mean residual of the patch per cluster,
    each cluster at unit length, the whole at unit length, whitened, at unit length.

    Args:
        feat_NDHW: [N, D, T*H, W] of any floating type.
        layer: `NetVLAD` or `VLAD`, whose clusters and weights are used.
        whitening: None leaves the patches un-whitened: [P, K*D], as large as that is.
        sizes: sides of the patches, in cells.
        strides: for each size, cells from one patch to the next.
        stacked: T: so many feature maps of one grid lie one below the other (scales of `RootSift`); a patch
            sums its cells in all of them.
        dtype: of the products with the whitening: ``torch.bfloat16`` is faster, and its descriptors keep a
            cosine of about 0.99998 to the exact ones.
        sums: ``"direct"`` is exact; ``"integral"`` repeats the original's integral image with its rounding,
            which intra-normalisation blows up where a cluster holds next to nothing (to 0.1 an entry).

    Returns:
        For each size, float32 [N, P, d]. No gradient flows through them.

    Raises:
        InputError: the layer has no clusters, shapes do not fit, or a patch is larger than the feature map.
    """
    clustered = _clustered(layer)
    if feat_NDHW.ndim != 4:
        raise InputError(f"patches are made from feature maps [N, D, H, W]; given {list(feat_NDHW.shape)}")
    grid = _grid(feat_NDHW, stacked)
    scales = patch_scales(grid, sizes, strides)
    if whitening is not None and whitening.weight.shape[1] != clustered.descriptor_size:
        raise InputError(
            f"the whitening takes {whitening.weight.shape[1]} dimensions; patches of this "
            f"{type(clustered).__name__} have {clustered.descriptor_size}"
        )
    with torch.no_grad(), torch.autocast(feat_NDHW.device.type, enabled=False):
        feat_NLD = clustered.local_features(feat_NDHW.float()).contiguous()
        weights_NKL = clustered.assignment_weights(feat_NLD.transpose(1, 2)).contiguous()
        photos, (height, width) = len(feat_NLD), grid
        residuals = Residuals(
            feat_NLD.view(photos, stacked, height, width, clustered.dim),
            weights_NKL.view(photos, clustered.clusters, stacked, height, width),
            clustered,
        )
        return fused_patches(residuals, whitening, scales, dtype, sums)


class PatchVLAD:
    """Patches of photos at several sizes, from their feature maps.

    Args:
        layer: `NetVLAD` or `VLAD`, whose clusters and weights are used.
        whitening: a projection [d, K*D] of each patch, which is then again of unit length; None for none.
        geometry: where cells lie: the backbone's ``geometry``.
        sizes: sides of the patches, in cells.
        strides: for each size, cells from one patch to the next.
        stacked: see `patch_vlad`.
        dtype: see `patch_vlad`.
        sums: see `patch_vlad`.
        whole_pixels: centres are cut to whole pixels, as the original's.

    Raises:
        InputError: the layer has no clusters.
    """

    def __init__(
        self,
        layer: Aggregation,
        whitening: Projection | None,
        geometry: CellGeometry,
        sizes: Sequence[int] = (2, 5, 8),
        strides: Sequence[int] = (1, 1, 1),
        *,
        stacked: int = 1,
        dtype: torch.dtype = torch.float32,
        sums: Sums = "direct",
        whole_pixels: bool = False,
    ) -> None:
        self.layer, self.whitening, self.geometry = _clustered(layer), whitening, geometry
        self.stacked = int(stacked)
        self.sizes, self.strides = tuple(sizes), tuple(strides)
        self.dtype, self.sums, self.whole_pixels = dtype, sums, whole_pixels

    def __call__(self, feat_NDHW: Tensor) -> list[list[PatchSet]]:
        """For each photo of [N, D, T*H, W], its patches of each size.

        Raises:
            InputError: see `patch_vlad`.
        """
        descriptors = patch_vlad(
            feat_NDHW,
            self.layer,
            self.whitening,
            self.sizes,
            self.strides,
            stacked=self.stacked,
            dtype=self.dtype,
            sums=self.sums,
        )
        scales = patch_scales(_grid(feat_NDHW, self.stacked), self.sizes, self.strides)
        photos: list[list[PatchSet]] = [[] for _ in feat_NDHW]
        for scale, patches_NPd in zip(scales, descriptors, strict=True):
            centres_P2 = patch_centres(
                scale.grid, scale.size, scale.stride, self.geometry, whole_pixels=self.whole_pixels
            )
            step = float(self.geometry.stride * scale.stride)
            for photo, patches_Pd in zip(photos, patches_NPd, strict=True):
                photo.append(PatchSet(patches_Pd, centres_P2, scale.grid, scale.size, step))
        return photos


def patch_centres(
    grid: tuple[int, int], size: int, stride: int, geometry: CellGeometry, *, whole_pixels: bool = False
) -> Tensor:
    """Centres of patches: the mean of the centres of what their cells see.

    Equivalent to ``calc_keypoint_centers_from_patches`` (patchnetvlad/models/local_matcher.py) for every
    backbone and stride, with `whole_pixels` for VGG-16 to the pixel.

    Args:
        grid: (H, W) patches.
        size: side of a patch, in cells.
        stride: cells from one patch to the next.
        geometry: of the backbone.
        whole_pixels: cut them to whole pixels, as the original does.

    Returns:
        float32 [H*W, 2]: x and y in pixels of the prepared photo.
    """
    first = geometry.offset + geometry.stride * (size - 1) / 2
    y_H, x_W = (torch.arange(count) * float(geometry.stride * stride) + first for count in grid)
    centres_P2 = torch.stack([x_W.expand(grid), y_H[:, None].expand(grid)], dim=-1).reshape(-1, 2)
    return centres_P2.trunc() if whole_pixels else centres_P2


def _clustered(layer: Aggregation) -> VLADBase:
    if not isinstance(layer, VLADBase):
        raise InputError(
            f"patches need an aggregation with clusters, netvlad or vlad; given "
            f"{getattr(layer, 'name', type(layer).__name__)!r}: take a model such as vgg16-netvlad-pitts30k "
            "or rootsift-vlad"
        )
    return layer


def _grid(feat_NDHW: Tensor, stacked: int) -> tuple[int, int]:
    """(H, W) of one of the feature maps that are stacked in the height."""
    height, width = feat_NDHW.shape[2:]
    if stacked < 1 or height % stacked:
        raise InputError(
            f"a feature map of {height} rows is not {stacked} of the same size stacked; give as `stacked` "
            "the backbone's `scales`"
        )
    return height // stacked, width
