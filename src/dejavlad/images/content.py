"""Does a photo show anything? A lens cap, a fade to black, a frame of fog and a burnt-out sky do not.

Such photos have descriptors all the same: all zero, or of the little that noise and a network's bias make of
nothing. They resemble everything alike, so that they become the nearest answer to whatever the others do not
match clearly. So they are recognised by pixels, before any network, and count as photos that could not be
described.

What is measured, on every n-th pixel of the grey photo (the mean of its channels, 0 to 255) without its
outermost fiftieth (a line around nothing is nothing), in square cells of `CELL` pixels or more:

- **structure**: how much cells differ from a smooth surface *together with their neighbours*: the square root
  of the mean product of neighbours, where that is at least `ALIKE` of the cells' variance. Noise of single
  pixels is not shared by neighbours, however strong; what was before the lens is, however dark. The surface,
  a polynomial, takes out gradients, fog and vignetting. Photos of a few grey levels (14 bits of heat in 16)
  have little of it, but a share of cells farther off the surface than rounding makes of a gradient;
- **spots**: how many cells differ from that surface by more than `SPOT`: lamps in the night. (A date stamp on
  a black frame has spots too, and counts as content: it is there to be seen.)
- **texture**: how much pixels differ within a cell (mean absolute difference, median over the cells): fine
  patterns without any larger form, as gravel; and noise that is far too strong for a sensor's.

A photo shows nothing if all three are small. Margins, on real photos of seven sources: structure is 0.77 or
more in each (17 or more but for two of bare walls), 0.88 or more at a twentieth of the exposure with noise
and rounding to 8 bits (bare walls excepted: these then show nothing), and 0.67 or more there at 64x48 pixels.
Noise of 2 to 10 grey levels, flat colours and gradients, through JPEG of quality 75 or more, have a structure
of at most 0.25, no spots, and a texture of at most 4. (A poorer JPEG makes bands of a smooth gradient, which
may count as content: rather one photo of fog too many than one of a place too few.)

Of photos smaller than `LEAST` nothing is said: they count as showing something.

Legend: H x W the photo's pixels, h x w those of the small grey copy, r x c cells, T terms of the surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEAST: Final = 16
"""Pixels of a side below which a photo is too small to be judged."""
SMALL: Final = 480
"""Pixels of the longer side of the small copy, where the photo has them; less than twice as many."""
CELLS: Final = 48
"""Cells along the longer side, at most."""
CELL: Final = 4
"""The least side of a cell, in pixels of the small copy."""
STRUCTURE, ALIKE = 0.35, 0.25
"""Grey levels of structure from which on a photo shows something, and the share of the cells' variance that
neighbours must share for that."""
FAINT, FAINT_SHARE, FAINT_ALIKE = 0.75, 0.005, 0.4
"""The same for photos of few grey levels: so many levels off the surface (more than rounding makes of a
gradient), in that share of the cells, of which neighbours share so much."""
SPOT: Final = 6.0
"""Grey levels off the smooth surface from which on a cell is a spot."""
SPOTS: Final = 3
"""Spots from which on a photo shows something."""
TEXTURE: Final = 9.0
"""Grey levels of texture from which on a photo shows something."""
DARK, BRIGHT = 16.0, 239.0
"""Mean grey levels up to which a photo that shows nothing is called black, and from which on white."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a photo shows, in figures (see the module)."""

    size: tuple[int, int]
    """Height and width in pixels."""
    level: float
    """Mean grey level, 0 to 255."""
    structure: float
    """Grey levels by which neighbouring cells differ together from a smooth surface."""
    alike: float
    """Share of the cells' variance that neighbours share, -1 to 1."""
    faint: float
    """Share of the cells that differ from a smooth surface by more than rounding makes, 0 to 1."""
    spots: int
    """Cells that differ from a smooth surface."""
    texture: float
    """Grey levels by which pixels differ within a cell."""

    @property
    def shows_anything(self) -> bool:
        """Whether it shows anything, or is too small to be judged."""
        if min(self.size) < LEAST:
            return True
        structured = self.structure >= STRUCTURE and self.alike >= ALIKE
        structured |= self.faint >= FAINT_SHARE and self.alike >= FAINT_ALIKE
        return structured or self.spots >= SPOTS or self.texture >= TEXTURE

    @property
    def reason(self) -> str:
        """What there is where nothing is shown, in words."""
        if self.level <= DARK:
            return "it is black"
        return "it is white" if self.level >= BRIGHT else "it is of one colour, or a smooth gradient"


def measure_content(rgb_HWC: NDArray[np.uint8]) -> Content:
    """How much a photo shows; takes 1 to 3 ms, whatever its size.

    Args:
        rgb_HWC: uint8 [H, W, 3].
    """
    step = max(1, max(rgb_HWC.shape[:2]) // SMALL)
    top, left = (min(step // 2, side - 1) for side in rgb_HWC.shape[:2])  # of a stripe, a line stays
    small = rgb_HWC[top::step, left::step]
    cut_y, cut_x = (max(1, side // 50) if side > 4 else 0 for side in small.shape[:2])
    small = small[cut_y : small.shape[0] - cut_y, cut_x : small.shape[1] - cut_x]
    red, green, blue = (small[..., channel].astype(np.float32) for channel in range(3))
    grey_hw = (red + green + blue) / np.float32(3)
    h, w = grey_hw.shape
    side = max(1, min(max(CELL, -(-max(h, w) // CELLS)), h // 4, w // 4))
    r, c = h // side, w // side
    pixels_rscs = grey_hw[: r * side, : c * side].reshape(r, side, c, side)
    cells_rc = pixels_rscs.mean(axis=(1, 3))
    texture_rc = np.abs(pixels_rscs - cells_rc[:, None, :, None]).mean(axis=(1, 3))
    rest_rc = _off_surface(cells_rc)
    pairs = (rest_rc[1:] * rest_rc[:-1]).ravel(), (rest_rc[:, 1:] * rest_rc[:, :-1]).ravel()
    shared = np.concatenate(pairs)
    common = float(shared.mean()) if len(shared) else 0.0
    variance = float((rest_rc**2).mean())
    return Content(
        size=(int(rgb_HWC.shape[0]), int(rgb_HWC.shape[1])),
        level=float(cells_rc.mean()),
        structure=max(common, 0.0) ** 0.5,
        alike=common / variance if variance > 1e-9 else 0.0,
        faint=float((np.abs(rest_rc) > FAINT).mean()),
        spots=int((np.abs(rest_rc) > SPOT).sum()),
        texture=float(np.median(texture_rc)),
    )


def _off_surface(cells_rc: NDArray[np.float32]) -> NDArray[np.float64]:
    """[r, c] how far cells are off the polynomial in x and y that fits them best."""
    basis_nT = _surface(*cells_rc.shape)
    cells_n = cells_rc.ravel().astype(np.float64)
    return np.asarray((cells_n - basis_nT @ (basis_nT.T @ cells_n)).reshape(cells_rc.shape))


@lru_cache(maxsize=32)
def _surface(r: int, c: int) -> NDArray[np.float64]:
    """[r * c, T] orthonormal polynomials: of degree 4 for many cells, 2 for few, 0 for a handful."""
    y, x = np.meshgrid(np.linspace(-1, 1, r), np.linspace(-1, 1, c), indexing="ij")
    degree = 4 if r * c >= 300 else 2 if r * c >= 16 else 0
    terms = [
        x.ravel() ** i * y.ravel() ** j
        for i in range(min(degree, c - 1) + 1)
        for j in range(min(degree - i, r - 1) + 1)
    ]
    return np.asarray(np.linalg.qr(np.stack(terms, axis=1))[0])
