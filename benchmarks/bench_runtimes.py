"""Photos a second of each runtime and precision, beside the peers' way, in one process.

Peers' way: PyTorch in float32, one photo at a time, decoded by Pillow in the same thread. Ratios are of
processor time, so that other programs on the machine do not count. Networks have random weights; time does
not depend on them. Cosines are against PyTorch in float32, on photos of a made town.

Run: ``python benchmarks/bench_runtimes.py [--photos 8] [--models vgg16,resnet50,dinov2] [--no-int8]``
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import dejavlad as dv
from dejavlad.export import ExportSetting, export_model, open_export
from dejavlad.export.openvino_session import has_bf16
from dejavlad.export.quantise import export_int8
from dejavlad.images import read_image
from dejavlad.model import PlaceModel
from dejavlad.town import make_town
from dejavlad.zoo import load_model
from gpu import vgg16_4096

MODELS: dict[str, Callable[[], PlaceModel]] = {
    "vgg16": lambda: vgg16_4096("480x640", "cpu"),
    "resnet50": lambda: load_model(
        "cosplace-resnet50-2048", weights="random:0", device="cpu", resize="480x640"
    ),
    "dinov2": lambda: load_model("salad", weights="random:0", device="cpu", resize="322x322"),
}


def best(run: Callable[[], Any], photos: int, rounds: int = 1) -> tuple[float, Any]:
    """Photos a second of processor time in the best of some rounds after a first one, and what was made."""
    run()
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        made = run()
        taken.append(time.process_time() - start)
    return photos / min(taken), made


def peers(model: PlaceModel, files: list[Path]) -> NDArray[np.float32]:
    """One photo at a time."""
    rows = []
    with torch.inference_mode():
        for path in files:
            pixels = np.asarray(Image.open(path).convert("RGB"))
            rows.append(model.describe(torch.from_numpy(model.preprocess(pixels))[None]).numpy())
    return np.concatenate(rows)


def measure(name: str, files: list[Path], folder: Path, int8: bool) -> None:
    """Print the lines of one model."""
    model = MODELS[name]()
    count = len(files)
    peer, expected = best(lambda: peers(model, files), count)
    print(f"{name}: peers' way {peer:.2f} photos a second = 1", flush=True)
    images = torch.stack([torch.from_numpy(model.preprocess(read_image(dv.Photo(p.name, p)))) for p in files])
    with torch.inference_mode():
        alone, _ = best(lambda: [model.describe(image[None]) for image in images], count)
    size = (images.shape[2], images.shape[3])
    exact, small = folder / f"{name}.onnx", folder / f"{name}-int8.onnx"
    setting = ExportSetting(size)
    pixels = [read_image(dv.Photo(path.name, path)) for path in files]
    export_model(model, exact, setting, images=pixels[:3])
    if int8:
        export_int8(model, small, setting, calibrate=(pixels * 8)[:16], images=pixels[:3])
    ways: list[tuple[str, str, str]] = [("torch", "fp32", ""), ("torch", "bf16", "")]
    ways += [("onnxruntime", "fp32", str(exact)), ("openvino", "fp32", str(exact))]
    ways += [("openvino", "bf16", str(exact))] if has_bf16() else []
    ways += [("openvino", "int8", str(small))] if int8 else []
    for runtime, precision, path in ways:
        if path:
            way: PlaceModel = open_export(Path(path), runtime=runtime, precision=precision)
        else:
            way = model
            model.precision = precision
        jpeg, rows = best(lambda way=way: way.encode(files, batch_size=4, workers=2), count)  # type: ignore[misc]
        with torch.inference_mode():
            tensor, _ = best(lambda way=way: way.describe(images), count)  # type: ignore[misc]
        cosine = float((rows * expected).sum(1).min())
        print(
            f"  {runtime:12} {precision}  from JPEG {jpeg / peer:5.2f}  from tensors {tensor / alone:5.2f}  "
            f"least cosine {cosine:.5f}",
            flush=True,
        )
    model.precision = "fp32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--no-int8", action="store_true", help="leave out int8, whose calibration takes long")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        town = make_town(Path(folder) / "town", photos=60, size=(480, 640))
        files = sorted(Path(town).rglob("*.jpg"))[:: max(1, 60 // given.photos)][: given.photos]
        for name in given.models.split(","):
            measure(name, files, Path(folder), not given.no_int8)


if __name__ == "__main__":
    main()
