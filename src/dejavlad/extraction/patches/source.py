"""Where re-ranking takes patches from besides the store: made when they are asked for, held in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from dejavlad.errors import BlankPhotoError, InputError, PhotoError
from dejavlad.model import PatchSetting, PlaceModel
from dejavlad.patches import PatchSet
from dejavlad.photo import PhotoList

Patches = Sequence[PatchSet]
HELD = 2 << 30
"""Bytes of patches that are held in memory, at most."""


class FreshPatches:
    """Patches made when they are asked for: no disk, and the network once for each photo that is compared.

    Args:
        photos: by row.

    Raises:
        InputError: the model makes no such patches.
    """

    def __init__(self, model: PlaceModel, photos: PhotoList, patches: PatchSetting) -> None:
        model.patch_layer(patches)
        self.model, self.photos, self.setting = model, photos, patches

    def __call__(self, row: int) -> Patches:
        """The patches of a row; none where the photo has too few cells for a patch, or shows nothing.

        Raises:
            PhotoError: the photo cannot be read.
        """
        setting = self.setting
        try:
            return self.model.encode_patches(
                self.photos[row], sizes=setting.sizes, strides=setting.strides, dims=setting.dims
            )[0]
        except InputError as error:
            if isinstance(error, PhotoError) and not isinstance(error, BlankPhotoError):
                raise
            return []


class Cached:
    """A source that holds what was asked for last, within a budget of bytes.

    Args:
        source: patches by row.
        budget: bytes held, at most; what is asked for is given even where it alone is larger.
    """

    def __init__(self, source: Callable[[int], Patches], budget: int = HELD) -> None:
        self.source, self.budget = source, budget
        self._cached: OrderedDict[int, Patches] = OrderedDict()
        self._bytes = 0

    def __call__(self, row: int) -> Patches:
        """The patches of a row."""
        if row in self._cached:
            self._cached.move_to_end(row)
            return self._cached[row]
        patches = self.source(row)
        self._cached[row] = patches
        self._bytes += _bytes(patches)
        while self._bytes > self.budget and len(self._cached) > 1:
            _, oldest = self._cached.popitem(last=False)
            self._bytes -= _bytes(oldest)
        return patches


def _bytes(patches: Patches) -> int:
    return sum(patch_set.descriptors.nbytes + patch_set.centres.nbytes for patch_set in patches)
