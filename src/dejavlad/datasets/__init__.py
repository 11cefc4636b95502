"""Where photos are and what counts as right; free of any model. Photos are never moved or renamed."""

from __future__ import annotations

from dejavlad.datasets.folder import folder_photos
from dejavlad.datasets.info import DatasetInfo, dataset_info, photos_info
from dejavlad.datasets.listing import listed_photos, write_list
from dejavlad.datasets.place import PlaceDataset
from dejavlad.datasets.positions import with_positions
from dejavlad.datasets.registry import DATASETS, open_dataset, photos
from dejavlad.datasets.relevance import (
    Truth,
    leave_one_out,
    parse_truth,
    truth_frames,
    truth_positions,
    truth_same_name,
    truth_text,
)
from dejavlad.datasets.row_sets import RowSets
from dejavlad.datasets.video import video_photos

__all__ = [
    "DATASETS",
    "DatasetInfo",
    "PlaceDataset",
    "RowSets",
    "Truth",
    "dataset_info",
    "folder_photos",
    "leave_one_out",
    "listed_photos",
    "open_dataset",
    "parse_truth",
    "photos",
    "photos_info",
    "truth_frames",
    "truth_positions",
    "truth_same_name",
    "truth_text",
    "video_photos",
    "with_positions",
    "write_list",
]
