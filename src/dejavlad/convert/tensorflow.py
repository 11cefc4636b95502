"""The checkpoint of ``netvlad_tf_open``: VGG-16, NetVLAD and whitening, converted from MATLAB's weights.

Filters are [rows, columns, inputs, outputs], the layer adds its centres (they are stored negative), and the
cluster runs fastest in its descriptors (k + K*d), where ours are k*D + d. Greyscale photos are given to all
three channels, as ours are.

Shapes: D channels, K clusters, P components kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dejavlad import aggregation
from dejavlad.backbones import BACKBONES
from dejavlad.backbones.base import ChainBackbone
from dejavlad.convert.tensor_bundle import read_bundle
from dejavlad.errors import CheckpointError, InputError, first_names
from dejavlad.images import Preprocess
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.spec import BackboneSpec
from dejavlad.model.whitening import Whitening

Arrays = Mapping[str, NDArray[Any]]

BACKBONE = "vgg16"
"""Cut after the last convolution that is there: conv5_3."""
MEAN, ASSIGN, CENTRES, WPCA = "average_rgb", "assignment/kernel", "cluster_centers", "WPCA"
OPTIMISER = ("global_step", "beta1_power", "beta2_power", "save_counter")
SLOTS = ("Momentum", "Adam", "Adam_1", "RMSProp", "ExponentialMovingAverage")
"""What training leaves beside the network: tensors of these names, or below a network's own."""


def read(path: Path) -> PlaceModel:
    """Read the model (VGG-16 and NetVLAD) of a TensorFlow checkpoint.

    Args:
        path: its ``.index``, its prefix (the name without ending), or a folder with one checkpoint.

    Raises:
        CheckpointError: a file is missing or damaged, or holds another network.
    """
    try:
        prefix = _prefix(path)
        return _model(_scoped(read_bundle(prefix)), prefix.name)
    except (CheckpointError, InputError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be imported: {error}") from None
    except (ValueError, OverflowError, MemoryError) as error:  # sizes that cannot be
        raise CheckpointError(f"{str(path)!r} cannot be read: {error}") from None


def _prefix(path: Path) -> Path:
    if path.is_dir():
        indices = sorted(path.glob("*.index"))
        if len(indices) != 1:
            named = first_names(index.name for index in indices) if indices else "none"
            raise CheckpointError(f"a folder with one checkpoint is needed; here are {named}")
        path = indices[0]
    return path.with_suffix("") if path.suffix == ".index" else path


def _scoped(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Names without the scope that the network stands in, and without what training left."""
    scopes = [name.removesuffix(CENTRES) for name in arrays if name.endswith(CENTRES)]
    if len(scopes) != 1:
        raise CheckpointError(
            f"it has {len(scopes)} {CENTRES}, where NetVLAD has one; it holds {first_names(arrays)}"
        )
    kept = {}
    for name, array in arrays.items():
        last = name.rpartition("/")[2]
        if last not in (*OPTIMISER, *SLOTS):
            kept[name.removeprefix(scopes[0])] = array
    return kept


def _model(arrays: Arrays, name: str) -> PlaceModel:
    entry = BACKBONES[BACKBONE]
    with torch.device("meta"):
        whole = entry.make(cut=entry.end)
        assert isinstance(whole, ChainBackbone)
        convolutions_of_file = [layer_name for layer_name in whole.names if f"{layer_name}/kernel" in arrays]
        cut = convolutions_of_file[-1] if convolutions_of_file else "conv5_3"
        made = entry.make(cut=cut)
        assert isinstance(made, ChainBackbone)
    convolutions = {
        f"features.{i}": layer_name
        for i, layer_name in enumerate(made.names)
        if layer_name.startswith("conv")
    }
    backbone, channels = made.to_empty(device="cpu"), made.channels
    whitened = [f"{WPCA}/kernel", f"{WPCA}/bias"] if any(key.startswith(WPCA) for key in arrays) else []
    wanted = [f"{conv}/{part}" for conv in convolutions.values() for part in ("kernel", "bias")]
    wanted += [MEAN, ASSIGN, CENTRES, *whitened]
    missing, left = set(wanted) - arrays.keys(), arrays.keys() - set(wanted)
    if missing or left:
        raise CheckpointError(f"missing: {first_names(missing)}; left over: {first_names(left)}")
    clusters = arrays[CENTRES].size // channels
    if clusters < 1:
        raise CheckpointError(f"{CENTRES} is {list(arrays[CENTRES].shape)}; {channels} channels are needed")
    assign_KD, added_KD = (_flat(arrays, key, channels, clusters).T for key in (ASSIGN, CENTRES))
    with torch.random.fork_rng(devices=[]):
        pool = aggregation.create("netvlad", channels, clusters=clusters)
    for ours, theirs in convolutions.items():
        kernel = arrays[f"{theirs}/kernel"]
        if kernel.ndim != 4:
            raise CheckpointError(f"{theirs}/kernel is {list(kernel.shape)}, which is no kernel")
        _set(backbone, f"{ours}.weight", kernel.transpose(3, 2, 0, 1), f"{theirs}/kernel")
        _set(backbone, f"{ours}.bias", arrays[f"{theirs}/bias"], f"{theirs}/bias")
    _set(pool, "conv.weight", assign_KD[:, :, None, None], ASSIGN)
    _set(pool, "centroids", -added_KD, CENTRES)
    red, green, blue = _flat(arrays, MEAN, 3).tolist()
    return PlaceModel(
        backbone,
        pool,
        Preprocess(mean=(red, green, blue), scale="0-255"),
        whitening=_whitening(arrays, channels, clusters) if whitened else None,
        fitted=True,
        name=name,
        source=BackboneSpec(BACKBONE, cut),
        provenance={"format": "netvlad_tf_open"},
    ).eval()


def _whitening(arrays: Arrays, channels: int, clusters: int) -> Whitening:
    """Make the whitening [d, D], its columns from channel-major to our cluster-major order."""
    size = channels * clusters
    kernel = f"{WPCA}/kernel"
    kept = arrays[f"{WPCA}/bias"].size
    if not 1 <= kept <= size:
        raise CheckpointError(f"{WPCA}/bias has {kept} numbers; 1 to {size} are possible")
    theirs_DKP = _flat(arrays, kernel, channels * clusters, kept).reshape(channels, clusters, kept)
    layer = Whitening(size, kept)
    with torch.no_grad():
        layer.weight.view(kept, clusters, channels).copy_(_tensor(theirs_DKP).permute(2, 1, 0))
    _set(layer, "bias", arrays[f"{WPCA}/bias"].reshape(-1), f"{WPCA}/bias")
    _check_finite(layer.weight, kernel)
    return layer


def _set(module: nn.Module, key: str, array: NDArray[Any], source: str) -> None:
    target = module.get_parameter(key)
    if array.shape != tuple(target.shape):
        raise CheckpointError(f"{source} is {list(array.shape)}, which does not fit {list(target.shape)}")
    with torch.no_grad():
        target.copy_(_tensor(array))
    _check_finite(target, source)


def _flat(arrays: Arrays, key: str, *shape: int) -> NDArray[Any]:
    """An array without axes of length 1, as it must be."""
    array = arrays[key]
    if [side for side in array.shape if side != 1] != [side for side in shape if side != 1]:
        raise CheckpointError(f"{key} is {list(array.shape)}; {list(shape)} is needed")
    return array.reshape(shape)


def _tensor(array: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a file that may only be read, and is only read
        return torch.from_numpy(array.astype(np.dtype(array.dtype).newbyteorder("="), copy=False))


def _check_finite(tensor: Tensor, source: str) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{source} holds NaN or infinity")
