"""Networks that others have trained and published: what each is made of, and how its file is read.

`families` tells from tensors which network they are; `names` lists those that are known by name. Names are
loaded when first used: the list needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.model.published.bodies import dino_of
    from dejavlad.model.published.families import recognise
    from dejavlad.model.published.filling import filled, make, random
    from dejavlad.model.published.opening import open_file, read_vocabulary, with_vocabulary
    from dejavlad.model.published.parts import Parts

_HOME: Final = {
    "Parts": "dejavlad.model.published.parts",
    "dino_of": "dejavlad.model.published.bodies",
    "filled": "dejavlad.model.published.filling",
    "make": "dejavlad.model.published.filling",
    "open_file": "dejavlad.model.published.opening",
    "random": "dejavlad.model.published.filling",
    "read_vocabulary": "dejavlad.model.published.opening",
    "recognise": "dejavlad.model.published.families",
    "with_vocabulary": "dejavlad.model.published.opening",
}

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


__getattr__ = lazy_names(__name__, _HOME)
