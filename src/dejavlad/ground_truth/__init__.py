"""What counts as a right answer: for each query the database photos of its place."""

from __future__ import annotations

from dejavlad.ground_truth.netvlad_spec import NetvladSpec, read_netvlad_spec
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.row_sets import RowSets
from dejavlad.ground_truth.rules import Listed, SameName, TruthRule, WithinFrames, WithinMetres, truth_text
from dejavlad.ground_truth.truth import (
    Truth,
    groups_of,
    leave_one_out,
    parse_truth,
    truth_file,
    truth_frames,
    truth_positions,
    truth_same_name,
)
from dejavlad.ground_truth.truth_npz import TruthPositions, read_truth_npz, write_truth_npz

__all__ = [
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
    "groups_of",
    "leave_one_out",
    "parse_truth",
    "read_netvlad_spec",
    "read_truth_npz",
    "truth_file",
    "truth_frames",
    "truth_positions",
    "truth_same_name",
    "truth_text",
    "write_truth_npz",
]
