"""An epoch of training from a late layer on: what the frozen layers make kept, against computing it anew.

VGG-16 NetVLAD from conv5_1 and ResNet-18 NetVLAD from its last block, random weights, 500 photos of the
database, 64 queries, tuples of 10 negatives, photos described anew twice in the epoch.

1. VGG-16 at 96x128 and ResNet-18 on a made town, float32: the whole epoch both ways, all losses compared.
2. VGG-16 at 480x640, in bfloat16 where the processor has it: the whole epoch with maps kept. Anew, the same
   run goes on from the same place for some batches, and describes some of the photos: so many of both ways
   are compared, and the epoch by proportion is said to be just that. ``--full`` measures all of it.

About a quarter of an hour on two free cores; ``--quick`` is a minute, of too few photos to mean anything.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from _timing import processor
from bench_bf16 import has_bf16
from dejavlad.datasets import open_dataset
from dejavlad.ground_truth import PlaceDataset
from dejavlad.model import PlaceModel
from dejavlad.numerics import kmeans
from dejavlad.town import make_town
from dejavlad.training import Run, TrainConfig, train
from dejavlad.training.context import RunContext
from dejavlad.training.data.descriptors import describe_pool
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.run.records import (
    OnRecord,
    ignore,
)
from dejavlad.training.sampling.mining import Miner
from dejavlad.training.steps.network import Network
from dejavlad.zoo import load_model

PHOTOS, QUERIES, PER_PLACE = 500, 64, 4
SMALL, LARGE = (96, 128), (480, 640)
CONFIG = TrainConfig(
    method="given",
    train_from="conv5_1",
    epochs=1,
    batch_size=4,
    refresh_every=32,
    save_every=0,
    margin=4.0,  # so that every negative counts
    learning_rate=1e-5,
    test_before=False,
    recall_at=(1, 5),
    frozen_maps_gb=16.0,
)


@dataclass
class Times:
    """Of an epoch, in seconds, and what was gone through."""

    first: float = 0.0
    mining: float = 0.0
    steps: float = 0.0
    describing: float = 0.0
    seen: int = 0
    """Photos that went through steps."""
    described: int = 0
    losses: list[float] = field(default_factory=list)

    @property
    def total(self) -> float:
        """Of the epoch, without what comes first."""
        return self.mining + self.steps + self.describing

    def __str__(self) -> str:
        return (
            f"mining {self.mining:7.1f} s, steps {self.steps:7.1f} s, describing {self.describing:7.1f} s, "
            f"in all {self.total:7.1f} s"
        )


def scene(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A made photo with edges and surfaces at every scale."""
    height, width = size
    noise = np.zeros((height, width, 3))
    for side in (4, 8, 16, 32):
        cells = rng.normal(size=(height // side + 1, width // side + 1, 3))
        noise += cells.repeat(side, 0).repeat(side, 1)[:height, :width]
    return np.clip(128 + 32 * noise, 0, 255).astype(np.uint8)


def places(folder: Path, size: tuple[int, int], photos: int = PHOTOS, queries: int = QUERIES) -> PlaceDataset:
    """Photos as files: a place every 100 m, four photos of each, 3 m apart; and queries."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    names: tuple[list[str], list[str]] = [], []
    at: tuple[list[tuple[float, float]], list[tuple[float, float]]] = [], []
    for place in range(photos // PER_PLACE):
        image = scene(rng, size)
        for i in range(PER_PLACE + (place < queries)):
            which = int(i == PER_PLACE)
            path = folder / f"{place:03d}-{i}.jpg"
            cv2.imwrite(str(path), np.roll(image, 4 * i, axis=1))
            names[which].append(str(path))
            at[which].append((100.0 * place, 0.0 if which else 3.0 * (i + 1)))
    return PlaceDataset.from_arrays(names[0], np.array(at[0]), names[1], np.array(at[1]), name="streets")


def netvlad(name: str, dataset: PlaceDataset) -> PlaceModel:
    """A model of random weights, with clusters from a few photos."""
    model = load_model(f"{name}-netvlad", weights="random:0", device="cpu", resize="none")
    few = dataset.database[:: max(1, len(dataset.database) // 8)]
    images = [model.preprocess(cv2.imread(str(photo.path))[..., ::-1]) for photo in few]
    with torch.inference_mode():
        local_MD = torch.cat([model.local_features(torch.as_tensor(one)[None])[0] for one in images]).numpy()
    return model.with_clusters(kmeans(local_MD, 64, iterations=10), local_MD)


@contextmanager
def counting(times: Times) -> Iterator[None]:
    """Notes the time that mining takes, and photos that go through."""
    choose, describe = Miner.choose, Network.describe

    def chosen(self, *given):
        started = time.perf_counter()
        try:
            return choose(self, *given)
        finally:
            times.mining += time.perf_counter() - started

    def described(self, maps):
        if torch.is_grad_enabled():
            times.seen += len(maps)
        return describe(self, maps)

    Miner.choose, Network.describe = chosen, described
    try:
        yield
    finally:
        Miner.choose, Network.describe = choose, describe


def epoch(
    config: TrainConfig,
    model: PlaceModel,
    dataset: PlaceDataset,
    out: Path,
    on_record: OnRecord = ignore,
) -> Times:
    """One epoch of training as `train` does it, and how many seconds each part took."""
    times = Times()
    started = time.perf_counter()

    def noted(record):
        on_record(record)
        if record["kind"] == "batch":
            times.first = times.first or time.perf_counter() - started - record["seconds"]
            times.steps += record["seconds"]
        elif record["kind"] == "refresh" and record["at"] != [1, 0]:
            times.describing += record["seconds"]
            times.described += len(dataset.queries) + len(dataset.database)

    with counting(times):
        train(config, model, dataset, None, out, on_record=noted)
    times.steps -= times.mining
    times.losses = Run(out).losses
    return times


def apart(losses: list[float], others: list[float]) -> float:
    """The most by which losses differ, as a share of them."""
    return float(np.abs(np.array(losses) / np.array(others) - 1).max())


def kept_epoch(
    config: TrainConfig, model: PlaceModel, dataset: PlaceDataset, folder: Path
) -> tuple[Times, list[float]]:
    """An epoch with maps kept, in folder/kept, and the seconds of each batch.

    Afterwards folder/anew is the same run as it was before the first batch, all photos described.
    """
    kept_at, each = folder / "kept", list[float]()

    def started(record):
        if record["kind"] == "batch":
            if not each:
                shutil.copytree(kept_at, folder / "anew")
            each.append(record["seconds"])

    return epoch(replace(config, frozen_maps="memory"), model, dataset, kept_at, started), each


def both(what: str, config: TrainConfig, model: PlaceModel, dataset: PlaceDataset, folder: Path) -> None:
    """An epoch both ways, in full; prints what it took."""
    kept, _ = kept_epoch(config, model, dataset, folder)
    anew = epoch(replace(config, frozen_maps="off"), model, dataset, folder / "anew")
    worst = apart(kept.losses, anew.losses)
    print(f"{what}: measured in full; {kept.seen} photos in steps, {kept.described} described")
    print(f"    anew  {anew}")
    print(f"    kept  {kept}; before that {kept.first:.1f} s (all frozen layers once, and all descriptors)")
    print(
        f"    {anew.total / kept.total:.1f} times faster: steps {anew.steps / kept.steps:.1f}, describing "
        f"{anew.describing / kept.describing:.1f}; losses differ by {worst:.1e} of themselves",
        flush=True,
    )


class Enough(Exception):
    """Raised when as many batches as are measured have been trained on."""


def some_batches(
    config: TrainConfig, model: PlaceModel, dataset: PlaceDataset, out: Path, most: int
) -> Times:
    """The first batches of an epoch whose photos are described already."""
    times = Times()

    def noted(record):
        if record["kind"] == "batch":
            times.steps += record["seconds"]
            times.losses.append(record["loss"])
            if len(times.losses) == most:
                raise Enough

    with counting(times), suppress(Enough):
        train(config, model, dataset, None, out, on_record=noted)
    times.steps -= times.mining
    return times


def some_described(config: TrainConfig, model: PlaceModel, dataset: PlaceDataset, most: int) -> Times:
    """Describe evenly chosen photos again, as between epochs."""
    network = Network(copy.deepcopy(model), config)
    pool = PhotoPool(dataset, model.preprocess, workers=config.workers)
    among = np.unique(np.linspace(0, len(pool) - 1, most).astype(np.int64))
    started = time.perf_counter()
    for _ in describe_pool(network, pool, None, RunContext(config), among=among):
        pass
    return Times(describing=time.perf_counter() - started, described=len(among))


def partly(
    what: str, config: TrainConfig, model: PlaceModel, dataset: PlaceDataset, folder: Path, batches: int
) -> None:
    """An epoch with maps kept in full, and some of it anew from the same place; prints both."""
    kept, each = kept_epoch(config, model, dataset, folder)
    print(f"{what}: the whole epoch with maps kept; {kept.seen} photos in steps, {kept.described} described")
    print(f"    kept  {kept}; before that {kept.first:.1f} s (all frozen layers once, and all descriptors)")
    off = replace(config, frozen_maps="off")
    anew = some_batches(off, model, dataset, folder / "anew", batches)
    sample = some_described(off, model, dataset, len(dataset.database) * batches // len(each))
    steps = sum(each[:batches]) - kept.mining * batches / len(each)
    describing = kept.describing * sample.described / kept.described
    worst = apart(kept.losses[:batches], anew.losses)
    print(
        f"  measured anew: {batches} of {len(each)} batches, {anew.seen} photos, in {anew.steps:.1f} s (kept "
        f"{steps:.1f} s: {anew.steps / steps:.1f} times faster); their losses differ by {worst:.1e} of "
        f"themselves\n  and {sample.described} photos described in {sample.describing:.1f} s (kept "
        f"{describing:.1f} s: {sample.describing / describing:.1f} times faster)"
    )
    whole = Times(
        mining=kept.mining,
        steps=anew.steps / anew.seen * kept.seen,
        describing=sample.describing / sample.described * kept.described,
    )
    print(f"  computed from that, not measured: an epoch anew\n    anew  {whole}")
    print(f"    {whole.total / kept.total:.1f} times faster in all", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the whole epoch at 480x640 anew too")
    parser.add_argument("--quick", action="store_true", help="of 40 small photos: only to see that it runs")
    parser.add_argument("--batches", type=int, default=2, help="of 480x640, measured anew")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="at 480x640; default: see above")
    parser.add_argument("--only", choices=("small", "large", "town"), help="one part of it")
    parser.add_argument("--device", default=None, help="for the photos of 480x640")
    given = parser.parse_args()
    photos, queries = (40, 8) if given.quick else (PHOTOS, QUERIES)
    large_size = (96, 128) if given.quick else LARGE
    config = replace(CONFIG, refresh_every=queries // 2)
    print(f"{processor()}, {torch.get_num_threads()} threads; {photos} photos, {queries} queries")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.only in (None, "small"):
            small = places(folder / "small", SMALL, photos, queries)
            both(
                f"VGG-16 from conv5_1, fp32, {_by(SMALL)}",
                config,
                netvlad("vgg16", small),
                small,
                folder / "s",
            )
        if given.only in (None, "town"):
            made = make_town(folder / "town", photos=60 if given.quick else 240, size=(120, 160), workers=2)
            town = open_dataset(made / "train")
            late = replace(config, train_from="layer3.1")
            what = "ResNet-18 from layer3.1 on a made town, fp32, 120x160"
            both(what, late, netvlad("resnet18", town), town, folder / "t")
        if given.only in (None, "large"):
            large = places(folder / "large", large_size, photos, queries)
            precision = given.precision or ("bf16" if has_bf16() else "fp32")
            config = replace(config, precision=precision)
            model = netvlad("vgg16", large).to(given.device or "cpu")
            what = f"VGG-16 from conv5_1, {precision}, {_by(large_size)}"
            if given.full:
                both(what, config, model, large, folder / "l")
            else:
                partly(what, config, model, large, folder / "l", given.batches)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


if __name__ == "__main__":
    main()
