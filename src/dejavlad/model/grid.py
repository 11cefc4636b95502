"""Whether a head can take a feature map: some need so many cells, and some a grid of one size."""

from __future__ import annotations

import math

from torch import Tensor, nn

from dejavlad.aggregation import Aggregation
from dejavlad.errors import InputError


def check_grid(feat_NCHW: Tensor, backbone: nn.Module, layer: Aggregation, name: str) -> None:
    """Refuse a feature map [N, C, H, W] that a head cannot take.

    Args:
        feat_NCHW: the feature map.
        backbone: that made it; of one that does not say its stride nothing is asked.
        layer: the head.
        name: of the model.

    Raises:
        InputError: it has too few cells, or another grid, with a size of photos that the head can take.
    """
    stride = getattr(backbone, "stride", None)
    if feat_NCHW.ndim != 4 or not isinstance(stride, int):
        return
    cells = feat_NCHW.shape[2] * feat_NCHW.shape[3] - layer.leading
    if cells < layer.least_locations:
        side = math.isqrt(layer.least_locations - 1) + 1
        raise InputError(
            f"photos of {cells} cells of {stride}x{stride} pixels are too few for {name}: it needs "
            f"at least {layer.least_locations}, e.g. photos of {side * stride}x{side * stride} pixels; "
            f"give larger photos or --resize"
        )
    wanted = layer.fixed_grid
    grid = (cells,) if layer.leading else tuple(feat_NCHW.shape[2:])
    if wanted is not None and grid != ((math.prod(wanted),) if layer.leading else wanted):
        height, width = (side * stride for side in wanted)
        cells_text = "x".join(map(str, grid))
        raise InputError(
            f"{name} takes photos of {height}x{width} pixels only ({wanted[0]}x{wanted[1]} cells); "
            f"these have {cells_text} cells: leave --resize out, or give --resize {height}x{width}"
        )
