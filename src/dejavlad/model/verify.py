"""A model's activations, layer by layer, against those that another program wrote down.

Legend: N photos, H x W cells, C channels, K clusters, D channels before the pooling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dejavlad.aggregation import NetVLAD, functional
from dejavlad.aggregation.functional import l2_normalize_whole
from dejavlad.errors import CheckpointError, InputError, MissingExtraError
from dejavlad.guarded.plain_file import open_regular
from dejavlad.guarded.zip_archive import read_npz
from dejavlad.matlab.mat_file import is_mat5, is_mat73, read_mat
from dejavlad.model.place_model import PlaceModel

INPUT = "input"
"""The reference's name of what the network is given."""
AFTER = {
    "vlad_core": "vlad:core",
    "vlad_intranorm": "vlad:intranorm",
    "max_core": "max:core",
    "avg_core": "avg:core",
}
"""Names that MATLAB cannot give to variables."""


@dataclass(frozen=True, slots=True)
class Row:
    """The comparison of one layer's activations with those of the reference."""

    layer: str
    """Its name in the reference."""
    shape: tuple[int, ...]
    """Of its activations here."""
    difference: float
    """The largest, absolute; infinity where the shapes differ or a value is not finite."""
    ok: bool
    """Whether it is within the tolerance."""


def verify(model: PlaceModel, reference: str | Path, tolerance: float = 1e-5) -> list[Row]:
    """Compare activations of a model with those in a file.

    The file holds ``input`` and activations by layer name. In a .npz arrays are ours: ``input`` float
    [N, 3, H, W], already prepared, or a photo uint8 [H, W, 3]; feature maps [N, C, H, W], NetVLAD's sums
    [N, K, D], descriptors [N, K*D] cluster-major. In a .mat they are MATLAB's: [H, W, C, N], sums
    [1, K, D, N], descriptors [1, 1, K*D, N] with the cluster running fastest.

    Layers are known by the names of the backbone's modules (``features.28``), by its paper's names
    (``conv5_3``) or its file's, and by NetVLAD's own: ``preL2``, ``vlad:core``,
    ``vlad:intranorm``, ``max:core``, ``avg:core``, ``postL2``, ``WPCA``, ``finalL2`` (``:`` may be ``_``).
    Where the reference pools before its ReLU, as MatConvNet's networks for NetVLAD do, this is understood.

    Args:
        model: any model; its device and weights are used as they are.
        reference: the file.
        tolerance: on each number, absolute; relative to the layer's largest where that is above 1.

    Returns:
        A row for each layer of the reference, in the model's order.

    Raises:
        CheckpointError: the file cannot be read, or is no such reference.
        InputError: it names a layer that the model does not have.
    """
    path = Path(reference)
    matlab, arrays = _read(path)
    if INPUT not in arrays:
        raise CheckpointError(
            f"{str(path)!r} holds no {INPUT!r}, but {', '.join(list(arrays)[:6]) or 'nothing'}"
        )
    images_NCHW = _input(model, arrays.pop(INPUT), matlab, path)
    with torch.inference_mode():
        ours = _activations(model, images_NCHW)
    named = {AFTER.get(key, key): value for key, value in arrays.items()}
    unknown = [key for key in named if key not in ours]
    if unknown or not named:
        layers = f"{', '.join(map(repr, unknown[:4]))}" if unknown else "none"
        raise InputError(
            f"the reference's layers are {layers}, which {model.name!r} does not have; "
            f"valid: {', '.join(ours)}"
        )
    clusters = getattr(model.aggregation, "clusters", 1)
    rows = []
    for layer, candidates in ours.items():
        if layer in named:
            theirs = _from_matlab(layer, named[layer], clusters) if matlab else np.asarray(named[layer])
            rows.append(
                min(
                    (_row(layer, candidate, theirs, tolerance) for candidate in candidates),
                    key=lambda row: row.difference,
                )
            )
    return rows


def _read(path: Path) -> tuple[bool, dict[str, Any]]:
    """Read a file of activations: whether it is MATLAB's, and its arrays by name."""
    try:
        with open_regular(path) as file:
            head = file.read(1024)
        if is_mat5(head) or is_mat73(head):
            return True, {
                key: array for key, array in read_mat(path).items() if isinstance(array, np.ndarray | float)
            }
        return False, dict(read_npz(path))
    except MissingExtraError:
        raise
    except (CheckpointError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read as activations (.npz or .mat): {error}"
        ) from None


def _input(model: PlaceModel, given: Any, matlab: bool, path: Path) -> Tensor:
    array = np.asarray(given)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return torch.from_numpy(model.preprocess(np.ascontiguousarray(array)))[None]
    array = _to_nchw(array) if matlab else array
    if array.ndim != 4 or array.shape[1] != 3 or array.dtype.kind != "f":
        raise CheckpointError(
            f"{str(path)!r}: {INPUT!r} must be prepared photos or a photo in bytes; "
            f"given {array.dtype} {list(array.shape)}"
        )
    return torch.from_numpy(np.array(array, np.float32))


def _activations(model: PlaceModel, images_NCHW: Tensor) -> dict[str, list[Tensor]]:
    """What each layer makes, by name, in order; two values where the reference may pool before its ReLU."""
    outputs: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor):
                outputs[name] = [output.detach().clone()]  # the next ReLU may work in place

        return hook

    modules = [(name, module) for name, module in model.backbone.named_modules() if name]
    hooks = [module.register_forward_hook(keep(name)) for name, module in modules]
    try:
        features = model.features(images_NCHW)
    finally:
        for hook in hooks:
            hook.remove()
    names = getattr(model.backbone, "names", ())
    by_name = {name: f"features.{i}" for i, name in enumerate(names) if name}
    outputs |= {name: list(outputs[module]) for name, module in by_name.items() if module in outputs}
    _swapped(outputs, dict(modules), names)
    outputs |= {name: [value] for name, value in _pooled(model, features)}
    return outputs


def _swapped(outputs: dict[str, list[Tensor]], modules: Mapping[str, nn.Module], names: Any) -> None:
    """Where a ReLU is followed by a pooling, also what they make in the other order."""
    for i in range(1, len(names) - 1):
        relu, pool = modules[f"features.{i}"], modules[f"features.{i + 1}"]
        if isinstance(relu, nn.ReLU) and isinstance(pool, nn.MaxPool2d) and names[i] and names[i + 1]:
            before = outputs[f"features.{i - 1}"][0]
            outputs[names[i]].append(outputs[f"features.{i + 1}"][0])
            outputs[names[i + 1]].append(pool(before))


def _pooled(model: PlaceModel, features_NCHW: Tensor) -> Iterator[tuple[str, Tensor]]:
    pooling = model.aggregation
    features_NDL = pooling.prepare(features_NCHW.float().flatten(2))
    yield "preL2", features_NDL.view(*features_NDL.shape[:2], *features_NCHW.shape[2:])
    if isinstance(pooling, NetVLAD):
        assignment_NKL = pooling.assign(features_NDL)
        sums_NKD = functional.vlad(features_NDL, assignment_NKL, pooling.centroids)
        yield "vlad:core", sums_NKD
        if pooling.intra_norm:
            yield "vlad:intranorm", functional.l2_normalize(sums_NKD, dim=2, rule=pooling.epsilon)
    elif pooling.name in ("max", "avg"):
        yield f"{pooling.name}:core", pooling.aggregate(features_NDL)
    rows_ND: Tensor = pooling(features_NCHW)
    yield "postL2", rows_ND
    if model.whitening is not None:
        weight, bias = model.whitening.weight, model.whitening.bias
        yield "WPCA", nn.functional.linear(rows_ND, weight, bias)
        rows_ND = model.whitening(rows_ND)
    if model.dims is not None:
        rows_ND = l2_normalize_whole(rows_ND[:, : model.dims])
    if model.whitening is not None or model.dims is not None:
        yield "finalL2", rows_ND


def _from_matlab(layer: str, given: Any, clusters: int) -> NDArray[Any]:
    """[H, W, C, N] to our shape of that layer."""
    array = _to_nchw(np.asarray(given))
    if array.ndim != 4:
        return array
    if layer in ("vlad:core", "vlad:intranorm"):
        return array[:, :, 0, :].transpose(0, 2, 1)
    if layer == "postL2" and array.shape[1] % clusters == 0:
        rows_ND = array.reshape(len(array), -1)
        return rows_ND.reshape(len(rows_ND), -1, clusters).transpose(0, 2, 1).reshape(len(rows_ND), -1)
    if layer in ("max:core", "avg:core", "postL2", "WPCA", "finalL2"):
        return array.reshape(len(array), -1)
    return array


def _to_nchw(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim > 4:
        return array
    return array.reshape(array.shape + (1,) * (4 - array.ndim)).transpose(3, 2, 0, 1)


def _row(layer: str, ours: Tensor, theirs: NDArray[Any], tolerance: float) -> Row:
    here = ours.float().cpu().numpy()
    shape = tuple(here.shape)
    if theirs.shape != shape or theirs.dtype.kind not in "fiub":
        return Row(layer, shape, float("inf"), False)
    away = np.abs(here.astype(np.float64) - theirs)
    if not np.isfinite(away).all():
        return Row(layer, shape, float("inf"), False)
    largest = float(away.max(initial=0))
    return Row(layer, shape, largest, largest <= tolerance * max(1.0, float(np.abs(theirs).max(initial=0))))
