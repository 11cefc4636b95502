"""Unit descriptors of patches from residuals, whitened cluster by cluster.

The matrix of un-whitened patches [P, K*D] never exists when there is a whitening: its weights are split by
cluster, and each cluster's share of all patches is added to [P, d]. As whitening is linear and a patch is a
sum of cells, cells may be whitened before they are summed: less work where the patches outnumber them. They
are then summed along one axis by additions, and along the other by a product with a band matrix that carries
each patch's intra-normalisation as well and adds up several clusters at once.

Shapes: N photos, D channels, K clusters, G clusters of one group, H x W cells; P patches of one size, row by
row, and S of all sizes; d whitened dimensions. Where cells are whitened first, the grid is A x B with the
longer axis first, so that the products are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from dejavlad.aggregation.boxes import Scale, direct_boxes, integral_boxes, window_sums
from dejavlad.aggregation.functional import EPSILON
from dejavlad.aggregation.netvlad import VLADBase

WORTH_PROJECTING = 1.5
"""Cells are whitened before they are summed where there are this many times more patches than cells."""

GROUP = 4
"""Clusters whose shares are added in one product."""

CHUNK = 1024
"""Whitened dimensions at a time, so that their sums stay in the processor's cache."""

CHANNELS = 256
"""As `CHUNK`, for the channels of residuals."""

Sums = Literal["direct", "integral"]
"""How cells are summed to patches."""


class Projection(Protocol):
    """``W x + b``; `dejavlad.model.Whitening` is one."""

    @property
    def weight(self) -> Tensor:
        """The projection's matrix, [d, K*D]."""

    @property
    def bias(self) -> Tensor:
        """The vector added after the product, [d]."""


@dataclass(frozen=True, slots=True)
class Residuals:
    """Residuals of a feature map's cells, made when they are asked for."""

    feat_NTHWD: Tensor
    """float32, prepared as the layer does; T grids, whose residuals in one cell are summed."""
    weights_NKTHW: Tensor
    """float32: see `VLADBase.assignment_weights`."""
    layer: VLADBase

    def of(self, photo: int, cluster: int) -> Tensor:
        """[H, W, D] of one photo and cluster, for the caller to change."""
        share_THW1 = self.weights_NKTHW[photo, cluster, ..., None]
        residuals_THWD = (self.feat_NTHWD[photo] - self.layer.centroids[cluster]).mul_(share_THW1)
        return residuals_THWD[0] if len(residuals_THWD) == 1 else residuals_THWD.sum(dim=0)

    def turned(self) -> Residuals:
        """The same residuals with the grid's rows and columns exchanged: [N, T, W, H, D]."""
        return Residuals(
            self.feat_NTHWD.transpose(2, 3).contiguous(),
            self.weights_NKTHW.transpose(3, 4).contiguous(),
            self.layer,
        )


def fused_patches(
    residuals: Residuals,
    whitening: Projection | None,
    scales: Sequence[Scale],
    dtype: torch.dtype,
    sums: Sums,
) -> list[Tensor]:
    """For each size float32 [N, P, d], of unit length ([N, P, K*D] without whitening)."""
    photos, _, height, width, _ = residuals.feat_NTHWD.shape
    layer, total = residuals.layer, scales[-1].rows.stop
    dims = layer.descriptor_size if whitening is None else len(whitening.weight)
    descriptors_NSd = residuals.feat_NTHWD.new_zeros(photos, total, dims)
    squares_NS1 = residuals.feat_NTHWD.new_zeros(photos, total, 1)
    # Whitening may come before the sum only where a patch is a plain sum of its cells: a power of the sum is
    # no sum of powers, and integral sums are there to repeat the original's rounding.
    many = total > WORTH_PROJECTING * height * width
    if whitening is not None and many and sums == "direct" and layer.power == 1:
        _project_first(descriptors_NSd, squares_NS1, residuals, whitening, scales, dtype)
    else:
        _sum_first(descriptors_NSd, squares_NS1, residuals, whitening, scales, dtype, sums)
    for descriptors_Sd, squares_S1 in zip(descriptors_NSd, squares_NS1, strict=True):
        lengths_S1 = squares_S1.sqrt()
        torch_rule = layer.epsilon == "torch"
        descriptors_Sd.div_(lengths_S1.clamp_(min=EPSILON) if torch_rule else lengths_S1.add_(EPSILON))
        if whitening is not None:
            descriptors_Sd.add_(whitening.bias.to(descriptors_Sd.dtype))
            descriptors_Sd.div_(
                torch.linalg.vector_norm(descriptors_Sd, dim=1, keepdim=True).clamp_(min=EPSILON)
            )
    return [descriptors_NSd[:, scale.rows] for scale in scales]


def _sum_first(
    descriptors_NSd: Tensor,
    squares_NS1: Tensor,
    residuals: Residuals,
    whitening: Projection | None,
    scales: Sequence[Scale],
    dtype: torch.dtype,
    sums: Sums,
) -> None:
    """Add up clusters' shares of all patches: cells are summed, then projected."""
    layer, boxes = residuals.layer, direct_boxes if sums == "direct" else integral_boxes
    for group in _groups(layer.clusters):
        columns = slice(group[0] * layer.dim, (group[-1] + 1) * layer.dim)
        weight_dE = None if whitening is None else whitening.weight[:, columns].to(dtype)
        for n, descriptors_Sd in enumerate(descriptors_NSd):
            patches_SGD = descriptors_Sd.new_empty(len(descriptors_Sd), len(group), layer.dim)
            for at, k in enumerate(group):
                patches_SD = patches_SGD[:, at]
                for scale, boxes_PD in boxes(residuals.of(n, k), scales):
                    torch.div(boxes_PD, _cells(scale, layer), out=patches_SD[scale.rows])
                if layer.power != 1:
                    patches_SD.copy_(layer.power_normalize(patches_SD))
                squares_S1 = torch.linalg.vector_norm(patches_SD, dim=1, keepdim=True).square_()
                scaling_S1 = _intra_scaling(squares_S1, layer)
                squares_NS1[n].addcmul_(squares_S1, scaling_S1.square())
                patches_SD.mul_(scaling_S1)
            patches_SE = patches_SGD.flatten(1)
            if weight_dE is None:
                descriptors_Sd[:, columns] = patches_SE
            elif dtype == descriptors_Sd.dtype:
                descriptors_Sd.addmm_(patches_SE, weight_dE.T)
            else:
                descriptors_Sd += patches_SE.to(dtype) @ weight_dE.T


def _project_first(
    descriptors_NSd: Tensor,
    squares_NS1: Tensor,
    residuals: Residuals,
    whitening: Projection,
    scales: Sequence[Scale],
    dtype: torch.dtype,
) -> None:
    """Add up clusters' shares of all patches: cells are projected, then summed."""
    layer, (height, width) = residuals.layer, residuals.feat_NTHWD.shape[2:4]
    turned = width > height
    if turned:
        residuals = residuals.turned()
        scales = [replace(scale, grid=(scale.grid[1], scale.grid[0])) for scale in scales]
    chunk = CHUNK if descriptors_NSd.device.type == "cpu" else max(1, descriptors_NSd.shape[2])
    short = min(height, width)
    room = [descriptors_NSd.new_empty(scale.grid[0], GROUP, short, chunk, dtype=dtype) for scale in scales]
    # Clusters are outermost and dimensions next, so that a weight is brought to `dtype` once for all photos,
    # and the sums of a chunk stay in the cache.
    for group in _groups(layer.clusters):
        photos = [
            _scaled_bands(residuals, n, group, scales, squares_S1, dtype, turned=turned)
            for n, squares_S1 in enumerate(squares_NS1)
        ]
        for start in range(0, descriptors_NSd.shape[2], chunk):
            rows = slice(start, start + chunk)
            weights = [whitening.weight[rows, k * layer.dim : (k + 1) * layer.dim].to(dtype) for k in group]
            for descriptors_Sd, (cells, bands) in zip(descriptors_NSd[:, :, rows], photos, strict=True):
                sums = [block[:, : len(group), :, : descriptors_Sd.shape[1]] for block in room]
                for at, (cells_ABD, weight_dD) in enumerate(zip(cells, weights, strict=True)):
                    known = {1: cells_ABD @ weight_dD.T}
                    for scale, sums_AGBd in zip(scales, sums, strict=True):
                        window_sums(known, scale.size, axis=0, step=scale.stride, out=sums_AGBd[:, at])
                for scale, band_ABC, sums_AGBd in zip(scales, bands, sums, strict=True):
                    share_ABd = torch.bmm(band_ABC, sums_AGBd.flatten(1, 2))
                    _as_grid(descriptors_Sd[scale.rows], scale, turned=turned).add_(share_ABd)


def _scaled_bands(
    residuals: Residuals,
    photo: int,
    group: Sequence[int],
    scales: Sequence[Scale],
    squares_S1: Tensor,
    dtype: torch.dtype,
    *,
    turned: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """A photo's residuals [A, B, D] of each cluster of a group, and what sums and scales them along B.

    That is for each size [A, B, G*B]: for the A x B patches, what each cell of each cluster, summed along A,
    counts. Squared lengths of the scaled clusters are added to `squares_S1`.
    """
    layer, cells = residuals.layer, []
    scalings: list[list[Tensor]] = [[] for _ in scales]
    for k in group:
        residuals_ABD = residuals.of(photo, k)
        cells.append(residuals_ABD.to(dtype))
        squares: list[Tensor | float] = [0.0 for _ in scales]
        # Intra-normalisation needs the length of each patch's un-whitened residual; its D numbers are not
        # kept.
        for part_ABD in torch.split(residuals_ABD, CHANNELS, dim=2):
            for i, (_, boxes_PD) in enumerate(direct_boxes(part_ABD, scales)):
                squares[i] = torch.linalg.vector_norm(boxes_PD, dim=1).square_() + squares[i]
        for scale, squares_P, scaled in zip(scales, squares, scalings, strict=True):
            area = _cells(scale, layer)
            squares_AB = torch.as_tensor(squares_P).view(scale.grid) / area**2
            scaling_AB = _intra_scaling(squares_AB, layer)
            whole_AB = _as_grid(squares_S1[scale.rows], scale, turned=turned)[..., 0]
            whole_AB.addcmul_(squares_AB, scaling_AB.square())
            scaled.append(scaling_AB / area)
    bands = []
    for scale, scaled in zip(scales, scalings, strict=True):
        inside_BC = _windows(scale, residuals_ABD.shape[1]).to(residuals_ABD)
        band_ABGC = torch.stack(scaled, dim=2)[..., None] * inside_BC[:, None]
        bands.append(band_ABGC.flatten(2).to(dtype))
    return cells, bands


def _windows(scale: Scale, cells: int) -> Tensor:
    """[patches, cells] along the second axis: 1 where the cell lies in the patch."""
    away = torch.arange(cells) - scale.stride * torch.arange(scale.grid[1])[:, None]
    return (away >= 0) & (away < scale.size)


def _as_grid(patches_Pd: Tensor, scale: Scale, *, turned: bool) -> Tensor:
    """[A, B, d], a view; `scale` is turned already."""
    a, b = scale.grid
    if turned:
        return patches_Pd.view(b, a, -1).transpose(0, 1)
    return patches_Pd.view(a, b, -1)


def _groups(clusters: int) -> Iterator[range]:
    for first in range(0, clusters, GROUP):
        yield range(first, min(first + GROUP, clusters))


def _cells(scale: Scale, layer: VLADBase) -> int:
    """By how much sums are divided: the original takes means, which tells where they are next to nothing."""
    return scale.size**2 if layer.epsilon == "torch" else 1


def _intra_scaling(squares: Tensor, layer: VLADBase) -> Tensor:
    """What brings a cluster's sum to unit length, as `functional.l2_normalize` does."""
    if not layer.intra_norm:
        return torch.ones_like(squares)
    if layer.epsilon == "torch":
        return squares.sqrt().clamp_(min=EPSILON).reciprocal_()
    return (squares + EPSILON).rsqrt_()
