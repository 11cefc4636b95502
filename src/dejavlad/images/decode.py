"""One image file to upright RGB uint8: its orientation, its colours, its depth.

Grey becomes three equal channels; what has more than 8 bits is brought to 8 (see `levels`); a palette and
CMYK are converted (colour profiles are not applied); what is transparent is laid over black; of an animation
the first picture counts. JPEG is decoded by libjpeg-turbo with its defaults, as MATLAB and the original ports
do; with ``rotate=False`` pixels come as stored, as in MATLAB (HEIC's always upright).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from dejavlad.decoders import colours_of_16_bits, depth_of, open_image
from dejavlad.errors import PhotoError
from dejavlad.images.levels import Levels, to_eight_bits
from dejavlad.memory import free_memory
from dejavlad.positions.exif import orientation_of

Pixels = NDArray[np.uint8]
Size = tuple[int, int]

LARGE, BYTES = 50_000_000, 12
"""Photos of more pixels are decoded only where that much memory a pixel is free, one after the other."""
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a photo of each EXIF orientation upright."""
BACK = TURNS | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
"""What turns an upright photo back to how its pixels are stored, by EXIF orientation."""
_one_large_photo = threading.Lock()


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened photo, 1 to 8; 1 where it has none."""
    if image.format == "PNG" and "exif" not in image.info and "Raw profile type exif" not in image.info:
        return 1  # Pillow would decode all of it, to look behind the pixels
    try:
        return orientation_of(image.getexif())
    except Exception:  # garbage in the tags is no reason to lose the photo
        return 1


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the pixels as stored."""
    if isinstance(image, TiffImageFile):  # of which newer versions of Pillow tell the upright size
        width, height = (
            int(image.tag_v2[tag]) for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)
        )
        return width, height
    return image.size


def shown_size(image: Image.Image, orientation: int) -> Size:
    """Height and width once it is turned."""
    width, height = _stored_size(image)
    return (width, height) if orientation >= 5 else (height, width)


def decode(
    path: Path, rotate: bool, levels: Levels, wanted: Callable[[int, int], Size] | None = None
) -> tuple[Pixels, Size]:
    """The pixels of a file, and the size of all of it.

    Args:
        path: the file.
        rotate: turn it upright.
        levels: how more than 8 bits become 8.
        wanted: (H, W) of the whole photo -> (h, w) that suffice, for a JPEG; None for all of it.

    Raises:
        PhotoError: it is no image, damaged, or too large for the free memory.
    """
    with open_image(path) as image:
        orientation = exif_orientation(image)
        size = shown_size(image, orientation if rotate else 1)
        if wanted is not None and isinstance(image, JpegImageFile):
            height, width = wanted(*size)
            is_turned = rotate and orientation >= 5
            image.draft(None, (height, width) if is_turned else (width, height))
        if image.width * image.height <= LARGE:
            return _turned(image, path, orientation, rotate, levels), size
        with _one_large_photo:
            needed, free = BYTES * image.width * image.height, free_memory()
            if free is not None and needed > free:
                needs = f"its {image.width}x{image.height} pixels need {needed / 1e9:.1f} GB of memory"
                raise PhotoError(path, f"{needs} and {free / 1e9:.1f} GB are free; make a smaller copy of it")
            return _turned(image, path, orientation, rotate, levels), size


def _turned(image: Image.Image, path: Path, orientation: int, rotate: bool, levels: Levels) -> Pixels:
    rgb = _to_rgb(image, path, levels)
    if not isinstance(image, TiffImageFile):
        turn = TURNS.get(orientation) if rotate else None
    else:  # Pillow has turned it already
        turn = None if rotate else BACK.get(orientation)
    return np.array(rgb if turn is None else rgb.transpose(turn))


def _to_rgb(image: Image.Image, path: Path, levels: Levels) -> Image.Image:
    deep = deep_values(image, path)  # before its pixels are loaded: how they are stored is forgotten then
    image.load()
    if deep is not None:
        values, top = deep
        if values.ndim == 3 and values.shape[2] == 4:
            seen, alpha = to_eight_bits(values[:, :, :3], levels, top), values[:, :, 3:]
            image = Image.fromarray(np.concatenate([seen, to_eight_bits(alpha, "upper", top)], axis=2))
        else:
            image = Image.fromarray(to_eight_bits(values, levels, top))
    if image.mode in TRANSPARENT or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, (0, 0, 0, 255)), clear).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def deep_values(image: Image.Image, path: Path) -> tuple[NDArray[Any], int | None] | None:
    """The numbers of what has more than 8 bits, and the largest that could be; None for the rest."""
    bits = depth_of(image)
    if bits is None:
        return None
    image.load()
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
            return values, None
        return values.astype(np.uint16), 65535
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16), 65535
    return colours_of_16_bits(path), 2**bits - 1
