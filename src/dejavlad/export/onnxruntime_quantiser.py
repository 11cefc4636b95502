"""onnxruntime's quantiser: ranges by the moving average of each photo's least and greatest values."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.export import onnx_file

QUANTISED: Final = ("Conv", "MatMul", "Gemm")
"""Operations that compute in int8."""


class OnnxruntimeQuantiser:
    """Quantise by onnxruntime (a `dejavlad.export.quantise.Quantiser`)."""

    def __init__(self) -> None:
        self.functions: Any = importlib.import_module("onnxruntime.quantization")
        self.shapes: Any = importlib.import_module("onnxruntime.quantization.shape_inference")
        self.name = f"onnxruntime {importlib.import_module('onnxruntime').__version__}"

    def __call__(self, source: Path, made: Path, photos: Sequence[NDArray[Any]], share: float) -> None:
        """Calibrate on prepared photos, each [1, ...], and write."""
        functions = self.functions
        inferred = source.with_name("inferred.onnx")
        self.shapes.quant_pre_process(str(source), str(inferred), skip_symbolic_shape=True)
        network = onnx_file.read(inferred)
        first = onnx_file.first_convolutions(network, photos[0].shape, share)
        chosen = [
            node.name
            for node in network.graph.node
            if node.op_type in QUANTISED and "backbone" in node.name and node.name not in first
        ]
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

        large = sum(len(tensor.raw_data) for tensor in network.graph.initializer) >= onnx_file.DATA_FROM
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
            extra_options={"CalibMovingAverage": True},
        )
