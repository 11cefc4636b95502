"""An epoch of training from a late layer on: what the frozen layers make kept, against computing it anew.

VGG-16 NetVLAD from conv5_1 and ResNet-18 NetVLAD from its last block, random weights, 500 photos of the
database, 64 queries, tuples of 10 negatives, photos described anew twice in the epoch. Small photos: the
whole epoch both ways, with the losses compared. Photos of 480x640: describing and a step measured on a few
photos, and the epoch's time computed from that and the numbers of photos that it counted; ``--full`` measures
that too (an hour or two on a processor).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from _timing import processor
from bench_bf16 import has_bf16
from dejavlad.datasets import PlaceDataset, open_dataset
from dejavlad.datasets.town import make_town
from dejavlad.model import PlaceModel, load_model
from dejavlad.numerics import kmeans
from dejavlad.training import Run, TrainConfig, train
from dejavlad.training.album import Album
from dejavlad.training.describing import describe_album
from dejavlad.training.frozen_maps import FrozenMaps, Layout
from dejavlad.training.jitter import AS_IT_IS
from dejavlad.training.loss import make_loss
from dejavlad.training.mining import Mined, Miner
from dejavlad.training.network import Network
from dejavlad.training.step import Step

PHOTOS, QUERIES, PER_PLACE = 500, 64, 4
SMALL, LARGE = (120, 160), (480, 640)
CONFIG = TrainConfig(
    method="given",
    train_from="conv5_1",
    epochs=1,
    batch_size=4,
    refresh_every=32,
    save_every=0,
    margin=0.5,
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
    found = np.zeros((height, width, 3))
    for side in (4, 8, 16, 32):
        cells = rng.normal(size=(height // side + 1, width // side + 1, 3))
        found += cells.repeat(side, 0).repeat(side, 1)[:height, :width]
    return np.clip(128 + 32 * found, 0, 255).astype(np.uint8)


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
        begun = time.perf_counter()
        try:
            return choose(self, *given)
        finally:
            times.mining += time.perf_counter() - begun

    def described(self, maps):
        if torch.is_grad_enabled():
            times.seen += len(maps)
        return describe(self, maps)

    Miner.choose, Network.describe = chosen, described
    try:
        yield
    finally:
        Miner.choose, Network.describe = choose, describe


def epoch(config: TrainConfig, model: PlaceModel, dataset: PlaceDataset, out: Path) -> Times:
    """One, as `train` does it."""
    times = Times()
    begun = time.perf_counter()

    def noted(record):
        if record["kind"] == "batch":
            times.first = times.first or time.perf_counter() - begun - record["seconds"]
            times.steps += record["seconds"]
        elif record["kind"] == "refresh" and record["at"] != [1, 0]:
            times.describing += record["seconds"]
            times.described += len(dataset.queries) + len(dataset.database)

    with counting(times):
        train(config, model, dataset, None, out, on_record=noted)
    times.steps -= times.mining
    times.losses = Run(out).losses
    return times


def both(what: str, config: TrainConfig, model: PlaceModel, dataset: PlaceDataset, folder: Path) -> Times:
    """An epoch both ways, in full; prints what it took and returns the times with maps kept."""
    kept = epoch(replace(config, frozen_maps="memory"), model, dataset, folder / "kept")
    anew = epoch(replace(config, frozen_maps="off"), model, dataset, folder / "anew")
    worst = float(np.abs(np.array(kept.losses) - anew.losses).max())
    print(f"{what}: measured in full; {kept.seen} photos in steps, {kept.described} described")
    print(f"    anew  {anew}")
    print(f"    kept  {kept}; before that {kept.first:.1f} s (all frozen layers once, and all descriptors)")
    print(
        f"    {anew.total / kept.total:.1f} times faster: steps {anew.steps / kept.steps:.1f}, describing "
        f"{anew.describing / kept.describing:.1f}; losses differ by {worst:.1e} at most",
        flush=True,
    )
    return kept


def seconds(task: Callable[[], object]) -> float:
    """The least of up to three runs, as many as ten seconds allow."""
    times: list[float] = []
    while len(times) < 3 and sum(times) < 10:
        begun = time.perf_counter()
        task()
        times.append(time.perf_counter() - begun)
    return min(times)


def sample(what: str, config: TrainConfig, model: PlaceModel, dataset: PlaceDataset, counted: Times) -> None:
    """Describing and a step on a few photos, both ways; the epoch that follows from that."""
    network = Network(model, config)
    album = Album(dataset, model.preprocess, workers=config.workers)
    layout = Layout.of(network, album, config.frozen_maps_dtype)
    maps = FrozenMaps(layout, np.empty(int(layout.starts[-1]), layout.dtype), np.zeros(len(album), np.bool_))
    begun = time.perf_counter()
    maps.fill(network, album, config.describe_batch)
    fill = (time.perf_counter() - begun) / len(album)
    tuples = [(Mined(0, 0, np.arange(1, len(dataset.database))), AS_IT_IS)]
    took: dict[str, Times] = {}
    for way, held in (("anew", None), ("kept", maps)):
        step = Step(network, album, held, make_loss(config), config)
        stepping = seconds(lambda step=step: step(tuples, [1])) / (len(dataset.database) + 1)
        describing = seconds(
            lambda held=held: list(describe_album(network, album, held, config.describe_batch))
        ) / len(album)
        took[way] = Times(
            mining=counted.mining,
            steps=stepping * counted.seen,
            describing=describing * counted.described,
        )
        print(f"{what}, {way}: {describing:.3f} s a photo described, {stepping:.3f} s a photo in a step")
    anew, kept = took["anew"], took["kept"]
    print(
        f"  an epoch of {counted.seen} photos in steps and {counted.described} described, computed from that:"
    )
    print(f"    anew  {anew}\n    kept  {kept}; before that {fill * (PHOTOS + QUERIES):.0f} s")
    print(
        f"    {anew.total / kept.total:.1f} times faster: steps {anew.steps / kept.steps:.1f}, describing "
        f"{anew.describing / kept.describing:.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the whole epoch at 480x640, both ways")
    parser.add_argument("--device", default=None, help="for --full")
    given = parser.parse_args()
    print(f"{processor()}, {torch.get_num_threads()} threads; {PHOTOS} photos, {QUERIES} queries")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = places(folder / "small", SMALL)
        vgg = netvlad("vgg16", small)
        counted = both("VGG-16 from conv5_1, fp32, 120x160", CONFIG, vgg, small, folder / "vgg")
        few = places(folder / "few", LARGE, 8, 1)
        precisions = ("fp32", "bf16") if has_bf16() else ("fp32",)
        for precision in precisions:
            config = replace(CONFIG, precision=precision)
            sample(f"VGG-16 from conv5_1, {precision}, 480x640", config, netvlad("vgg16", few), few, counted)
        town = open_dataset(make_town(folder / "town", photos=240, size=(120, 160), workers=2) / "train")
        config = replace(CONFIG, train_from="layer3.1")
        both(
            "ResNet-18 from layer3.1, fp32, 120x160", config, netvlad("resnet18", town), town, folder / "res"
        )
        if given.full:
            large = places(folder / "large", LARGE)
            if given.device:
                vgg.to(given.device)
            for precision in ("fp32", "bf16"):
                config = replace(CONFIG, precision=precision)
                both(f"VGG-16, {precision}, 480x640", config, vgg, large, folder / precision)


if __name__ == "__main__":
    main()
