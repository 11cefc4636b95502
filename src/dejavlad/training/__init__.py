"""Learning descriptors from photos with rough positions: weakly supervised training (NetVLAD)."""

from dejavlad.training.config import TrainConfig
from dejavlad.training.doctor import check
from dejavlad.training.finding import Finding
from dejavlad.training.recipes import list_recipes, load_recipe
from dejavlad.training.runs import Run, resolve
from dejavlad.training.start import starting_model
from dejavlad.training.trainer import train

__all__ = [
    "Finding",
    "Run",
    "TrainConfig",
    "check",
    "list_recipes",
    "load_recipe",
    "resolve",
    "starting_model",
    "train",
]
