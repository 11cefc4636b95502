"""A small town in memory and a small network, for tests of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dejavlad import aggregation, backbones
from dejavlad.backbones import CHAIN
from dejavlad.ground_truth import PlaceDataset
from dejavlad.images import Preprocess
from dejavlad.model import PlaceModel
from dejavlad.model.spec import BackboneSpec
from dejavlad.training import TrainConfig

LAYERS = [
    {"kind": "conv", "name": "conv1", "inputs": 3, "outputs": 6, "kernel": [3, 3], "stride": [2, 2]},
    {"kind": "relu", "name": "relu1"},
    {"kind": "max", "name": "pool1", "kernel": [2, 2], "stride": [2, 2]},
    {"kind": "conv", "name": "conv2", "inputs": 6, "outputs": 8, "kernel": [3, 3]},
    {"kind": "relu", "name": "relu2"},
    {"kind": "conv", "name": "conv3", "inputs": 8, "outputs": 8, "kernel": [3, 3]},
]
SMALL = TrainConfig(
    method="given",
    batch_size=2,
    negatives=8,
    negatives_used=3,
    negatives_remembered=3,
    epochs=2,
    learning_rate=0.01,
    lr_down_every=1,
    margin=0.3,
    refresh_every=4,
    save_every=4,
    recall_at=(1, 5),
    describe_batch=4,
    workers=0,
)


def small_model(pooling: str = "max", seed: int = 0, **options: object) -> PlaceModel:
    backbone = backbones.create(CHAIN, weights=f"random:{seed}", layers=LAYERS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = aggregation.create(pooling, 8, **options)
    source = BackboneSpec(CHAIN, options={"layers": LAYERS})
    return PlaceModel(backbone, layer, Preprocess(), name="small", source=source).eval()


def small_town(
    view: Callable[..., NDArray[np.uint8]], places: int = 8, first: int = 0, **options: object
) -> PlaceDataset:
    """Places 100 m apart, each with three photos, 3 m apart, and a query."""
    names, positions, images = [], [], []
    for place in range(places):
        for i in range(3):
            names.append(f"{first + place}-{i}")
            positions.append((100.0 * place, 3.0 * (i + 1)))
            images.append(view(first + place, 4 * (i + 1), 40, 56))
    return PlaceDataset.from_arrays(
        names,
        np.array(positions),
        [f"{first + place}-query" for place in range(places)],
        np.array([(100.0 * place, 0.0) for place in range(places)]),
        images=images,
        query_images=[view(first + place, 0, 40, 56) for place in range(places)],
        name=f"town{first}",
        **options,
    )


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    return SMALL


@pytest.fixture(scope="session")
def make_model() -> Callable[..., PlaceModel]:
    return small_model


@pytest.fixture(scope="session")
def make_town(make_view: Callable[..., NDArray[np.uint8]]) -> Callable[..., PlaceDataset]:
    return lambda *given, **options: small_town(make_view, *given, **options)


@pytest.fixture(scope="session")
def town(make_town: Callable[..., PlaceDataset]) -> PlaceDataset:
    return make_town()


@pytest.fixture(scope="session")
def town_val(make_town: Callable[..., PlaceDataset]) -> PlaceDataset:
    return make_town(6, 8)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"
