"""The model that training begins with: its pooling as the options say, its clusters set, no whitening."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dejavlad import aggregation
from dejavlad.errors import InputError
from dejavlad.fitting.initialise import initialise
from dejavlad.ground_truth import PlaceDataset
from dejavlad.model import PlaceModel
from dejavlad.progress import OnProgress, silent
from dejavlad.training.config.method import parse_method
from dejavlad.training.config.options import TrainConfig
from dejavlad.zoo import load_model

FIRST_PHOTOS = 500
"""Photos from which the original learns clusters."""
FROM_FILE = {"caffenet": "imagenet-caffe-ref.mat, or another CaffeNet of MatConvNet"}
"""Networks whose weights must be given, and as what."""


def initial_model(
    config: TrainConfig, init: str | Path | None = None, *, on_progress: OnProgress = silent, **options: Any
) -> PlaceModel:
    """The model that the options name, or `init`; not yet prepared (see `prepare`).

    Args:
        config: see its ``network`` and ``method``.
        init: any model, by name, folder or file, to begin with instead.
        on_progress: called with each step of a download.
        **options: of `load_model`; photos keep their size and it computes on the processor, unless given.

    Raises:
        InputError: the network's weights must be given and are not, or no such model.
        DejavladError: the model cannot be loaded.
    """
    if init is not None:
        return load_model(init, on_progress=on_progress, **{"device": "cpu", **options})
    if config.network in FROM_FILE:
        raise InputError(
            f"the weights of {config.network} must be given: --init FILE ({FROM_FILE[config.network]})"
        )
    parsed = parse_method(config.method)
    pooling = "netvlad" if parsed is None else parsed[0].removesuffix("_linear")  # `prepare` adds the layer
    options = {"device": "cpu", **options, "resize": options.get("resize") or "none"}
    return load_model(f"{config.network}-{pooling}", on_progress=on_progress, **options)


def prepare(
    model: PlaceModel, config: TrainConfig, dataset: PlaceDataset, *, on_progress: OnProgress = silent
) -> PlaceModel:
    """A copy of a model that can be trained: with the pooling of the options, fitted, without whitening.

    Clusters are learnt from the database's photos, where the model has none yet or its pooling is another.

    Raises:
        InputError: clusters cannot be learnt from the photos.
    """
    whitened = {} if model.whitening is None else {"whitening_set_aside": model.whitening.dims}
    bare = copy.deepcopy(model).with_dims(None).with_whitening(None, **whitened)
    parsed = _sized(config)
    if config.resize:
        bare = bare.with_preprocess(replace(bare.preprocess, resize=config.resize))
    if parsed is not None and not _has_pooling(bare, *parsed):
        name, options = parsed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            layer = aggregation.create(name, bare.aggregation.dim, **options)
        bare = bare.with_aggregation(layer)
    if bare.aggregation.needs_training:
        bare.fitted = True  # what it lacks, if anything, is this training
    if not bare.fitted:
        photos = dataset.database
        if config.parity or config.cluster_photos == "first":
            photos = photos[:FIRST_PHOTOS]
        bare = initialise(bare, photos, seed=config.seed, workers=config.workers, on_progress=on_progress)
    bare.provenance = {**bare.provenance, "trained_on": dataset.name, "method": config.method}
    return bare.eval()


def _sized(config: TrainConfig) -> tuple[str, dict[str, Any]] | None:
    """The options' pooling, with as many clusters or numbers as they say; None keeps the model's own."""
    parsed = parse_method(config.method)
    if parsed is None:
        return None
    name, options = parsed
    sizes = {"clusters": config.clusters, "dims": config.dims}
    return name, {key: sizes.get(key, value) for key, value in options.items()}


def _has_pooling(model: PlaceModel, name: str, options: Mapping[str, Any]) -> bool:
    """Whether a model's pooling is that already; one that is fitted keeps its number of clusters."""
    existing = {"normalize_input": False, **model.aggregation.options}
    wanted = {"normalize_input": False, **options}
    if model.fitted:
        wanted.pop("clusters", None)
    return model.aggregation.name == name and all(existing.get(key) == wanted[key] for key in wanted)
