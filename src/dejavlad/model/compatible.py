"""Whether the parts of a model fit each other, and a feature map its head."""

from __future__ import annotations

import math

from torch import Tensor, nn

from dejavlad.aggregation import Aggregation
from dejavlad.errors import InputError
from dejavlad.model.whitening import Whitening


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


def check_parts(
    backbone: nn.Module,
    aggregation: Aggregation,
    whitening: Whitening | None,
    patch_whitening: Whitening | None,
) -> None:
    """Refuse parts that do not fit each other.

    Raises:
        InputError: the head takes other channels or tokens, or a whitening other descriptors.
    """
    channels = getattr(backbone, "channels", None)
    if not isinstance(channels, int) or channels != aggregation.dim:
        raise InputError(
            f"the backbone says channels={channels!r}, but the aggregation takes {aggregation.dim}"
        )
    leading = int(getattr(backbone, "leading", 0))
    if leading != aggregation.leading:
        raise InputError(
            f"{aggregation.name} takes {_leads(aggregation.leading)}, "
            f"but the backbone gives {_leads(leading)}"
        )
    for layer in (whitening, patch_whitening):
        if layer is not None and layer.in_dims != aggregation.descriptor_size:
            raise InputError(
                f"the whitening takes {layer.in_dims} dimensions, "
                f"but the aggregation makes {aggregation.descriptor_size}"
            )


def _leads(tokens: int) -> str:
    return "the class token before the patches" if tokens else "patches alone"
