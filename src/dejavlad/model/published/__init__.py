"""Networks that others have trained and published: what each is made of, and how its file is read.

`families` tells from tensors which network they are; `names` lists those that are known by name.
"""

from dejavlad.model.published.bodies import dino_of
from dejavlad.model.published.families import recognise
from dejavlad.model.published.opening import open_file, read_vocabulary, with_vocabulary
from dejavlad.model.published.parts import Parts, filled, make, random

__all__ = [
    "Parts",
    "dino_of",
    "filled",
    "make",
    "open_file",
    "random",
    "read_vocabulary",
    "recognise",
    "with_vocabulary",
]
