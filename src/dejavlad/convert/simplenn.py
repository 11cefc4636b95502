"""Layers of MatConvNet's SimpleNN, as plain values, read with care: what they do, their settings and weights.

Filters are [rows, columns, inputs, outputs]; a pad is one number or (top, bottom, left, right).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.errors import CheckpointError
from dejavlad.matlab.mat_objects import CONVERT

Layer = Mapping[str, Any]

CUSTOM = {
    "layerVLAD": "vlad",
    "layerVLADv2": "vlad",
    "layerTotalMaxPool": "max",
    "layerTotalAvgPool": "avg",
    "layerWholeL2Normalize": "whole",
    "vlad:core": "vlad",
    "max:core": "max",
    "avg:core": "avg",
    "postL2": "whole",
    "finalL2": "whole",
}
"""Class, or name where the object became a struct -> what the layer does."""


def tidy(layer: Any, i: int) -> Layer:
    """A layer in today's form, whatever MatConvNet wrote it."""
    if not isinstance(layer, Mapping) or not isinstance(layer.get("type"), str):
        if isinstance(layer, Mapping) and {"block", "inputs"} & layer.keys():
            raise CheckpointError("it is a DagNN; only chains (SimpleNN) can be imported")
        raise CheckpointError(f"layer {i + 1} is empty or no layer; if it was a class object: {CONVERT}")
    fields = dict(layer)
    named = fields.get("name")
    fields["name"] = named if isinstance(named, str) and named else f"layer{i + 1}"
    if "filters" in fields:
        fields["weights"] = [fields.pop("filters"), fields.pop("biases", None)]
    return fields


def kind_of(layer: Layer) -> str:
    """What a layer does: of `CUSTOM`, or MatConvNet's own type."""
    if layer["type"] != "custom":
        return "norm" if layer["type"] in ("normalize", "lrn") else str(layer["type"])
    class_name = str(layer.get("__class__", ""))
    known = CUSTOM.get(class_name) or CUSTOM.get(layer["name"]) or CUSTOM.get(layer["name"].replace("_", ":"))
    if known is None:
        raise CheckpointError(
            f"layer {layer['name']!r} is of a class of its own {class_name!r}, which is not known"
        )
    return known


def described(layer: Layer, channels: int) -> tuple[dict[str, Any], list[Tensor]]:
    """A layer as `Chain` takes it, and its tensors, filters and bias."""
    kind, name = kind_of(layer), layer["name"]
    description: dict[str, Any] = {"kind": kind, "name": name}
    if kind == "conv":
        filters, bias = weights_of(layer)
        rows, columns, inputs, outputs = filters.shape
        if inputs == 0 or channels % inputs:
            raise CheckpointError(f"layer {name!r} takes {inputs} channels, but gets {channels}")
        description |= {
            "inputs": channels,
            "outputs": outputs,
            "kernel": [rows, columns],
            "stride": _whole(layer, "stride", 2, 1),
            "pad": _whole(layer, "pad", 4, 0),
            "dilation": _whole(layer, "dilate", 2, 1),
            "groups": channels // inputs,
            "bias": bias is not None,
        }
        return description, [
            to_tensor(filters.transpose(3, 2, 0, 1)),
            *([] if bias is None else [to_tensor(bias)]),
        ]
    if kind == "pool":
        description |= {
            "kind": layer.get("method", "max"),
            "kernel": _whole(layer, "pool", 2, 1),
            "stride": _whole(layer, "stride", 2, 1),
            "pad": _whole(layer, "pad", 4, 0),
        }
    elif kind == "norm":
        size, kappa, alpha, beta = numbers(layer, "param", 4, [5, 1, 1, 0.5])
        description |= {"size": int(size), "kappa": kappa, "alpha": alpha, "beta": beta}
    elif kind == "relu":
        description["leak"] = numbers(layer, "leak", 1, [0])[0]
    elif kind == "dropout":
        description["rate"] = numbers(layer, "rate", 1, [0.5])[0]
    else:
        raise CheckpointError(
            f"layer {name!r} is of type {kind!r}; "
            f"before the pooling can stand: conv, relu, pool, normalize, lrn, dropout"
        )
    return description, []


def weights_of(layer: Layer) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Filters [rows, columns, inputs, outputs], and bias [outputs], or None."""
    arrays = [to_array(array) for array in listed(layer.get("weights")) if array is not None]
    if not 1 <= len(arrays) <= 2 or arrays[0].ndim > 4 or arrays[0].size == 0:
        raise CheckpointError(
            f"layer {layer['name']!r} needs filters and bias; given {[list(array.shape) for array in arrays]}"
        )
    filters: NDArray[Any] = arrays[0].reshape(arrays[0].shape + (1,) * (4 - arrays[0].ndim))
    outputs = int(filters.shape[-1])
    bias = arrays[1].reshape(-1) if len(arrays) == 2 and arrays[1].size else None
    if bias is not None and bias.size != outputs:
        raise CheckpointError(f"layer {layer['name']!r} has {outputs} filters, but {bias.size} biases")
    return filters, bias


def numbers(layer: Layer, key: str, count: int | None, default: Sequence[float]) -> list[float]:
    """A setting as finite numbers, `count` of them unless that is None.

    Raises:
        CheckpointError: it is something else.
    """
    value = layer.get(key)
    array = np.asarray(default) if value is None else to_array(value)
    if array.size == 0:
        array = np.asarray(default)
    if array.size > 8 or (count is not None and array.size != count):
        raise CheckpointError(f"{key} of layer {layer['name']!r} cannot be read")
    values = [float(v) for v in array.reshape(-1)]
    if not all(map(math.isfinite, values)):
        raise CheckpointError(f"{key} of layer {layer['name']!r} is not finite")
    return values


def to_array(value: Any) -> NDArray[Any]:
    """A number or an array of real numbers, as an array.

    Raises:
        CheckpointError: it is something else.
    """
    if not isinstance(value, float | np.ndarray) or np.asarray(value).dtype.kind not in "fiub":
        raise CheckpointError(f"numbers are needed where there is {type(value).__name__}")
    return np.asarray(value)


def to_tensor(array: NDArray[Any]) -> Tensor:
    """Copy an array into a float32 tensor of the same shape.

    Raises:
        CheckpointError: it holds NaN or infinity, or numbers too large for float32.
    """
    with np.errstate(over="ignore"):  # to infinity, which is told below
        made = torch.from_numpy(np.array(array, np.float32, order="C"))
    check_finite(made)
    return made


def check_finite(tensor: Tensor) -> None:
    """Raise CheckpointError where the tensor holds NaN or infinity."""
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError("NaN or infinity in the weights; the file is damaged")


def listed(value: Any) -> list[Any]:
    """A cell as a list; none where it is empty."""
    if isinstance(value, list):
        return value
    if value is None or (isinstance(value, np.ndarray) and value.size == 0):
        return []
    return [value]


def _whole(layer: Layer, key: str, count: int, default: int) -> list[int]:
    """A setting of so many whole numbers; one number stands for all."""
    values = numbers(layer, key, None, [default])
    if len(values) == 1:
        values = values * count
    if len(values) != count or any(v != int(v) for v in values):
        raise CheckpointError(
            f"{key} of layer {layer['name']!r} must be {count} whole numbers; given {values}"
        )
    return [int(v) for v in values]
