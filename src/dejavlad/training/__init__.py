"""Learning descriptors from photos with rough positions: weakly supervised training (NetVLAD)."""

from dejavlad.training.config import TrainConfig
from dejavlad.training.recipes import list_recipes, load_recipe
from dejavlad.training.runs import Run, resolve
from dejavlad.training.start import starting_model
from dejavlad.training.trainer import train

__all__ = ["Run", "TrainConfig", "list_recipes", "load_recipe", "resolve", "starting_model", "train"]
