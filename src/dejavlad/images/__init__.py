"""Photos to arrays: reading, preprocessing, and loading in order, by batches of one size."""

from dejavlad.images.content import Content, measure_content
from dejavlad.images.levels import Levels, parse_levels
from dejavlad.images.loader import Batch, load_batches, plan_batches, prepared_size
from dejavlad.images.preprocess import PREPROCESSING, Preprocess, parse_resize
from dejavlad.images.read import blank_reason, read_content, read_image, read_reduced, read_size, read_stretch

__all__ = [
    "PREPROCESSING",
    "Batch",
    "Content",
    "Levels",
    "Preprocess",
    "blank_reason",
    "load_batches",
    "measure_content",
    "parse_levels",
    "parse_resize",
    "plan_batches",
    "prepared_size",
    "read_content",
    "read_image",
    "read_reduced",
    "read_size",
    "read_stretch",
]
