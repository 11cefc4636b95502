"""Keras networks with a NetVLAD layer: MobileNets trained for loop closure (Kuse & Shen 2019, ``cerebro``).

Their layer *adds* its centres, V_k = sum_l a_kl (x_l + C_k), assigns by ``softmax(w_k . x + b_k)`` without
normalising x first, and brings each V_k and then the whole to unit length: our version 2 with centres -C.
Networks for grey photos take one channel; ours take three equal ones, the filters of two of which are zero.
Kernels are [rows, columns, inputs, outputs]. Weights are read by h5py; nothing in the file is executed.

Shapes: D channels, K clusters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad import aggregation, backbones
from dejavlad.backbones.base import ChainBackbone
from dejavlad.errors import CheckpointError, InputError, MissingExtraError, first_line, first_names
from dejavlad.guarded.hdf5_file import open_hdf5
from dejavlad.guarded.json_file import parse_json
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.images import Preprocess
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.spec import BackboneSpec

Arrays = dict[str, NDArray[np.float32]]

KINDS = ("BatchNormalization", "Conv2D", "DepthwiseConv2D", "ReLU", "Add", "ZeroPadding2D", "InputLayer")
"""Layers that such a network has, beside NetVLAD's."""
CENTRE, HALF = 128.0, 127.5
"""Photos are brought to -1..1, as (pixel - 128) * 2 / 255, but for networks trained on 0..255."""
LOUD = 100.0
"""The first batch norm's variance over its filter's sum of squares: at most 10 for photos in -1..1, as many
as 1e5 for photos in 0..255."""
SHAPES = {4: (3, 2, 0, 1), 1: (0,)}
"""How axes are turned, by their number: kernels, and all that has one number a channel."""
BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""Keras's names and PyTorch's."""


def read(path: Path) -> PlaceModel:
    """The model of a ``.h5`` (or ``.keras`` of that form), or of a ``.json`` with its ``.h5`` beside.

    Raises:
        CheckpointError: the file is damaged, or no MobileNet with NetVLAD.
        MissingExtraError: h5py is not installed.
    """
    try:
        config, arrays = _open(path)
        return _model(config, arrays, path)
    except (MissingExtraError, MemoryError):
        raise
    except (CheckpointError, InputError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be imported: {error}") from None
    except Exception as error:  # whatever HDF5 and damaged settings bring
        raise CheckpointError(f"{str(path)!r} cannot be read: {first_line(error)}") from None


def _open(path: Path) -> tuple[Mapping[str, Any], Arrays]:
    """Read the network's description (a JSON object), and its float32 arrays by ``layer/name``."""
    described: object = None
    if path.suffix.lower() == ".json":
        described = read_utf8(path)
        weights = path.with_suffix(".h5")
        if not weights.is_file():
            raise CheckpointError(f"its weights, {weights.name}, are not beside it")
    else:
        weights = path
    layers_of_h5, arrays = _read_h5(weights)
    described = layers_of_h5 if described is None else described
    if described is None and path.with_suffix(".json").is_file():
        described = read_utf8(path.with_suffix(".json"))
    if described is None:
        raise CheckpointError(
            "it holds weights but no network; put the network's .json beside it, by the same name"
        )
    config = parse_json(described if isinstance(described, str | bytes) else str(described))
    if not isinstance(config, Mapping) or not isinstance(config.get("config"), Mapping):
        raise CheckpointError("its description is none of a Keras model")
    return config, arrays


def _read_h5(path: Path) -> tuple[object, Arrays]:
    """The file's ``model_config``, None without one, and its float32 arrays by ``layer/name``."""
    arrays: Arrays = {}
    with open_hdf5(path, "reading Keras networks") as file:
        root = file.at("model_weights") or file.root
        if not file.is_group(root):
            raise CheckpointError("its model_weights are no group")
        for name, dataset in file.datasets(root):
            if dataset.dtype.kind != "f" or dataset.ndim > 5:
                raise CheckpointError(f"{name} is {dataset.dtype} with {dataset.ndim} axes, no weights")
            *_, layer, last = ("", *name.split("/"))
            key = f"{layer}/{last.partition(':')[0]}"
            arrays[key] = np.asarray(file.array(dataset), np.float32)
        return file.root.attrs.get("model_config"), arrays


def _model(config: Mapping[str, Any], arrays: Arrays, path: Path) -> PlaceModel:
    layers = config["config"].get("layers")
    if not isinstance(layers, list) or not layers:
        raise CheckpointError("its description has no layers")
    pooling = [layer for layer in layers if layer["class_name"] == "NetVLADLayer"]
    if len(pooling) != 1:
        raise CheckpointError(f"it has {len(pooling)} NetVLAD layers, where one is expected")
    others = {layer["class_name"] for layer in layers} - {*KINDS, "NetVLADLayer"}
    if others:
        raise CheckpointError(f"it has layers that no MobileNet has: {', '.join(sorted(others))}")
    _check(layers)
    name, cut = _cut(str(pooling[0]["inbound_nodes"][0][0][0]))
    given = layers[0]["config"]["batch_input_shape"]
    height, width, colours = given[1:]
    if colours not in (1, 3):
        raise CheckpointError(f"it takes photos of {colours} channels; 1 and 3 are known")
    backbone = backbones.create(name, cut=cut, weights="random:0", style="keras")
    wanted = backbone.state_dict()
    used = dict(_named(name, cut))
    vlad = str(pooling[0]["config"]["name"])
    _match([*used, *(f"{vlad}/{part}" for part in ("kernel", "bias", "cluster_centers"))], arrays)
    tensors = {key: _tensor(arrays[source], source, wanted[key].shape) for source, key in used.items()}
    whole = {key: tensors.get(key, tensor) for key, tensor in wanted.items()}  # without counters of batches
    backbone.load_state_dict(whole)
    layer = _netvlad(arrays, vlad, int(getattr(backbone, "channels", 0)))
    centre, half = (CENTRE, HALF) if _centred(tensors) else (0.0, 1.0)
    preprocess = Preprocess(
        resize=f"{int(height)}x{int(width)}" if height and width else "none",
        mean=(centre,) * 3,
        std=(half,) * 3,
        scale="0-255",
        grey=colours == 1,
    )
    return PlaceModel(
        backbone,
        layer,
        preprocess,
        fitted=True,
        name=path.stem,
        source=BackboneSpec(name, cut, {"style": "keras"}),
        provenance={"from": path.name, "by": f"Keras {config.get('keras_version', '2')}"},
    ).eval()


def _check(layers: Sequence[Mapping[str, Any]]) -> None:
    """What MobileNets of Keras have in common, and ours therefore do not ask for."""
    for layer in layers:
        kind, config = layer["class_name"], layer["config"]
        if kind == "ReLU" and config.get("max_value") != 6:
            raise CheckpointError(f"{config['name']} ends at {config.get('max_value')}, not at 6")
        if kind == "BatchNormalization" and not np.isclose(config.get("epsilon", 0), 1e-3):
            raise CheckpointError(f"{config['name']} has epsilon {config.get('epsilon')}, not 0.001")
        if kind == "ZeroPadding2D" and config.get("padding") != [[0, 1], [0, 1]]:
            raise CheckpointError(
                f"{config['name']} pads by {config.get('padding')}, not at the bottom and right"
            )


def _cut(layer: str) -> tuple[str, str]:
    """The backbone, and the last layer of it, from the name of the layer that NetVLAD takes."""
    match = re.fullmatch(r"(conv1|conv_(?:dw|pw)_\d+)_relu", layer)
    if match:
        return "mobilenet_v1", match[1]
    match = re.fullmatch(r"(block_\d+|expanded_conv)_(?:add|project_BN)", layer)
    if match:
        return "mobilenet_v2", match[1]
    if layer == "Conv1_relu":
        return "mobilenet_v2", "Conv1"
    if layer == "out_relu":
        return "mobilenet_v2", "Conv_1"
    raise CheckpointError(f"its NetVLAD takes {layer!r}, which is no end of a block of MobileNet v1 or v2")


def _named(backbone: str, cut: str) -> Iterator[tuple[str, str]]:
    """Keras's array -> our tensor, for all that lies before the cut."""
    v1 = backbone == "mobilenet_v1"
    made = backbones.create(backbone, cut=cut, weights="random:0")
    assert isinstance(made, ChainBackbone)
    for i, name in enumerate(made.names):
        here = f"features.{i}"
        if v1:
            yield from _pair(name, f"{name}_bn", f"{here}.0", f"{here}.1", depthwise="_dw_" in name)
        elif name in ("Conv1", "Conv_1"):
            norm = "bn_Conv1" if name == "Conv1" else "Conv_1_bn"
            yield from _pair(name, norm, f"{here}.0", f"{here}.1")
        else:
            step = 0
            if name != "expanded_conv":
                yield from _pair(
                    f"{name}_expand", f"{name}_expand_BN", f"{here}.conv.0.0", f"{here}.conv.0.1"
                )
                step = 1
            dw, project = f"{name}_depthwise", f"{name}_project"
            inner = f"{here}.conv.{step}"
            yield from _pair(dw, f"{dw}_BN", f"{inner}.0", f"{inner}.1", depthwise=True)
            yield from _pair(project, f"{project}_BN", f"{here}.conv.{step + 1}", f"{here}.conv.{step + 2}")


def _pair(
    conv: str, norm: str, our_conv: str, our_norm: str, *, depthwise: bool = False
) -> Iterator[tuple[str, str]]:
    yield f"{conv}/{'depthwise_kernel' if depthwise else 'kernel'}", f"{our_conv}.weight"
    for theirs, ours in BATCH_NORM.items():
        yield f"{norm}/{theirs}", f"{our_norm}.{ours}"


def _match(wanted: Sequence[str], arrays: Arrays) -> None:
    """Raise CheckpointError with the names, unless each array is used once and each tensor is filled."""
    missing = [key for key in wanted if key not in arrays]
    left = arrays.keys() - set(wanted)
    if missing or left:
        raise CheckpointError(f"missing: {first_names(missing)}; left over: {first_names(left)}")


def _tensor(array: NDArray[np.float32], source: str, shape: torch.Size) -> Tensor:
    if array.ndim not in SHAPES:
        raise CheckpointError(f"{source} is {list(array.shape)}, which is no kernel")
    turned = array.transpose(SHAPES[array.ndim])
    if source.endswith("/depthwise_kernel"):
        turned = array.transpose(2, 3, 0, 1)
    if turned.ndim == 4 and turned.shape[1] == 1 and shape[1] == 3:  # for grey photos
        turned = np.pad(turned, ((0, 0), (0, 2), (0, 0), (0, 0)))
    if turned.shape != tuple(shape):
        raise CheckpointError(f"{source} is {list(array.shape)}, which does not fit {list(shape)}")
    if not np.isfinite(turned).all():
        raise CheckpointError(f"{source} holds NaN or infinity")
    return torch.from_numpy(np.ascontiguousarray(turned))


def _centred(tensors: Mapping[str, Tensor]) -> bool:
    """Whether photos are to be in -1..1: what the first batch norm saw in training tells."""
    filters, seen = tensors["features.0.0.weight"], tensors["features.0.1.running_var"]
    return bool((seen / (filters.square().sum(dim=(1, 2, 3)) + 1e-12)).median() < LOUD)


def _netvlad(arrays: Arrays, name: str, channels: int) -> aggregation.Aggregation:
    kernel, bias, added = (arrays[f"{name}/{part}"] for part in ("kernel", "bias", "cluster_centers"))
    clusters = bias.size
    if clusters < 1 or kernel.size != channels * clusters or added.size != kernel.size:
        shapes = ", ".join(str(list(array.shape)) for array in (kernel, bias, added))
        raise CheckpointError(f"NetVLAD's weights are {shapes}, which do not fit {channels} channels")
    if not all(np.isfinite(array).all() for array in (kernel, bias, added)):
        raise CheckpointError("NetVLAD's weights hold NaN or infinity")
    layer = aggregation.create(
        "netvlad", channels, clusters=clusters, version=2, normalize_input=False, intra_norm=True
    )
    weight_KD = torch.from_numpy(kernel.reshape(channels, clusters).T.copy())
    layer.load_state_dict(
        {
            "conv.weight": weight_KD[:, :, None, None],
            "conv.bias": torch.from_numpy(bias.reshape(-1).copy()),
            "centroids": torch.from_numpy(-added.reshape(channels, clusters).T),
        }
    )
    return layer
