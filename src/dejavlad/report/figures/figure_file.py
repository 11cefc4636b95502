"""The file of a figure: which forms it may have, and how it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image

from dejavlad.errors import InputError
from dejavlad.files import replacing

FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Ending of a figure's file -> format."""


def check_figure(path: str | Path) -> Path:
    """The path of a figure.

    Raises:
        InputError: its ending is none of `FORMATS`.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"a figure is written as {', '.join(FORMATS)}; given {path.name!r}: choose one of these endings"
        )
    return path


def save_figure(image: Image.Image, path: Path) -> Path:
    """Write a figure whole or not at all, making its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        image.save(file, FORMATS[path.suffix.lower()], quality=90, optimize=True)
    return path
