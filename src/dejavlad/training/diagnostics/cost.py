"""What a training will take, before it begins: memory and time, measured on one small batch of noise."""

from __future__ import annotations

import contextlib
import copy
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from dejavlad.errors import PhotoError
from dejavlad.ground_truth import PlaceDataset
from dejavlad.images import prepared_size
from dejavlad.model import PlaceModel
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.sampling.classes import group_classes, with_focal_views
from dejavlad.training.sampling.places import PlaceSampler
from dejavlad.training.steps.network import Network

SIDE = 224
"""Of the noise, where the photos' size is not fixed and none can be read."""
PHOTOS = 2
"""In the batch that is measured."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimates; photos on disk, caches and the framework itself come on top."""

    learnt: int
    """Numbers that learn."""
    memory_gb: float
    """Weights, gradients, the optimiser's state and the activations of a step, in 1e9 bytes."""
    step_seconds: float
    """Of a step on this machine."""
    hours: float
    """Of all steps on this machine, without the describing of photos for mining and tests."""
    steps: int
    """In all epochs."""
    photos: int
    """Of a step."""
    size: tuple[int, int]
    """Height and width of a prepared photo."""

    def __str__(self) -> str:
        hours = f"{self.hours:.1f} hours" if self.hours >= 1 else f"{60 * self.hours:.1f} minutes"
        return (
            f"an estimate: {self.learnt:,} numbers learn; {self.steps:,} steps of {self.photos} photos of "
            f"{self.size[0]}x{self.size[1]} take about {self.memory_gb:.2g} GB and, at "
            f"{self.step_seconds:.2g} s a step here, {hours} (photos_at_once bounds the memory)"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def estimate_cost(model: PlaceModel, dataset: PlaceDataset, config: TrainConfig) -> Cost:
    """Measure one small step of a copy of the model, and reckon from it.

    Args:
        model: what training begins with, prepared (`initial_model.prepare`) or not; it is not changed.
        dataset: how many photos, and how large the first is.
        config: all options.
    """
    dataset = with_focal_views(dataset, config)
    bare = copy.deepcopy(model).with_dims(None).with_whitening(None)
    bare.fitted = True  # clusters that are not learnt yet cost the same
    network = Network(bare, config)
    height, width = _size(model, dataset)
    images = torch.rand(PHOTOS, 3, height, width, generator=torch.Generator().manual_seed(0))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    own = {tensor.untyped_storage().data_ptr() for tensor in network.model.state_dict().values()}
    seconds = []
    with network.learning([config.seed]):
        for _ in range(2):  # the first is slower
            kept.clear()
            started = time.perf_counter()
            features = network.features(images)
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                rows_ND = network.describe(features)
                loss = rows_ND.square().sum() * rows_ND.sum()
            loss.backward()  # type: ignore[no-untyped-call]
            seconds.append(time.perf_counter() - started)
    activations = sum(size for pointer, size in kept.items() if pointer not in own) / PHOTOS
    photos = config.step_photos
    at_once = min(photos, config.photos_at_once)
    learnt = sum(parameter.numel() for parameter in network.learnt.values())
    states = {"sgd": 1, "adam": 2, "adamw": 2}[config.optimizer]
    weights = sum(tensor.nbytes for tensor in network.model.state_dict().values())
    step = min(seconds) / PHOTOS * photos * (1.33 if photos > at_once else 1)
    steps = config.epochs * _steps(dataset, config)
    classifiers = 16 * bare.descriptor_size * _most_classes(dataset, config)  # weights, gradients, Adam's two
    memory = weights + 4 * learnt * (1 + states) + activations * at_once + classifiers
    return Cost(learnt, memory / 1e9, step, steps * step / 3600, steps, photos, (height, width))


def _size(model: PlaceModel, dataset: PlaceDataset) -> tuple[int, int]:
    for photo in dataset.database[:20]:
        with contextlib.suppress(PhotoError):
            return prepared_size(photo, model.preprocess)
    return SIDE, SIDE


def _steps(dataset: PlaceDataset, config: TrainConfig) -> int:
    """About how many steps an epoch has."""
    if config.mining == "classes":
        return config.steps_per_epoch
    if config.mining != "places":
        return -(-len(dataset.queries) // config.batch_size)
    return PlaceSampler(dataset, config).n


def _most_classes(dataset: PlaceDataset, config: TrainConfig) -> int:
    """Classes of the largest group, where classes are learnt."""
    if config.mining != "classes":
        return 0
    return group_classes([*dataset.queries, *dataset.database], config, dataset.name).groups[0].n_classes
