"""ONNX files: written from PyTorch, and quantised; the one place that imports ``onnx``.

The exporter is the one that traces (TorchScript's). PyTorch's newer one needs a further package and writes
opset 18 with IR 10; this one needs ``onnx`` alone, and what it writes, opset 17 with IR 8, is read by
onnxruntime 1.12 (2022) and later.
"""

from __future__ import annotations

import importlib
import inspect
import math
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.errors import CheckpointError, InputError, MissingExtraError, first_line
from dejavlad.export.network import ExportedNetwork, of_one_size
from dejavlad.files import replacing
from dejavlad.guarded.plain_file import read_bytes

OPSET = 17
IMAGES, DESCRIPTORS, CELLS = "images", "descriptors", "cells"
WINDOWS = ("Conv", "MaxPool", "AveragePool")
"""Operations that leave fewer cells than they are given."""
UNKNOWN = (0, 0, 0, 0)
"""The shape of what is not known."""
EXAMPLE = (224, 224)
"""(height, width) of `example`, for a network that takes any."""
LARGE = 1024
"""Pixels of a side with which every layer of a network has cells."""
LIGHT = 1 << 14
"""Values up to which a constant is kept for finding shapes."""
DATA_FROM = 1_800_000_000
"""Bytes of weights from which they lie in a file of their own: a protobuf file ends at 2 GiB."""


def _onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise MissingExtraError("exporting to ONNX", "onnx") from None


def check_installed() -> None:
    """Raises MissingExtraError where ``onnx`` is not installed."""
    _onnx()


def write_network(
    network: ExportedNetwork,
    size: tuple[int, int],
    out: Path,
    *,
    any_size: bool,
    metadata: Mapping[str, str],
    data_from: int = DATA_FROM,
) -> None:
    """Trace a network and write it whole or not at all.

    Args:
        network: what to export, on the processor.
        size: (height, width) of the photos that it is traced with.
        out: the file; weights of more than `data_from` bytes go to `data_file(out)`.
        any_size: let height and width vary, and not only the batch.
        metadata: for other programs, by name.
        data_from: see `DATA_FROM`.

    Raises:
        MissingExtraError: ``onnx`` is not installed.
        InputError: PyTorch cannot export this network.
        OSError: the file cannot be written.
    """
    onnx = _onnx()
    layer = network.layer
    outputs = [DESCRIPTORS, *(f"patches_{side}" for side in (layer.sizes if layer else ()))]
    count = 2 if network.model.alone else 1  # others are described one photo at a time
    varying: dict[str, dict[int, str]] = {
        name: {0: "photos"} if network.model.alone else {} for name in (IMAGES, *outputs)
    }
    outputs += [CELLS] if layer else []
    at = 1 if network.with_preprocess else 2
    if any_size:
        varying[IMAGES] |= {at: "height", at + 1: "width"}
        for name in outputs[1:-1]:
            varying[name] |= {1: name}
    shape = (count, *size, 3) if network.with_preprocess else (count, 3, *size)
    images = torch.zeros(shape, dtype=torch.uint8) if network.with_preprocess else torch.rand(shape)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        traced = Path(folder) / "traced.onnx"
        _trace(network, images, traced, outputs, varying, size)
        model = onnx.load(str(traced))
        model.producer_name = "dejavlad"
        onnx.helper.set_model_props(model, dict(metadata))
        _save(onnx, model, out, Path(folder), data_from)


def data_file(path: Path) -> Path:
    """Where the weights of a large network lie, beside it."""
    return path.with_name(path.name + ".data")


def versions(path: Path) -> tuple[int, int]:
    """(opset, IR version) of a file."""
    model = _structure(path)
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), int(
        model.ir_version
    )


def example(path: Path) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """A made photo as a network takes it, and its outputs by name, in their order: by ONNX's own slow
    definition, in NumPy.

    Raises:
        CheckpointError: it is no network, or that definition cannot compute it.
    """
    taken = _structure(path).graph.input[0].type.tensor_type
    as_bytes = taken.elem_type == _onnx().TensorProto.UINT8
    usual = (1, *EXAMPLE, 3) if as_bytes else (1, 3, *EXAMPLE)
    shape = [side.dim_value or most for side, most in zip(taken.shape.dim, usual, strict=True)]
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, shape, np.uint8) if as_bytes else random.normal(size=shape)
    images = np.asarray(pixels, np.uint8 if as_bytes else np.float32)
    try:
        evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator(str(path))
        outputs = evaluator.run(None, {IMAGES: images})
    except Exception as error:  # its operations fail in many ways
        raise CheckpointError(f"{str(path)!r} cannot be computed by ONNX's definition: {error}") from None
    return images, dict(zip(evaluator.output_names, outputs, strict=True))


def read_outline(path: Path) -> Any:
    """A network without its large weights.

    Raises:
        CheckpointError: it is no network.
    """
    return without_weights(_structure(path))


def empty_layer(outline: Any, shape: Sequence[int], at: int) -> str | None:
    """The first convolution or pooling to which photos of a shape leave no cell; None where there is none.

    Args:
        outline: of a network that takes photos of any size.
        shape: what it is given.
        at: the axis of the shape that is the height; the next is the width.
    """
    large = inferred_sides(outline, [*shape[:at], LARGE, LARGE, *shape[at + 2 :]])
    sides = inferred_sides(outline, shape)
    layers = [node for node in outline.graph.node if node.op_type in WINDOWS]
    known = (node for node in layers if all(large.get(node.output[0], UNKNOWN)[2:]))
    return next((node.name for node in known if min(sides.get(node.output[0], UNKNOWN)[2:]) <= 0), None)


def _structure(path: Path) -> Any:
    """The network of a file, without weights that lie beside it."""
    try:
        return _onnx().load(str(path), load_external_data=False)
    except MissingExtraError:
        raise
    except Exception as error:  # protobuf's errors share no base that its versions agree on
        raise CheckpointError(f"{str(path)!r} is no network of ONNX: {error}") from None


def without_weights(network: Any) -> Any:
    """A network without its large weights: enough for names and shapes."""
    outline = _onnx().ModelProto()
    outline.CopyFrom(network)
    for tensor in outline.graph.initializer:
        if math.prod(tensor.dims) > LIGHT:  # its values say nothing of shapes
            tensor.ClearField("raw_data")
    _pad_as_same(outline.graph)
    return outline


def _pad_as_same(graph: Any) -> None:
    """Padding computed from a photo's sides is that of ``SAME``, of which shapes can be inferred."""
    makers = {name: node for node in graph.node for name in node.output}

    def follows_sides(name: str) -> bool:
        node = makers.get(name)
        return node is not None and (node.op_type == "Shape" or any(map(follows_sides, node.input)))

    padding = [node for node in graph.node if node.op_type == "Pad" and follows_sides(node.input[1])]
    pads = {node.output[0]: node.input[0] for node in padding}
    for node in graph.node:
        if node.op_type == "Conv" and node.input[0] in pads:
            node.input[0] = pads[node.input[0]]
            others = [entry for entry in node.attribute if entry.name not in ("pads", "auto_pad")]
            del node.attribute[:]
            node.attribute.extend([*others, _onnx().helper.make_attribute("auto_pad", "SAME_UPPER")])


def inferred_sides(outline: Any, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Name of each value within a network -> its shape, for photos of one; a side that is unknown or that
    cannot be is 0 or less."""
    for side, known in zip(outline.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        side.dim_value = known
    inferred = _onnx().shape_inference.infer_shapes(outline, data_prop=True).graph.value_info
    return {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim) for value in inferred
    }


def rewrite(model: Any, out: Path) -> None:
    """Write a network that was changed (quantised)."""
    onnx = _onnx()
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        _save(onnx, model, out, Path(folder), DATA_FROM)


def read(path: Path) -> Any:
    """The network of a file, as ``onnx`` has it."""
    return _onnx().load(str(path))


def first_convolutions(network: Any, shape: Sequence[int], share: float) -> list[str]:
    """The nodes of the first convolution of a backbone, and of those after it up to a share of the work.

    Args:
        network: as `read` gives it.
        shape: of the photos that go in.
        share: of the multiplications of all its convolutions, that those after the first may have.
    """
    outline = without_weights(network)
    weights = {tensor.name: math.prod(tensor.dims) for tensor in outline.graph.initializer}
    sides = inferred_sides(outline, shape)
    work = [
        (node.name, math.prod(sides.get(node.output[0], UNKNOWN)[2:]) * weights.get(node.input[1], 0))
        for node in outline.graph.node
        if node.op_type == "Conv" and "backbone" in node.name
    ]
    left = share * sum(multiplications for _, multiplications in work)
    chosen = [name for name, _ in work[:1]]
    for name, multiplications in work[1:]:
        left -= multiplications
        if left < 0 or not multiplications:
            break
        chosen.append(name)
    return chosen


def _trace(
    network: ExportedNetwork,
    images: Tensor,
    path: Path,
    outputs: list[str],
    varying: Mapping[str, Mapping[int, str]],
    size: tuple[int, int],
) -> None:
    parameters = inspect.signature(torch.onnx.export).parameters
    legacy: dict[str, Any] = {"dynamo": False} if "dynamo" in parameters else {}
    with ExitStack() as stack:
        stack.enter_context(network.model.describing())
        stack.enter_context(of_one_size(network.model.backbone, size))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of tracing, whose result is compared with the model itself
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            torch.onnx.export(
                network.eval(),
                (images,),
                str(path),
                opset_version=OPSET,
                input_names=[IMAGES],
                output_names=outputs,
                dynamic_axes=varying,
                **legacy,
            )
        except InputError:
            raise
        except Exception as error:  # exporters fail in many ways
            why = first_line(error)
            raise InputError(f"PyTorch cannot export {network.model.name}: {why}") from None
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


def _save(onnx: Any, model: Any, out: Path, folder: Path, data_from: int) -> None:
    """Weights in their own file first, so that the network is never there without them."""
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    made = folder / out.name
    large = weights >= data_from
    if large:
        onnx.save_model(
            model, str(made), save_as_external_data=True, location=data_file(out).name, size_threshold=1024
        )
        made_data = folder / data_file(out).name
        made_data.chmod(made.stat().st_mode & 0o666)  # it is written for its owner's eyes alone
        os.replace(made_data, data_file(out))
    else:
        onnx.save_model(model, str(made))
    with replacing(out) as file:
        file.write(read_bytes(made))
    if not large:
        data_file(out).unlink(missing_ok=True)
