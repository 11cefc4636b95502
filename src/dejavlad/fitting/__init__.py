"""A model and photos to a fitted model: its clusters and its whitening, learnt from those photos."""

from dejavlad.fitting.fit import fit
from dejavlad.fitting.initialise import Samples, initialise, sample_features
from dejavlad.fitting.whiten import learn_whitening, learn_whitening_if_sound
from dejavlad.fitting.whiten_patches import learn_patch_whitening

__all__ = [
    "Samples",
    "fit",
    "initialise",
    "learn_patch_whitening",
    "learn_whitening",
    "learn_whitening_if_sound",
    "sample_features",
]
