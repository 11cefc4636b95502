"""NetVLAD of every patch of a feature map (Patch-NetVLAD: Hausler et al., CVPR 2021), whitened.

The matrix of un-whitened patches [P, K*D] never exists when there is a whitening: its weights are split by
cluster, and each cluster's share of all patches is added to [P, d]. As whitening is linear and a patch is a
sum of cells, cells may be whitened before they are summed: less work where the patches outnumber them.

Shapes: N photos, D channels, H x W cells, K clusters; P patches of one size, row by row, and S of all
sizes; d whitened dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from dejavlad.aggregation.boxes import Scale, direct_boxes, integral_boxes, patch_scales
from dejavlad.aggregation.functional import EPSILON, EpsilonRule
from dejavlad.aggregation.netvlad import NetVLAD
from dejavlad.errors import InputError
from dejavlad.patches import PatchSet

WORTH_PROJECTING = 1.5
"""Cells are whitened before they are summed where there are this many times more patches than cells."""

CHUNK = 256
"""Dimensions that are summed at a time, so that they stay in the processor's cache."""


Sums = Literal["direct", "integral"]
"""How cells are summed to patches."""


class Projection(Protocol):
    """``W x + b``; `dejavlad.model.Whitening` is one."""

    @property
    def weight(self) -> Tensor:
        """[d, K*D]."""

    @property
    def bias(self) -> Tensor:
        """[d]."""


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
    netvlad: NetVLAD,
    whitening: Projection | None,
    sizes: Sequence[int] = (2, 5, 8),
    strides: Sequence[int] = (1, 1, 1),
    *,
    dtype: torch.dtype = torch.float32,
    sums: Sums = "direct",
) -> list[Tensor]:
    """Descriptors of all patches of feature maps.

    Equivalent to the local descriptors of ``PatchNetVLAD.forward`` and ``get_pca_encoding``
    (patchnetvlad/models), for ``netvlad.epsilon == "torch"``: mean residual of the patch per cluster, each
    cluster at unit length, the whole at unit length, whitened, at unit length.

    Args:
        feat_NDHW: [N, D, H, W] of any floating type.
        netvlad: the layer whose clusters and weights are used.
        whitening: None leaves the patches un-whitened: [P, K*D], as large as that is.
        sizes: sides of the patches, in cells.
        strides: for each size, cells from one patch to the next.
        dtype: of the products with the whitening: ``torch.bfloat16`` is faster, and its descriptors keep a
            cosine of about 0.99999 to the exact ones.
        sums: ``"direct"`` is exact; ``"integral"`` repeats the original's integral image with its rounding,
            which intra-normalisation blows up where a cluster holds next to nothing (to 0.1 an entry).

    Returns:
        For each size, float32 [N, P, d]. No gradient flows through them.

    Raises:
        InputError: shapes do not fit, or a patch is larger than the feature map.
    """
    if feat_NDHW.ndim != 4:
        raise InputError(f"patches are made from feature maps [N, D, H, W]; given {list(feat_NDHW.shape)}")
    height, width = feat_NDHW.shape[2:]
    scales = patch_scales((height, width), sizes, strides)
    if whitening is not None and whitening.weight.shape[1] != netvlad.descriptor_size:
        raise InputError(
            f"the whitening takes {whitening.weight.shape[1]} dimensions; patches of this NetVLAD have "
            f"{netvlad.descriptor_size}"
        )
    with torch.no_grad(), torch.autocast(feat_NDHW.device.type, enabled=False):
        feat_NLD = netvlad.local_features(feat_NDHW).contiguous()
        weights_NKL = netvlad.assign(feat_NLD.transpose(1, 2)).contiguous()
        feat_NHWD = feat_NLD.view(len(feat_NLD), height, width, netvlad.dim)
        weights_NKHW = weights_NKL.view(len(feat_NLD), netvlad.clusters, height, width)
        found_NSd = _fused(feat_NHWD, weights_NKHW, netvlad, whitening, scales, dtype, sums)
    return [found_NSd[:, scale.rows] for scale in scales]


class PatchVLAD:
    """Patches of photos at several sizes, from their feature maps.

    Args:
        netvlad: the layer whose clusters and weights are used.
        whitening: see `patch_vlad`.
        geometry: where cells lie: the backbone's ``geometry``.
        sizes: sides of the patches, in cells.
        strides: for each size, cells from one patch to the next.
        dtype: see `patch_vlad`.
        sums: see `patch_vlad`.
        whole_pixels: centres are cut to whole pixels, as the original's.
    """

    def __init__(
        self,
        netvlad: NetVLAD,
        whitening: Projection | None,
        geometry: CellGeometry,
        sizes: Sequence[int] = (2, 5, 8),
        strides: Sequence[int] = (1, 1, 1),
        *,
        dtype: torch.dtype = torch.float32,
        sums: Sums = "direct",
        whole_pixels: bool = False,
    ) -> None:
        self.netvlad, self.whitening, self.geometry = netvlad, whitening, geometry
        self.sizes, self.strides = tuple(sizes), tuple(strides)
        self.dtype, self.sums, self.whole_pixels = dtype, sums, whole_pixels

    def __call__(self, feat_NDHW: Tensor) -> list[list[PatchSet]]:
        """For each photo of [N, D, H, W], its patches of each size.

        Raises:
            InputError: see `patch_vlad`.
        """
        found = patch_vlad(
            feat_NDHW,
            self.netvlad,
            self.whitening,
            self.sizes,
            self.strides,
            dtype=self.dtype,
            sums=self.sums,
        )
        scales = patch_scales((feat_NDHW.shape[2], feat_NDHW.shape[3]), self.sizes, self.strides)
        photos: list[list[PatchSet]] = [[] for _ in feat_NDHW]
        for scale, patches_NPd in zip(scales, found, strict=True):
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


def _fused(
    feat_NHWD: Tensor,
    weights_NKHW: Tensor,
    netvlad: NetVLAD,
    whitening: Projection | None,
    scales: Sequence[Scale],
    dtype: torch.dtype,
    sums: Sums,
) -> Tensor:
    """Unit descriptors [N, S, d] of the patches of all sizes, cluster by cluster."""
    photos, height, width, dims = feat_NHWD.shape
    total = scales[-1].rows.stop
    project_first = sums == "direct" and total > WORTH_PROJECTING * height * width
    boxes = direct_boxes if sums == "direct" else integral_boxes
    out_dims = netvlad.descriptor_size if whitening is None else len(whitening.weight)
    found_NSd = feat_NHWD.new_zeros(photos, total, out_dims)
    squares_NS1 = feat_NHWD.new_zeros(photos, total, 1)
    patches_SD = feat_NHWD.new_empty(total, dims)
    for k, centre_D in enumerate(netvlad.centroids):
        columns = slice(k * dims, (k + 1) * dims)
        weight_dD = None if whitening is None else whitening.weight[:, columns].to(dtype)
        for n, found_Sd in enumerate(found_NSd):
            residuals_HWD = (feat_NHWD[n] - centre_D).mul_(weights_NKHW[n, k, :, :, None])
            for scale, boxes_PD in boxes(residuals_HWD, scales):
                torch.div(boxes_PD, scale.size**2, out=patches_SD[scale.rows])
            squares_S1 = torch.linalg.vector_norm(patches_SD, dim=1, keepdim=True).square_()
            scaling_S1 = _intra_scaling(squares_S1, netvlad)
            squares_NS1[n].addcmul_(squares_S1, scaling_S1.square())
            if weight_dD is None:
                torch.mul(patches_SD, scaling_S1, out=found_Sd[:, columns])
            elif project_first:
                _add_projected(found_Sd, residuals_HWD.to(dtype), weight_dD, scaling_S1, scales)
            elif dtype == found_Sd.dtype:
                found_Sd.addmm_(patches_SD.mul_(scaling_S1), weight_dD.T)
            else:
                found_Sd += patches_SD.mul_(scaling_S1).to(dtype) @ weight_dD.T
    for found_Sd, squares_S1 in zip(found_NSd, squares_NS1, strict=True):
        found_Sd.div_(_length(squares_S1, netvlad.epsilon))
        if whitening is not None:
            found_Sd.add_(whitening.bias.to(found_Sd.dtype))
            found_Sd.div_(torch.linalg.vector_norm(found_Sd, dim=1, keepdim=True).clamp_(min=EPSILON))
    return found_NSd


def _add_projected(
    found_Sd: Tensor, cells_HWD: Tensor, weight_dD: Tensor, scaling_S1: Tensor, scales: Sequence[Scale]
) -> None:
    """Add a cluster's share: cells are projected, then summed to patches, some dimensions at a time."""
    for start in range(0, len(weight_dD), CHUNK):
        dims = slice(start, start + CHUNK)
        projected_HWd = (cells_HWD @ weight_dD[dims].T).to(found_Sd.dtype)
        for scale, boxes_Pd in direct_boxes(projected_HWd, scales):
            scaling_P1 = scaling_S1[scale.rows] / scale.size**2
            found_Sd[scale.rows, dims].addcmul_(boxes_Pd, scaling_P1)


def _intra_scaling(squares_S1: Tensor, netvlad: NetVLAD) -> Tensor:
    """What brings a cluster's sum to unit length, as `functional.l2_normalize` does."""
    if not netvlad.intra_norm:
        return torch.ones_like(squares_S1)
    if netvlad.epsilon == "torch":
        return squares_S1.sqrt().clamp_(min=EPSILON).reciprocal_()
    return (squares_S1 + EPSILON).rsqrt_()


def _length(squares_S1: Tensor, rule: EpsilonRule) -> Tensor:
    """What whole vectors are divided by, as `functional.l2_normalize_whole` does."""
    lengths_S1 = squares_S1.sqrt()
    return lengths_S1.clamp_(min=EPSILON) if rule == "torch" else lengths_S1 + EPSILON
