"""What MATLAB does, for tests: .mat files of both versions, networks as NetVLAD's code makes them, and their
answers layer by layer, in NumPy, in MATLAB's layouts, from the formulas of the originals.

Arrays of photos and features are [H, W, C].
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

VGG16 = [2, 2, 3, 3, 3]
WIDTHS = [64, 128, 256, 512, 512]


def write_v5(path: Path, variables: dict[str, Any], *, compress: bool = False) -> Path:
    cells = {name: _celled(value) for name, value in variables.items()}
    scipy.io.savemat(path, cells, do_compression=compress, long_field_names=True)
    return path


def _celled(value: Any) -> Any:
    if isinstance(value, list):
        cell = np.empty((1, len(value)), object)
        cell[0, :] = [_celled(one) for one in value]
        return cell
    return {key: _celled(one) for key, one in value.items()} if isinstance(value, dict) else value


def write_v73(path: Path, variables: dict[str, Any]) -> Path:
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        for name, value in variables.items():
            _put(file, refs, name, value)
    head = b"MATLAB 7.3 MAT-file, made by a test".ljust(124) + b"\x00\x02IM"
    with open(path, "rb+") as file:
        file.write(head)
    return path


def _put(group: h5py.Group, refs: h5py.Group, name: str, value: Any) -> h5py.HLObject:
    if isinstance(value, dict):
        node = group.create_group(name)
        for key, one in value.items():
            _put(node, refs, key, one)
        kind = "struct"
    elif isinstance(value, list) and value:
        references = [_put(refs, refs, f"r{len(refs)}_{i}", one).ref for i, one in enumerate(value)]
        node = group.create_dataset(name, (len(references), 1), dtype=h5py.ref_dtype)
        node[:, 0] = references
        kind = "cell"
    elif isinstance(value, str):
        node = group.create_dataset(name, data=np.array([[ord(c)] for c in value] or [[0]], np.uint16))
        kind = "char"
    else:
        array = np.asarray(value if not isinstance(value, list) else np.zeros((0, 0)))
        while array.ndim < 2:
            array = array[None]
        if array.size:
            node = group.create_dataset(name, data=array.T)
        else:
            node = group.create_dataset(name, data=np.array(array.shape, np.uint64))
            node.attrs["MATLAB_empty"] = np.uint8(1)
        kind = (
            "cell"
            if isinstance(value, list)
            else {"f4": "single", "u1": "uint8"}.get(array.dtype.str[1:], "double")
        )
    node.attrs["MATLAB_class"] = np.bytes_(kind)
    return node


def layer(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    return {"type": kind, "name": name, **settings}


def conv(name: str, filters: Any, bias: Any, *, stride: Any = 1, pad: Any = 0, **more: Any) -> dict[str, Any]:
    return layer(
        "conv", name, weights=[filters, bias], stride=float(stride), pad=np.asarray(pad, float), **more
    )


def pool(name: str, *, method: str = "max", size: int = 2, stride: int = 2, pad: Any = 0) -> dict[str, Any]:
    return layer(
        "pool",
        name,
        method=method,
        pool=np.array([size, size], float),
        stride=float(stride),
        pad=np.asarray(pad, float),
    )


def l2(name: str, channels: int) -> dict[str, Any]:
    return layer("normalize", name, param=np.array([2 * channels, 1e-12, 1, 0.5]))


def head(
    random: np.random.Generator, channels: int, method: str, clusters: int = 64, dims: int | None = None
) -> list[dict[str, Any]]:
    """What ``addLayers`` and ``addPCA`` add."""
    tokens, size = method.split("_"), channels
    layers = [l2("preL2", channels)] if "preL2" in tokens else []
    if "vlad" in tokens or "vladv2" in tokens:
        size = channels * clusters
        centres_DK = random.normal(size=(channels, clusters)).astype(np.float32) * 0.5
        wide = (1, 1, channels, clusters)
        assign = (30 * centres_DK / np.linalg.norm(centres_DK, axis=0)).astype(np.float32)
        weights = [assign.reshape(wide), (-centres_DK).reshape(wide)]
        if "vladv2" in tokens:
            weights.insert(1, random.normal(size=(1, clusters)).astype(np.float32))
        layers.append(layer("custom", "vlad:core", K=float(clusters), D=float(channels), weights=weights))
        if "intra" in tokens:
            layers.append(l2("vlad:intranorm", channels))
    else:
        layers.append(layer("custom", f"{tokens[0]}:core"))
    layers.append(layer("custom", "postL2"))
    if dims:
        matrix = (random.normal(size=(1, 1, size, dims)) / np.sqrt(size)).astype(np.float32)
        bias = random.normal(size=(dims, 1)).astype(np.float32) * 0.1
        layers += [conv("WPCA", matrix, bias), layer("custom", "finalL2")]
    return layers


def vgg16(
    random: np.random.Generator, widths: list[int] = WIDTHS, *, swap: bool = True
) -> list[dict[str, Any]]:
    """``loadNet('vd16', 'conv5_3')``: pooling before its ReLU, as the original swaps them."""
    layers, channels = [], 3
    for block, (count, width) in enumerate(zip(VGG16, widths, strict=True), 1):
        for i in range(1, count + 1):
            filters = random.normal(size=(3, 3, channels, width)) * np.sqrt(2 / (9 * channels))
            bias = random.normal(size=(1, width)).astype(np.float32) * 0.1
            layers.append(conv(f"conv{block}_{i}", filters.astype(np.float32), bias, pad=1))
            channels = width
            if (block, i) == (5, 3):
                return layers
            after = [layer("relu", f"relu{block}_{i}")]
            if i == count:
                after.insert(0 if swap else 1, pool(f"pool{block}"))
            layers += after
    return layers


def caffenet(random: np.random.Generator, narrow: int = 1) -> list[dict[str, Any]]:
    """CaffeNet to conv5: groups, normalisation across channels, rounding up by pads at the ends."""

    def drawn(name: str, size: int, inputs: int, outputs: int, stride: int, pad: int) -> dict[str, Any]:
        filters = random.normal(size=(size, size, inputs, outputs)) * np.sqrt(2 / (size * size * inputs))
        bias = random.normal(size=(1, outputs)).astype(np.float32) * 0.1
        return conv(name, filters.astype(np.float32), bias, stride=stride, pad=pad)

    a, b, c = 96 // narrow, 256 // narrow, 384 // narrow
    norm = np.array([5, 1, 1e-4 / 5, 0.75])
    pads = [0, 1, 0, 1]
    return [
        *(drawn("conv1", 11, 3, a, 4, 0), layer("relu", "relu1"), pool("pool1", size=3, pad=pads)),
        layer("normalize", "norm1", param=norm),
        *(drawn("conv2", 5, a // 2, b, 1, 2), layer("relu", "relu2"), pool("pool2", size=3, pad=pads)),
        layer("lrn", "norm2", param=norm),
        *(drawn("conv3", 3, b, c, 1, 1), layer("relu", "relu3")),
        *(drawn("conv4", 3, c // 2, c, 1, 1), layer("relu", "relu4")),
        drawn("conv5", 3, c // 2, b, 1, 1),
    ]


def network(
    layers: list[dict[str, Any]], mean: tuple[float, ...] = (123.68, 116.779, 103.939)
) -> dict[str, Any]:
    """``net``; of the average image only the top left pixel counts."""
    average = np.zeros((4, 5, 3), np.float32)
    average[0, 0] = mean
    meta = {"normalization": {"averageImage": average}, "netID": "vd16", "sessionID": "made", "epoch": 0.0}
    return {"layers": layers, "meta": meta}


def run(net: dict[str, Any], photo_HWC: Any) -> dict[str, Any]:
    """All activations by layer name, in float64; of a photo of 0 to 255."""
    x = np.asarray(photo_HWC, float) - net["meta"]["normalization"]["averageImage"][0, 0].astype(float)
    outputs = {}
    for one in net["layers"]:
        x = outputs[one["name"]] = _layer(one, x)
    return outputs


def _layer(layer: dict[str, Any], x: Any) -> Any:
    name, kind = layer["name"], layer["type"]
    if kind == "conv":
        return _conv(x, layer)
    if kind == "pool":
        return _pool(x, layer)
    if kind == "relu":
        return np.where(x > 0, x, x * layer.get("leak", 0.0))
    if kind in ("normalize", "lrn"):
        size, kappa, alpha, beta = layer["param"]
        out = np.empty_like(x)
        for k in range(x.shape[2]):
            low, high = k - int((size - 1) // 2), k + int(-(-(size - 1) // 2))
            sums = np.square(x[:, :, max(0, low) : high + 1]).sum(axis=2)
            out[:, :, k] = x[:, :, k] * (kappa + alpha * sums) ** -beta
        return out
    if kind == "dropout":
        return x
    if name == "vlad:core":
        return _vlad(x, [np.asarray(w, float) for w in layer["weights"]])
    if name in ("max:core", "avg:core"):
        return (x.max if name == "max:core" else x.mean)(axis=(0, 1), keepdims=True)
    vector = x.reshape(-1, order="F")
    return (vector / (np.linalg.norm(vector) + 1e-12))[None, None]


def _vlad(x: Any, weights: list[Any]) -> Any:
    """[1, K, D]."""
    flat_LD = x.reshape(-1, x.shape[2])
    assign_DK, minus_DK = weights[0][0, 0], weights[-1][0, 0]
    scores_LK = flat_LD @ assign_DK + (weights[1].reshape(-1) if len(weights) == 3 else 0)
    soft_LK = np.exp(scores_LK - scores_LK.max(axis=1, keepdims=True))
    soft_LK /= soft_LK.sum(axis=1, keepdims=True)
    return np.stack(
        [(a[:, None] * (flat_LD + c)).sum(axis=0) for a, c in zip(soft_LK.T, minus_DK.T, strict=True)]
    )[None]


def _sides(value: Any) -> tuple[int, int, int, int]:
    top, bottom, left, right = np.broadcast_to(np.asarray(value, int).reshape(-1), 4)
    return int(top), int(bottom), int(left), int(right)


def _conv(x: Any, layer: dict[str, Any]) -> Any:
    filters = np.asarray(layer["weights"][0], float)
    top, bottom, left, right = _sides(layer["pad"])
    (sy, sx), (dy, dx) = (np.broadcast_to(layer.get(key, 1), 2).astype(int) for key in ("stride", "dilate"))
    rows, columns, inputs, outputs = filters.shape
    padded = np.pad(x, ((top, bottom), (left, right), (0, 0)))
    groups = padded.shape[2] // inputs
    h = (padded.shape[0] - (rows - 1) * dy - 1) // sy + 1
    w = (padded.shape[1] - (columns - 1) * dx - 1) // sx + 1
    out = np.zeros((h, w, outputs))
    for g in range(groups):
        a, b = slice(g * inputs, (g + 1) * inputs), slice(g * outputs // groups, (g + 1) * outputs // groups)
        for i in range(rows):
            for j in range(columns):
                seen = padded[i * dy :: sy, j * dx :: sx, a][:h, :w]
                out[:, :, b] += seen @ filters[i, j, :, b]
    bias = np.asarray(layer["weights"][1], float).reshape(-1)
    return out + bias if bias.size else out


def _pool(x: Any, layer: dict[str, Any]) -> Any:
    """Windows are clipped to what is there, as vl_nnpool does on the processor."""
    top, bottom, left, right = _sides(layer["pad"])
    size, stride = int(np.ravel(layer["pool"])[0]), int(layer["stride"])
    h, w = (x.shape[0] + top + bottom - size) // stride + 1, (x.shape[1] + left + right - size) // stride + 1
    out = np.empty((h, w, x.shape[2]))
    for i in range(h):
        for j in range(w):
            y0, x0 = i * stride - top, j * stride - left
            seen = x[max(0, y0) : y0 + size, max(0, x0) : x0 + size]
            out[i, j] = seen.max(axis=(0, 1)) if layer["method"] == "max" else seen.mean(axis=(0, 1))
    return out


def ours(descriptor: Any, channels: int) -> Any:
    """MATLAB's descriptor, cluster fastest, in our order."""
    return np.ravel(descriptor).reshape(channels, -1).T.ravel()
