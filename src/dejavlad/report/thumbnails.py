"""Small pictures of photos: each lies once in the page's style sheet, however often it is shown.

A budget of bytes keeps the page small: a group of photos that would go beyond it is refused as a whole.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dejavlad.errors import PhotoError
from dejavlad.images import read_reduced
from dejavlad.photo import Photo

BUDGET = 12_000_000
"""Bytes that all thumbnails of a page take at most, as they stand in the page."""
QUALITY = 76
"""Of JPEG."""
THREADS = 4
"""Photos decoded at once."""
WIDEST, TALLEST = 2.2, 0.6
"""Width over height of what is shown; beyond it the middle of the photo is shown."""


def side_of(shown: int) -> int:
    """The longer side of thumbnails in pixels: larger where few photos are shown."""
    return 480 if shown <= 30 else 320


class Thumbnails:
    """The thumbnails of one page.

    Args:
        side: the longer side in pixels, at most.
        budget: bytes that all of them take at most.
        rotate: as the model reads photos: ``model.preprocess.rotate``.
    """

    def __init__(self, side: int = 320, budget: int = BUDGET, *, rotate: bool = True) -> None:
        self.side, self.left, self.rotate = side, budget, rotate
        self._classes: dict[Hashable, str | None] = {}
        self._rules: dict[str, str] = {}
        self._photos: list[Photo] = []  # keeps pixels alive, so that their ids stay theirs

    def admit(self, photos: Iterable[Photo]) -> bool:
        """Take photos in, unless they go beyond the budget: then none of them is taken.

        A photo that cannot be read is taken in as an empty tile.
        """
        new = {_identity(photo): photo for photo in photos if _identity(photo) not in self._classes}
        made = self._made(list(new.values()))
        fresh = {rule: None for rule in made if rule is not None and _name(rule) not in self._rules}
        cost = sum(len(rule) + 20 for rule in fresh)
        if cost > self.left:
            return False
        self.left -= cost
        self._photos += new.values()
        for identity, rule in zip(new, made, strict=True):
            self._classes[identity] = None if rule is None else _name(rule)
            if rule is not None:
                self._rules[_name(rule)] = rule
        return True

    def picture(self, photo: Photo) -> str | None:
        """The class of the style sheet that shows a photo; None where it was refused or cannot be read."""
        return self._classes.get(_identity(photo))

    def css(self) -> str:
        """The style rules that hold the pixels."""
        return "\n".join(f".{name}{rule}" for name, rule in self._rules.items())

    def _made(self, photos: list[Photo]) -> list[str | None]:
        """The rules of photos; frames one after the other, as a video is read in order."""
        in_order = sorted(photos, key=lambda photo: (str(photo.path), photo.frame or 0))
        frames = [photo for photo in in_order if photo.frame is not None and photo.pixels is None]
        rules = {id(photo): self._make(photo) for photo in frames}
        rest = [photo for photo in photos if id(photo) not in rules]
        with ThreadPoolExecutor(THREADS) as pool:
            rules |= {id(photo): rule for photo, rule in zip(rest, pool.map(self._make, rest), strict=True)}
        return [rules[id(photo)] for photo in photos]

    def _make(self, photo: Photo) -> str | None:
        try:
            jpeg, (height, width) = small_jpeg(
                photo, self.side, rotate=self.rotate, quality=QUALITY, optimize=True
            )
        except PhotoError:
            return None
        aspect = min(max(width / height, TALLEST), WIDEST)
        return (
            f"{{aspect-ratio:{aspect:.3f};"
            f"background-image:url(data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')})}}"
        )


def _identity(photo: Photo) -> Hashable:
    if photo.pixels is not None:
        return id(photo.pixels), photo.part
    return str(photo.path), photo.part


def _name(rule: str) -> str:
    """A class named after the picture: equal pictures lie in the page once."""
    return "p" + hashlib.sha256(rule.encode()).hexdigest()[:12]


def small_jpeg(
    photo: Photo, side: int, *, rotate: bool = True, **options: Any
) -> tuple[bytes, tuple[int, int]]:
    """A photo as a JPEG of at most so many pixels on the longer side, and its own height and width.

    Args:
        photo: its pixels or file.
        side: of the JPEG.
        rotate: as the model reads photos.
        options: of the writer, as ``quality``.

    Raises:
        PhotoError: it cannot be read.
    """
    from PIL import Image

    def wanted(height: int, width: int) -> tuple[int, int]:
        """Twice the pixels that are shown, so that decoding at a smaller scale is not seen."""
        scale = 2 * side / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    pixels, size = read_reduced(photo, wanted, rotate=rotate)
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue(), size
