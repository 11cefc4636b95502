"""Datasets by name or path: their photos, their ground truth, and what is published about them."""

from __future__ import annotations

from dejavlad.datasets.info import DatasetInfo, dataset_info, photos_info
from dejavlad.datasets.layouts.msls import open_msls
from dejavlad.datasets.layouts.two_folders import holds_two, open_one_folder
from dejavlad.datasets.registry import (
    DATASETS,
    is_dataset,
    joined,
    open_dataset,
    photo_lists,
    photos,
    placed_again,
)

__all__ = [
    "DATASETS",
    "DatasetInfo",
    "dataset_info",
    "holds_two",
    "is_dataset",
    "joined",
    "open_dataset",
    "open_msls",
    "open_one_folder",
    "photo_lists",
    "photos",
    "photos_info",
    "placed_again",
]
