"""Photos a second of each runtime and precision, beside the peers' way, in one process.

Peers' way: PyTorch in float32, one photo at a time, decoded by Pillow in the same thread. Each way is run by
turns with it; ratios are of processor time, medians of the rounds, so that other programs on the machine
count little. Networks have random weights; time does not depend on them. Cosines are against PyTorch in
float32, on photos of a made town.

Run: ``OMP_NUM_THREADS=1 python benchmarks/bench_runtimes.py [--photos 4] [--models vgg16,resnet50,dinov2]
[--ways torch-bf16,openvino-bf16] [--folder KEPT]``. With ``--folder``, exported files and what was measured
are kept, and a later run goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import dejavlad as dv
from _timing import Paired, paired, processor
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
WAYS = (
    "torch-fp32",
    "torch-bf16",
    "mnn-fp32",
    "onnxruntime-fp32",
    "openvino-fp32",
    "openvino-bf16",
    "openvino-int8",
)
CALIBRATION = 8
"""Photos that int8 is calibrated on; they differ from those described."""
RESULTS = "runtimes.jsonl"


class Bench:
    """One model and the photos that it describes.

    Args:
        name: one of `MODELS`.
        files: photos.
        calibration: others, for int8.
        folder: for exported files.
    """

    def __init__(self, name: str, files: Sequence[Path], calibration: Sequence[Path], folder: Path) -> None:
        self.name, self.files, self.calibration, self.folder = name, list(files), calibration, folder
        self.model = MODELS[name]()
        with torch.inference_mode():
            self.images = torch.stack([_prepared(self.model, _pixels(path)) for path in self.files])
            self.exact = self.peers()

    def peers(self) -> NDArray[np.float32]:
        """Descriptors, one photo at a time."""

        def pixels(path: Path) -> NDArray[np.uint8]:
            return np.asarray(Image.open(path).convert("RGB"))

        with torch.inference_mode():
            each = [self.model.describe(_prepared(self.model, pixels(path))[None]) for path in self.files]
            return torch.cat(each).numpy()

    def way(self, runtime: str, precision: str) -> PlaceModel:
        """The model in that runtime and precision."""
        if runtime == "torch":
            model = self.model.with_dims(None)
            model.precision = precision
            return model
        path = self.folder / f"{self.name}{'-int8' if precision == 'int8' else ''}.onnx"
        if not path.exists():
            size = (self.images.shape[2], self.images.shape[3])
            compared = [_pixels(file) for file in self.files[:3]] * 3
            setting = ExportSetting(size)
            if precision == "int8":
                calibrate = [_pixels(file) for file in self.calibration]
                export_int8(self.model, path, setting, calibrate=calibrate, images=compared[:3])
            else:
                export_model(self.model, path, setting, images=compared[:3])
        return open_export(path, runtime=runtime, precision=precision)

    def measure(self, way: str, batch: int, rounds: int) -> dict[str, Any]:
        """Ratios to the peers' way, and the least cosine to its descriptors."""
        model = self.way(*way.split("-"))

        def one_by_one() -> None:
            for image in self.images:
                self.model.describe(image[None])

        def in_batches() -> None:
            for images in self.images.split(batch):
                model.describe(images)

        with torch.inference_mode():
            rows = model.encode(self.files, batch_size=batch)  # the first run, which is not timed
            encode = partial(model.encode, self.files, batch_size=batch, workers=1)
            jpeg = self._timed(self.peers, encode, rounds)
            tensor = self._timed(one_by_one, in_batches, rounds)
        return {
            "model": self.name,
            "way": way,
            "photos": len(self.files),
            "batch": batch,
            "peers_jpeg": len(self.files) / min(jpeg.reference),
            "peers_tensor": len(self.files) / min(tensor.reference),
            "jpeg": jpeg.ratio,
            "tensor": tensor.ratio,
            "cosine": float((rows * self.exact).sum(1).min()),
        }

    @staticmethod
    def _timed(peers: Callable[[], Any], ours: Callable[[], Any], rounds: int) -> Paired:
        return paired(peers, ours, rounds=rounds, warm=0, clock=time.process_time)


@cache
def _pixels(path: Path) -> NDArray[np.uint8]:
    return read_image(dv.Photo(path.name, path))


def _prepared(model: PlaceModel, pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(model.preprocess(pixels))


def measured(results: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What earlier runs have measured."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["model"], row["way"]): row for row in rows}


def show(row: dict[str, Any]) -> None:
    """Print a row of the table."""
    runtime, precision = row["way"].split("-")
    print(
        f"| {row['model']} | {runtime} | {precision} | {row['jpeg']:.2f} times | {row['tensor']:.2f} times | "
        f"{row['cosine']:.5f} | {row['peers_jpeg']:.2f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--ways", default=",".join(WAYS), help="int8's calibration takes long")
    parser.add_argument("--folder", type=Path, help="keep exported files and results here, and go on")
    given = parser.parse_args()
    ways = [way for way in given.ways.split(",") if way != "openvino-bf16" or has_bf16()]
    print(f"{processor()}, {torch.get_num_threads()} threads; {given.photos} photos, batch {given.batch}")
    print("| model | runtime | precision | from JPEG | from tensors | least cosine | peers, photos/s |")
    print("|---|---|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        town = make_town(Path(temporary) / "town", photos=60, size=(480, 640))
        photos = sorted(Path(town).rglob("*.jpg"))
        files = photos[:: len(photos) // given.photos][: given.photos]
        others = [photo for photo in photos if photo not in files]
        results = folder / RESULTS
        for name in given.models.split(","):
            done, bench = measured(results), None
            for way in ways:
                row = done.get((name, way))
                if row is None:
                    bench = bench or Bench(name, files, others[:CALIBRATION], folder)
                    row = bench.measure(way, given.batch, given.rounds)
                    with results.open("a", encoding="utf-8") as lines:
                        lines.write(json.dumps(row) + "\n")
                show(row)


if __name__ == "__main__":
    main()
