"""What a GPU makes of it, in one table; where there is none, that is said and nothing is measured.

Photos a second from JPEG files, milliseconds a query of each preset of re-ranking (100 candidates, their
patches on the GPU), search of a million rows, an epoch of training. Random weights and made photos: time does
not depend on what they show. Clock time, since the processor waits; each figure is the median of some rounds
after a first.

Run: ``python benchmarks/gpu.py``. ``--device cpu --small`` goes through the same steps with tiny numbers, to
see that they work; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from _timing import processor
from dejavlad.aggregation import NetVLAD, patch_centres
from dejavlad.backbones import Geometry
from dejavlad.datasets import open_dataset
from dejavlad.errors import DejavladError
from dejavlad.index import build_index
from dejavlad.model import PlaceModel, Whitening
from dejavlad.patches import PatchSet
from dejavlad.places.preset import PRESETS, load_preset
from dejavlad.rerank import Reranker
from dejavlad.town import make_town
from dejavlad.training import TrainConfig, train
from dejavlad.zoo import load_model

VGG16 = Geometry(stride=16, offset=7.5)


class Scale(NamedTuple):
    """How much is measured."""

    photos: int
    batch: int
    vgg: str
    vit: str
    cells: tuple[int, int]
    candidates: int
    rows: int
    train_photos: int
    rounds: int


FULL = Scale(256, 32, "480x640", "322x322", (30, 40), 100, 1_000_000, 500, 3)
SMALL = Scale(4, 2, "64x96", "126x126", (10, 12), 4, 2_000, 60, 1)


def waited(work: Callable[[], object], device: str, rounds: int) -> float:
    """Median seconds of `work`, the device having finished."""
    taken = []
    for turn in range(-1, rounds):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        if turn >= 0:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def row(what: str, figure: str) -> None:
    """A line of the table."""
    print(f"{what:58} {figure:>16}", flush=True)


def vgg16_4096(resize: str, device: str) -> PlaceModel:
    """VGG-16, NetVLAD of 64 clusters, whitened to 4096, random weights."""
    base = load_model("vgg16-netvlad", weights="random:0", device=device, resize=resize)
    torch.manual_seed(0)
    layer = NetVLAD(512, 64)
    whitening = Whitening(layer.descriptor_size, 4096)
    torch.nn.init.normal_(whitening.weight, std=layer.descriptor_size**-0.5)
    model = PlaceModel(
        base.backbone,
        layer,
        base.preprocess,
        whitening=whitening,
        fitted=True,
        name="vgg16-netvlad-4096",
        source=base.source,
    )
    return model.to(device).eval()


def describing(scale: Scale, device: str, files: list[Path]) -> None:
    """Photos a second from JPEG files, of three networks."""
    networks: dict[str, Callable[[], PlaceModel]] = {
        f"VGG-16 NetVLAD 4096, {scale.vgg}": lambda: vgg16_4096(scale.vgg, device),
        f"ResNet-50 CosPlace 2048, {scale.vgg}": lambda: load_model(
            "cosplace-resnet50-2048", weights="random:0", device=device, resize=scale.vgg
        ),
        f"DINOv2-B SALAD, {scale.vit}": lambda: load_model(
            "salad", weights="random:0", device=device, resize=scale.vit
        ),
    }
    for name, make in networks.items():
        model = make()
        for precision in ("fp32", "bf16"):
            model.precision = precision
            seconds = waited(
                partial(model.encode, files, batch_size=scale.batch, workers=8),
                device,
                scale.rounds,
            )
            row(f"{name}, {precision}", f"{len(files) / seconds:.1f} photos/s")


def reranking(scale: Scale, device: str) -> None:
    """Milliseconds a query, patches of random vectors."""
    height, width = scale.cells
    for name in PRESETS:
        preset = load_preset(name)
        generator = torch.Generator().manual_seed(0)

        def photo(preset: object = preset, generator: torch.Generator = generator) -> list[PatchSet]:
            made = []
            for size in preset.sizes:  # type: ignore[attr-defined]
                grid = (height - size + 1, width - size + 1)
                dims = preset.dims or 512  # type: ignore[attr-defined]
                rows_PD = F.normalize(torch.randn(grid[0] * grid[1], dims, generator=generator))
                centres_P2 = patch_centres(grid, size, 1, VGG16).to(device)
                made.append(PatchSet(rows_PD.half().to(device), centres_P2, grid, size))
            return made

        query, candidates = photo(), [photo() for _ in range(scale.candidates)]
        for shortlist in (None, "auto"):
            reranker = Reranker(preset.matcher, weights=preset.weights or None, shortlist=shortlist)
            seconds = waited(partial(reranker.scores, query, candidates), device, scale.rounds)
            kind = "exact" if shortlist is None else "shortlist auto"
            row(f"re-ranking {len(candidates)} by {name}, {kind}", f"{1000 * seconds:.1f} ms/query")


def searching(scale: Scale, device: str) -> None:
    """100 queries at once over float32 rows of 512: our index, on the processor; plainly, on the device."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((scale.rows, 512), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rows[:100] + 0.01
    index = build_index("flat", rows)
    seconds = waited(lambda: index.search(queries, 10), "cpu", scale.rounds)
    row(f"search of {scale.rows:,} rows, flat index (processor)", f"{10 * seconds:.3f} ms/query")
    on_device, asking = torch.from_numpy(rows).to(device), torch.from_numpy(queries).to(device)
    seconds = waited(lambda: torch.topk(asking @ on_device.T, 10), device, scale.rounds)
    row(f"search of {scale.rows:,} rows, plain PyTorch ({device})", f"{10 * seconds:.3f} ms/query")


def training(scale: Scale, device: str, folder: Path, town: Path) -> None:
    """An epoch of VGG-16 NetVLAD from conv5_1, mining and all."""
    config = TrainConfig(
        train_from="conv5_1",
        epochs=1,
        batch_size=4,
        save_every=0,
        test_before=False,
        recall_at=(1, 5),
        clusters=64 if scale is FULL else 4,
        other_time=False,
    )
    places = open_dataset(town / "train")
    model = load_model("vgg16-netvlad", weights="random:0", device=device, resize=scale.vgg)
    start = time.perf_counter()
    train(config, model, places, None, folder / "run", device=device)
    seconds = time.perf_counter() - start
    counts = f"{len(places.database)} photos, {len(places.queries)} queries"
    row(f"an epoch of VGG-16 NetVLAD from conv5_1, {counts}", f"{seconds:.1f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny numbers, to see that it works")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("there is no GPU here that PyTorch can use: nothing was measured")
        return 0
    scale = SMALL if given.small else FULL
    name = torch.cuda.get_device_name(0) if given.device == "cuda" else processor()
    print(f"{name}; PyTorch {torch.__version__}" + ("; tiny numbers, which mean nothing" * given.small))
    failed = False
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        town = make_town(folder / "town", photos=scale.train_photos, size=(240, 320))
        files = sorted(town.rglob("*.jpg"))
        files = (files * (1 + scale.photos // len(files)))[: scale.photos]
        parts: dict[str, Callable[[], None]] = {
            "describing": lambda: describing(scale, given.device, files),
            "re-ranking": lambda: reranking(scale, given.device),
            "search": lambda: searching(scale, given.device),
            "training": lambda: training(scale, given.device, folder, town),
        }
        for what, measure in parts.items():
            try:
                with torch.no_grad() if what == "re-ranking" else torch.enable_grad():
                    measure()
            except (DejavladError, RuntimeError) as error:  # one part that fails leaves the others
                failed = True
                row(what, "failed")
                print(f"  {str(error).splitlines()[0]}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
