"""A made town: streets that never were, photographed on several drives, to try and to teach models on."""

from __future__ import annotations

from dejavlad.town.make import make_town

__all__ = ["make_town"]
