"""MatConvNet's SimpleNN networks, as NetVLAD's MATLAB code saves them, and pretrained ones as it loads them.

A network is a chain of layers up to the pooling, which is our backbone; the pooling with what surrounds it,
which is our aggregation; and ``WPCA`` with ``finalL2``, which is our whitening. MATLAB keeps filters as
[rows, columns, inputs, outputs], minus the centres, and descriptors with the cluster running fastest (k +
K*d), where ours is k*D + d. A network without pooling is cut as ``loadNet`` cuts it, and its NetVLAD is still
to be fitted.

Shapes: D channels, K clusters, P components kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dejavlad import aggregation
from dejavlad.aggregation import Aggregation
from dejavlad.backbones import BACKBONES, CHAIN, Chain
from dejavlad.backbones.base import Backbone, ChainBackbone
from dejavlad.backbones.chain import Pool
from dejavlad.convert.simplenn import (
    Layer,
    check_finite,
    described,
    kind_of,
    listed,
    numbers,
    tidy,
    to_array,
    to_tensor,
    weights_of,
)
from dejavlad.errors import CheckpointError, InputError
from dejavlad.images import Preprocess
from dejavlad.matlab.mat_file import read_mat
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.spec import BackboneSpec
from dejavlad.model.whitening import Whitening

OURS = ("vgg16", "vgg19")
"""Backbones that a chain may turn out to be."""
CLUSTERS = 64
"""NetVLAD's, for a network that has no pooling yet."""


def read(path: Path) -> PlaceModel:
    """The model that a network of MatConvNet is.

    Raises:
        CheckpointError: the file is damaged, holds no SimpleNN network, or one that makes no descriptors.
        MissingExtraError: the file is of version 7.3, and h5py is not installed.
    """
    variables = read_mat(path)
    try:
        return build(variables, path.stem)
    except (CheckpointError, InputError) as error:
        raise CheckpointError(f"{str(path)!r}: {error}") from None


def build(variables: Mapping[str, Any], name: str) -> PlaceModel:
    """The model of a network's variables, as `read_mat` gives them: ``net``, or its fields.

    Raises:
        CheckpointError: see `read`.
    """
    net = variables.get("net", variables)
    if not isinstance(net, Mapping) or "layers" not in net:
        raise CheckpointError(
            f"it holds no network, that is no net.layers, but {', '.join(list(variables)[:6]) or 'nothing'}"
        )
    layers = [tidy(layer, i) for i, layer in enumerate(listed(net["layers"]))]
    kinds = [kind_of(layer) for layer in layers]
    pooling = next((i for i, kind in enumerate(kinds) if kind in ("vlad", "max", "avg")), None)
    meta = net.get("meta") if isinstance(net.get("meta"), Mapping) else net
    assert isinstance(meta, Mapping)
    notes = {key: meta.get(key) for key in ("netID", "sessionID", "epoch")}
    notes = {
        key: value
        for key, value in notes.items()
        if isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))
    }
    if pooling is None:
        backbone, source = _backbone(layers[: _cut(layers, kinds) + 1])
        pool, whitening = aggregation.create("netvlad", backbone.channels, clusters=CLUSTERS), None
    else:
        before, rest = layers[:pooling], list(zip(kinds, layers, strict=True))[pooling:]
        normalised = bool(before) and _is_l2(before[-1], _outputs(before))
        backbone, source = _backbone(before[: len(before) - normalised])
        pool, rest = _pooling(rest, backbone.channels, normalised)
        whitening = _whitening(rest, pool)
    return PlaceModel(
        backbone,
        pool,
        Preprocess(mean=_mean(meta), scale="0-255", rotate=False),
        whitening=whitening,
        fitted=pooling is not None or None,
        name=name,
        source=source,
        provenance={"format": "MatConvNet", **notes},
    ).eval()


def _outputs(layers: Sequence[Layer]) -> int:
    """Number of channels after a chain of layers; 3, those of a photo, where none is a convolution."""
    return next((weights_of(layer)[0].shape[-1] for layer in reversed(layers) if kind_of(layer) == "conv"), 3)


def _backbone(layers: Sequence[Layer]) -> tuple[Backbone, BackboneSpec]:
    """The chain as one of our backbones where it is one, else as it is."""
    descriptions, tensors, channels = [], list[Tensor](), 3
    for layer in layers:
        description, weights = described(layer, channels)
        channels = int(description.get("outputs", channels))
        descriptions.append(description)
        tensors += weights
    chain = Chain(descriptions)
    for name in OURS:
        with torch.device("meta"):
            whole = BACKBONES[name].make(cut=BACKBONES[name].end)
        if isinstance(whole, ChainBackbone) and _same(chain, whole):
            cut = whole.names[len(descriptions) - 1]
            return _filled(BACKBONES[name].make(cut=cut), tensors), BackboneSpec(name, cut)
    return _filled(chain, tensors), BackboneSpec(CHAIN, options={"layers": descriptions})


def _same(chain: Chain, ours: ChainBackbone) -> bool:
    """Whether a chain computes what the start of our backbone does, after what ReLU and pooling commute."""

    def settings(layer: nn.Module) -> object:
        if isinstance(layer, nn.Conv2d):
            shape = tuple(layer.weight.shape)
            return shape, layer.stride, layer.padding, layer.dilation, layer.groups, layer.bias is not None
        if isinstance(layer, Pool):
            return layer.method, layer.kernel, layer.stride, layer.pad
        if isinstance(layer, nn.MaxPool2d) and not layer.ceil_mode:
            kernel, stride, pad = layer.kernel_size, layer.stride, layer.padding
            return "max", (kernel, kernel), (stride, stride), (pad,) * 4
        return "relu" if isinstance(layer, nn.ReLU) else layer

    def listed(backbone: nn.Module) -> list[object]:
        (layers,) = backbone.children()
        values = [settings(layer) for layer in layers.children()]
        for i in range(len(values) - 1):
            if isinstance(values[i], tuple) and values[i][0] == "max" and values[i + 1] == "relu":  # type: ignore[index]
                values[i], values[i + 1] = values[i + 1], values[i]
        return values

    theirs = listed(chain)
    return theirs == listed(ours)[: len(theirs)]


def _filled(backbone: nn.Module, tensors: Sequence[Tensor]) -> Backbone:
    """The backbone with the tensors, in the order of its layers."""
    wanted = list(backbone.parameters())
    if [p.shape for p in wanted] != [t.shape for t in tensors]:
        raise CheckpointError("its weights do not fit its layers")
    with torch.no_grad():
        for parameter, tensor in zip(wanted, tensors, strict=True):
            parameter.copy_(tensor)
    assert isinstance(backbone, Backbone)
    return backbone


def _pooling(
    rest: list[tuple[str, Layer]], channels: int, normalised: bool
) -> tuple[Aggregation, list[tuple[str, Layer]]]:
    """Make the aggregation of the first of these layers, and return it with the layers after it."""
    (kind, core), *rest = rest
    if kind == "vlad":
        pool, rest = _vlad(core, rest, channels, normalised)
    else:
        pool = aggregation.create(kind, channels, **({"normalize_input": True} if normalised else {}))
    if not rest or rest[0][0] != "whole":
        raise CheckpointError(f"after {core['name']!r} must come postL2; given {_names(rest)}")
    return pool, rest[1:]


def _vlad(
    core: Layer, rest: list[tuple[str, Layer]], channels: int, normalised: bool
) -> tuple[Aggregation, list[tuple[str, Layer]]]:
    intra = bool(rest) and rest[0][0] == "norm"
    if intra and not _is_l2(rest[0][1], channels):
        raise CheckpointError(f"layer {rest[0][1]['name']!r} is no normalisation of whole clusters")
    weights = [to_array(array) for array in listed(core.get("weights"))]
    if len(weights) not in (2, 3):
        raise CheckpointError(
            f"{core['name']!r} has {len(weights)} weights; NetVLAD has 2, its version 2 has 3"
        )
    clusters = weights[0].size // channels
    if clusters < 1 or any(array.size != channels * clusters for array in (weights[0], weights[-1])):
        raise CheckpointError(
            f"{core['name']!r} has weights {[list(array.shape) for array in weights]}, "
            f"which do not fit {channels} channels"
        )
    pool = aggregation.create(
        "netvlad",
        channels,
        clusters=clusters,
        version=len(weights) - 1,
        normalize_input=normalised,
        intra_norm=intra,
    )
    assign_DK, minus_centres_DK = (
        array.reshape(channels, clusters, order="F") for array in (weights[0], weights[-1])
    )
    filled = {
        "conv.weight": to_tensor(assign_DK.T)[:, :, None, None],
        "centroids": -to_tensor(minus_centres_DK.T),
    }
    if len(weights) == 3:
        filled["conv.bias"] = to_tensor(weights[1].reshape(-1))
    _load(pool, filled, core["name"])
    return pool, rest[intra:]


def _whitening(rest: list[tuple[str, Layer]], pool: Aggregation) -> Whitening | None:
    """Make the whitening [d, D], its columns from channel-major to cluster-major order, where it has one."""
    if not rest:
        return None
    if [kind for kind, _ in rest] != ["conv", "whole"]:
        raise CheckpointError(f"after postL2 can come a whitening and finalL2 only; given {_names(rest)}")
    layer = rest[0][1]
    weights, bias = weights_of(layer)
    size, outputs = pool.descriptor_size, weights.shape[3]
    if weights.shape[:3] != (1, 1, size) or not 1 <= outputs <= size or weights.dtype.kind != "f":
        raise CheckpointError(
            f"layer {layer['name']!r} is {weights.dtype} {list(weights.shape)}, "
            f"but the descriptors have {size} numbers"
        )
    made = Whitening(size, outputs)
    clusters = size // pool.dim
    theirs_PDK = weights.reshape(size, outputs).T.reshape(outputs, pool.dim, clusters)
    ours_PKD = made.weight.detach().numpy().reshape(outputs, clusters, pool.dim)
    with np.errstate(over="ignore"):  # to infinity, which is told below
        np.copyto(
            ours_PKD, theirs_PDK.transpose(0, 2, 1), casting="same_kind"
        )  # at most one copy: it is large
    check_finite(made.weight)
    if bias is not None:
        with torch.no_grad():
            made.bias.copy_(to_tensor(bias))
    return made


def _load(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    wanted = {key: list(tensor.shape) for key, tensor in module.state_dict().items()}
    given = {key: list(tensor.shape) for key, tensor in tensors.items()}
    if wanted != given:
        raise CheckpointError(f"the weights of {name!r} are {given}, not {wanted}")
    module.load_state_dict(dict(tensors))


def _cut(layers: Sequence[Layer], kinds: Sequence[str]) -> int:
    """Where ``loadNet`` cuts a pretrained network: at its last convolution that is not fully connected."""
    ends = [i for i, layer in enumerate(layers) if re.match(r"fc|prob|loss|softmax", layer["name"])]
    convolutions = [i for i, kind in enumerate(kinds[: min(ends, default=len(kinds))]) if kind == "conv"]
    if not convolutions:
        raise CheckpointError(f"it has no convolutions, but {', '.join(map(str, kinds[:6])) or 'no layers'}")
    return convolutions[-1]


def _mean(meta: Layer) -> tuple[float, float, float]:
    """What is subtracted: the top left pixel of the average image, as ``averageImage(1,1,:)``."""
    normalization = meta.get("normalization")
    average = normalization.get("averageImage") if isinstance(normalization, Mapping) else None
    image = to_array(0.0 if average is None else average)
    if image.ndim == 3 and image.shape[2] == 3 and image.size:
        values = image[0, 0]
    elif image.size == 3:
        values = image.reshape(-1)
    else:
        raise CheckpointError("it has no averageImage of three colours in net.meta.normalization")
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _is_l2(layer: Layer, channels: int) -> bool:
    """Whether a layer brings vectors of all channels to unit length: ``normalize`` by [2D, 1e-12, 1, 0.5]."""
    if kind_of(layer) != "norm":
        return False
    size, kappa, alpha, beta = numbers(layer, "param", 4, [5, 1, 1, 0.5])
    covers = (size - 1) // 2 >= channels - 1
    return covers and math.isclose(kappa, 1e-12, rel_tol=1e-3) and (alpha, beta) == (1, 0.5)


def _names(rest: Sequence[tuple[str, Layer]]) -> str:
    return ", ".join(repr(layer["name"]) for _, layer in rest[:4]) or "nothing"
