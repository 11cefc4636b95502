"""Learning descriptors from photos with rough positions: weakly supervised training (NetVLAD)."""

from dejavlad.model.run_folder import resolve
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.config.recipes import list_recipes, load_recipe
from dejavlad.training.diagnostics.doctor import check
from dejavlad.training.diagnostics.finding import Finding
from dejavlad.training.run.initial_model import initial_model
from dejavlad.training.run.runs import Run
from dejavlad.training.trainer import train

__all__ = [
    "Finding",
    "Run",
    "TrainConfig",
    "check",
    "initial_model",
    "list_recipes",
    "load_recipe",
    "resolve",
    "train",
]
