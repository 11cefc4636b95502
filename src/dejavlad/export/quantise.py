"""Exports in int8: static quantisation after training, with ranges calibrated on photos.

Weights get a scale for each channel, activations one range each, from the photos. The backbone alone is
quantised: assignments to clusters and the whitening are sharp, cheap, and stay in float32.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from dejavlad.errors import InputError, MissingExtraError
from dejavlad.export import onnx_file
from dejavlad.export.certificate import Certificate, embed
from dejavlad.export.compare import Size
from dejavlad.export.make import ExportSetting, beside, certify, describe_file, export_model, move
from dejavlad.export.network import as_bytes
from dejavlad.model import PlaceModel
from dejavlad.model.alone import made_photos
from dejavlad.model.device import INT8
from dejavlad.progress import OnProgress, Progress, silent

QUANTISING = "calibrating and quantising"
PHOTOS = 64
"""Photos that ranges are calibrated on, at most."""
LEAST = 8
"""Photos that ranges are calibrated on, at least."""
QUANTISED: Final = ("Conv", "MatMul", "Gemm")
"""Operations that compute in int8."""


def export_int8(
    model: PlaceModel,
    out: str | Path,
    setting: ExportSetting = ExportSetting(),
    *,
    calibrate: Sequence[NDArray[np.uint8]],
    images: Sequence[NDArray[np.uint8]] = (),
    on_progress: OnProgress = silent,
) -> Certificate:
    """Write a model as a quantised ONNX file, with the certificate of what that changes.

    Args:
        model: as `export_model` takes it.
        out: the file.
        setting: what is exported.
        calibrate: photos like those that will be described, uint8 [H, W, 3]; some dozens.
        images: photos to compare by; default: made ones.
        on_progress: called with reports.

    Returns:
        The certificate; its answers say how near the quantised network is, and its fingerprint is that of
        the model, of which the quantised file counts as another one.

    Raises:
        InputError: too few photos, or as `export_model`.
        MissingExtraError: onnxruntime, whose quantiser it is, is not installed.
    """
    out, images = Path(out), list(images) or list(made_photos(8))
    if len(calibrate) < LEAST:
        raise InputError(
            f"int8 is calibrated on at least {LEAST} photos like those to be described; "
            f"given {len(calibrate)}"
        )
    program = _quantiser()
    with beside(out) as folder:
        exact = folder / "float.onnx"
        plain = replace(setting, runtimes=(("onnxruntime", "fp32"),))
        before = export_model(model, exact, plain, images=images, on_progress=on_progress)
        on_progress(Progress(QUANTISING, 0, 1))
        made = folder / out.name
        size = before.size or setting.size or model.preprocess.output_size(480, 640)
        photos = _prepared(model, calibrate, size, setting)
        _quantise(program, exact, made, photos)
        bare = replace(
            describe_file(model, made, setting, before.size, precision=INT8),
            calibrated={"photos": len(photos), "by": f"onnxruntime {program.version}"},
        )
        certificate = certify(model, made, bare, images, [size], setting)
        embed(made, certificate)
        on_progress(Progress(QUANTISING, 1, 1))
        move(made, out)
    return certificate


class _Quantiser:
    """onnxruntime's quantiser."""

    def __init__(self) -> None:
        self.functions: Any = importlib.import_module("onnxruntime.quantization")
        self.shapes: Any = importlib.import_module("onnxruntime.quantization.shape_inference")
        self.version = str(importlib.import_module("onnxruntime").__version__)


def _quantiser() -> _Quantiser:
    onnx_file.check_installed()
    try:
        return _Quantiser()
    except ImportError:
        raise MissingExtraError("quantising to int8", "onnx") from None


def _prepared(
    model: PlaceModel, images: Sequence[NDArray[np.uint8]], size: Size, setting: ExportSetting
) -> list[NDArray[Any]]:
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), PHOTOS)).astype(int))
    prepare = replace(model.preprocess, resize=f"{size[0]}x{size[1]}", multiple=1)
    prepared = [torch.from_numpy(prepare(images[row]))[None] for row in rows]
    if setting.with_preprocess:
        prepared = [as_bytes(image, model.preprocess) for image in prepared]
    return [np.ascontiguousarray(image.numpy()) for image in prepared]


def _quantise(program: _Quantiser, source: Path, made: Path, photos: Sequence[NDArray[Any]]) -> None:
    functions = program.functions
    inferred = source.with_name("inferred.onnx")
    program.shapes.quant_pre_process(str(source), str(inferred), skip_symbolic_shape=True)
    graph = onnx_file.read(inferred).graph
    chosen = [node.name for node in graph.node if node.op_type in QUANTISED and "backbone" in node.name]
    if not chosen:
        raise InputError("this network has no convolutions or products that could be quantised")

    class Reader(functions.CalibrationDataReader):  # type: ignore[misc, name-defined]
        """Photo by photo."""

        def __init__(self) -> None:
            self.photos: Iterator[NDArray[Any]] = iter(photos)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            """The next photo; None after the last."""
            photo = next(self.photos, None)
            return None if photo is None else {onnx_file.IMAGES: photo}

    large = sum(len(tensor.raw_data) for tensor in graph.initializer) >= onnx_file.DATA_FROM
    functions.quantize_static(
        str(inferred),
        str(made),
        Reader(),
        quant_format=functions.QuantFormat.QDQ,
        activation_type=functions.QuantType.QUInt8,
        weight_type=functions.QuantType.QInt8,
        per_channel=True,
        nodes_to_quantize=chosen,
        use_external_data_format=large,
    )
