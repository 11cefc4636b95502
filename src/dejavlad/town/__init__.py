"""A made town: streets that never were, photographed on several drives, to try and to teach models on."""

from __future__ import annotations

from dejavlad.town.make import contact_sheet, make_town

__all__ = ["contact_sheet", "make_town"]
