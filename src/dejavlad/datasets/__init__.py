"""Where photos are and what counts as right; free of any model. Photos are never moved or renamed."""

from __future__ import annotations

from dejavlad.datasets.folder import folder_photos
from dejavlad.datasets.info import DatasetInfo, dataset_info, photos_info
from dejavlad.datasets.listing import listed_photos, paths_below, write_list, write_names
from dejavlad.datasets.msls import open_msls
from dejavlad.datasets.netvlad_spec import NetvladSpec, read_netvlad_spec
from dejavlad.datasets.place import PlaceDataset
from dejavlad.datasets.positions import with_positions
from dejavlad.datasets.registry import DATASETS, is_dataset, joined, open_dataset, photos, placed_again
from dejavlad.datasets.relevance import (
    Truth,
    groups_of,
    leave_one_out,
    parse_truth,
    truth_file,
    truth_frames,
    truth_positions,
    truth_same_name,
)
from dejavlad.datasets.row_sets import RowSets
from dejavlad.datasets.truth_npz import TruthPositions, read_truth_npz, write_truth_npz
from dejavlad.datasets.truth_rules import (
    Listed,
    SameName,
    TruthRule,
    WithinFrames,
    WithinMetres,
    truth_text,
)
from dejavlad.datasets.video import video_photos

__all__ = [
    "DATASETS",
    "DatasetInfo",
    "Listed",
    "NetvladSpec",
    "PlaceDataset",
    "RowSets",
    "SameName",
    "Truth",
    "TruthPositions",
    "TruthRule",
    "WithinFrames",
    "WithinMetres",
    "dataset_info",
    "folder_photos",
    "groups_of",
    "is_dataset",
    "joined",
    "leave_one_out",
    "listed_photos",
    "open_dataset",
    "open_msls",
    "parse_truth",
    "paths_below",
    "photos",
    "photos_info",
    "placed_again",
    "read_netvlad_spec",
    "read_truth_npz",
    "truth_file",
    "truth_frames",
    "truth_positions",
    "truth_same_name",
    "truth_text",
    "video_photos",
    "with_positions",
    "write_list",
    "write_names",
    "write_truth_npz",
]
