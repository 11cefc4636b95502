"""Photos to arrays: reading, preprocessing, and loading in order, by batches of one size."""

from dejavlad.images.levels import Levels, parse_levels
from dejavlad.images.loader import Batch, load_batches, plan_batches
from dejavlad.images.preprocess import PREPROCESSING, Preprocess, parse_resize
from dejavlad.images.read import read_image, read_reduced, read_size, read_stretch

__all__ = [
    "PREPROCESSING",
    "Batch",
    "Levels",
    "Preprocess",
    "load_batches",
    "parse_levels",
    "parse_resize",
    "plan_batches",
    "read_image",
    "read_reduced",
    "read_size",
    "read_stretch",
]
