"""A model as the one module that is exported: photos in, descriptors and patches out.

Shapes: N photos, H x W pixels or cells, D channels, K clusters, P patches of one size, d whitened dimensions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.aggregation import PatchVLAD
from dejavlad.aggregation.functional import EPSILON
from dejavlad.aggregation.netvlad import VLADBase
from dejavlad.backbones.dinov2 import DinoV2
from dejavlad.errors import InputError
from dejavlad.images import Preprocess
from dejavlad.model import PatchSetting, PlaceModel


class ExportedNetwork(nn.Module):
    """Backbone, aggregation and whitening of a model; with patches, their descriptors of each size too.

    Args:
        model: fitted, with a backbone that has weights.
        patches: also make these; None for none.
        with_preprocess: take photos as uint8 [N, H, W, 3] of the size that the network wants, not prepared.

    Raises:
        InputError: the model has no network, makes no patches, or prepares photos in a way that cannot be
            part of the network.
    """

    def __init__(
        self, model: PlaceModel, patches: PatchSetting | None = None, *, with_preprocess: bool = False
    ) -> None:
        super().__init__()
        model.require_fitted()
        check_network(model)
        if with_preprocess:
            check_bytes(model.preprocess)
        self.model = model
        self.layer = None if patches is None else model.patch_layer(patches)
        if patches is not None and patches.dims is not None and self.layer is not None:
            self.cut = self.layer.whitening  # a layer of its own: its weights are exported with the network
        self.with_preprocess = with_preprocess

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """[N, 3, H, W] prepared photos, or uint8 [N, H, W, 3] -> [N, D]; with patches also
        [N, P, d] of each size, and (H, W) of the cells."""
        if self.with_preprocess:
            images = values(images, self.model.preprocess)
        feat_NDHW: Tensor = self.model.backbone(images)
        rows_ND = self.model.pooled(feat_NDHW)
        if self.layer is None:
            return rows_ND
        cells_2 = torch._shape_as_tensor(feat_NDHW)[2:]
        return rows_ND, *plain_patches(feat_NDHW.float(), self.layer), cells_2


def check_network(model: PlaceModel) -> None:
    """Raises InputError where the model is no network (RootSIFT's features are computed, not learnt)."""
    if next(model.backbone.parameters(), None) is None:
        raise InputError(
            f"model {model.name!r} is no network: its features are computed by a program, so it cannot be "
            f"exported or run by another runtime; take one with a network, such as efficientnet_lite0-vlad"
        )


def check_bytes(preprocess: Preprocess) -> None:
    """Raises InputError where photos are prepared in real numbers, so that bytes do not hold them."""
    if preprocess.grey or preprocess.resize_on == "values":
        why = "made grey" if preprocess.grey else "resized as real numbers"
        raise InputError(
            f"--with-preprocess: this model's photos are {why}, which bytes cannot hold; leave it out"
        )


def values(images_NHWC: Tensor, preprocess: Preprocess) -> Tensor:
    """Photos of bytes [N, H, W, 3] as the network takes them, [N, 3, H, W]: what `Preprocess` does last."""
    x = images_NHWC.permute(0, 3, 1, 2).float()
    if preprocess.channels == "bgr":
        x = x.flip(1)
    if preprocess.scale == "0-1":
        x = x / 255
    mean, std = (torch.tensor(triple)[:, None, None] for triple in (preprocess.mean, preprocess.std))
    return (x - mean) / std


def as_bytes(images_NCHW: Tensor, preprocess: Preprocess) -> Tensor:
    """The photos [N, H, W, 3] of bytes that `values` makes prepared photos of: its inverse."""
    mean, std = (torch.tensor(triple)[:, None, None] for triple in (preprocess.mean, preprocess.std))
    x = images_NCHW * std + mean
    if preprocess.scale == "0-1":
        x = x * 255
    if preprocess.channels == "bgr":
        x = x.flip(1)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def plain_patches(feat_NDHW: Tensor, layer: PatchVLAD) -> list[Tensor]:
    """What `PatchVLAD` makes, [N, P, d] of each size, by operations that every runtime knows.

    Cluster by cluster: residuals, their means over each patch, intra-normalised, and that cluster's share of
    the whitening.
    """
    vlad: VLADBase = layer.layer
    height, width = feat_NDHW.shape[2:]
    prepared_NDL = vlad.prepare(feat_NDHW.flatten(2))
    weights_NKL = vlad.assignment_weights(prepared_NDL)
    cells_NDHW = prepared_NDL.view(-1, vlad.dim, height, width)
    weights_NKHW = weights_NKL.view(-1, vlad.clusters, height, width)
    made = []
    for size, stride in zip(layer.sizes, layer.strides, strict=True):
        shares, squares = [], []
        for k in range(vlad.clusters):
            residuals = (cells_NDHW - vlad.centroids[k][:, None, None]) * weights_NKHW[:, k : k + 1]
            sums_NDhw = F.avg_pool2d(residuals, size, stride)
            if vlad.epsilon != "torch":
                sums_NDhw = sums_NDhw * size**2
            sums_NDhw = vlad.power_normalize(sums_NDhw)
            if vlad.intra_norm:
                square = sums_NDhw.square().sum(1, keepdim=True)
                torch_rule = vlad.epsilon == "torch"
                length = square.sqrt().clamp(min=EPSILON) if torch_rule else (square + EPSILON).sqrt()
                sums_NDhw = sums_NDhw / length
            squares.append(sums_NDhw.square().sum(1, keepdim=True))
            if layer.whitening is not None:
                weight_dD = layer.whitening.weight[:, k * vlad.dim : (k + 1) * vlad.dim]
                sums_NDhw = F.conv2d(sums_NDhw, weight_dD[:, :, None, None])
            shares.append(sums_NDhw)
        length = torch.stack(squares).sum(0).sqrt().clamp(min=EPSILON)
        if layer.whitening is None:
            patches = torch.cat(shares, 1) / length
        else:
            patches = torch.stack(shares).sum(0) / length + layer.whitening.bias[:, None, None]
            patches = patches / torch.linalg.vector_norm(patches, dim=1, keepdim=True).clamp(min=EPSILON)
        made.append(patches.flatten(2).transpose(1, 2))
    return made


def is_transformer(model: PlaceModel) -> bool:
    """Whether its backbone is a transformer, of which most time goes to products of matrices."""
    return isinstance(model.backbone, DinoV2) or model.source.name.startswith("hub:")


def takes_any_size(model: PlaceModel) -> bool:
    """Whether one exported network can take photos of any size: those without a grid of their own can."""
    return not (is_transformer(model) or model.aggregation.fixed_grid or model.aggregation.needs_training)


@contextlib.contextmanager
def of_one_size(backbone: nn.Module, size: tuple[int, int]) -> Iterator[None]:
    """While a network is exported for photos of one size, DINOv2's positions for it are numbers.

    So is the resizing to multiples of 14, which is a product of matrices with each photo.
    """
    if not isinstance(backbone, DinoV2):
        yield
        return
    with torch.no_grad():
        near = backbone.fitted(torch.zeros(1, 3, *size)).shape[2:]
        rows, columns = (side // 14 for side in near)
        table = backbone.table(rows, columns).detach().clone()
        sides = [(old, new) for old, new in zip(size, near, strict=True)]
        matrices = [_resizing(old, new) for old, new in sides]
    resizes = tuple(near) != size

    def fitted(images_NCHW: Tensor) -> Tensor:
        return matrices[0] @ images_NCHW @ matrices[1].T if resizes else images_NCHW

    vars(backbone)["table"] = lambda rows, columns: table
    vars(backbone)["fitted"] = fitted
    try:
        yield
    finally:
        del vars(backbone)["table"], vars(backbone)["fitted"]


def _resizing(old: int, new: int) -> Tensor:
    """[new, old]: what antialiased bilinear resizing along one axis multiplies by."""
    return F.interpolate(torch.eye(old)[None, None], (new, old), mode="bilinear", antialias=True)[0, 0]
