"""Networks that others have trained and published: what each is made of, and how its file is read.

`families` tells from tensors which network they are; `names` lists those that are known by name. Names are
loaded when first used: the list needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.model.published.bodies import dino_of as dino_of
    from dejavlad.model.published.families import recognise as recognise
    from dejavlad.model.published.filling import filled as filled
    from dejavlad.model.published.filling import make as make
    from dejavlad.model.published.filling import random as random
    from dejavlad.model.published.opening import open_file as open_file
    from dejavlad.model.published.opening import read_vocabulary as read_vocabulary
    from dejavlad.model.published.opening import with_vocabulary as with_vocabulary
    from dejavlad.model.published.parts import Parts as Parts

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "bodies": ("dino_of",),
        "families": ("recognise",),
        "filling": ("filled", "make", "random"),
        "opening": ("open_file", "read_vocabulary", "with_vocabulary"),
        "parts": ("Parts",),
    },
)
