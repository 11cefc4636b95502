"""Patches as Patch-NetVLAD keeps them: ``globalfeats.npy`` and ``patchfeats_psize{p}_{stem}.npy`` [D, P].

The original knows a photo by its file's name alone, so that photos of one name in two folders overwrite each
other's patches; here that is refused. ``images.txt`` beside them tells the photos in the order of the rows.

Legend: N photos, P patches of one size, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from dejavlad.aggregation import patch_centres
from dejavlad.backbones.base import Geometry
from dejavlad.errors import InputError, StoreError
from dejavlad.extraction.patches.store import PatchStore
from dejavlad.extraction.store import DescriptorStore
from dejavlad.guarded.npy_file import map_npy, read_npy
from dejavlad.patches import PatchSet
from dejavlad.photo.disk_names import DiskNames
from dejavlad.photo.listing import lines_of, read_text, write_names
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.storage import write_npy

VGG = Geometry(stride=16, offset=7.5)
"""Where the cells of the original's VGG-16 lie."""


def write_patchfeats(
    store: DescriptorStore, patches: PatchStore, folder: str | Path, *, on_progress: OnProgress = silent
) -> Path:
    """Write descriptors and patches as the original's ``feature_extract.py`` does, and ``images.txt``.

    Args:
        store: descriptors of all photos, in order.
        folder: made if need be; files of these names are replaced.

    Raises:
        InputError: two photos have one stem, or one has no descriptor or no patches.
    """
    folder = Path(folder)
    stems = _stems(store.keys)
    lacking = [
        key for key, done in zip(store.keys, store.done, strict=True) if not done or key not in patches
    ]
    if lacking:
        raise InputError(
            f"{len(lacking)} photos have no descriptor or no patches, the first is {lacking[0]!r}; the "
            "original's files know no gaps: leave those photos out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for row, (key, stem) in enumerate(zip(store.keys, stems, strict=True)):
        for patch_set in patches.patches(key):
            columns_DP = np.ascontiguousarray(patch_set.descriptors.float().numpy().T)
            write_npy(folder / f"patchfeats_psize{patch_set.size}_{stem}.npy", columns_DP)
        on_progress(Progress("writing patches", row + 1, len(stems)))
    write_names(store.keys, folder / "images.txt")
    write_npy(folder / "globalfeats.npy", store.float32())
    return folder


class PatchFeats:
    """The patches of a folder that the original wrote, by row.

    Args:
        folder: with ``patchfeats_psize{p}_{stem}.npy`` in it.
        keys: the photo of each row.
        photo: (height, width) to which photos were brought before the network.

    Raises:
        InputError: two photos have one stem.
        StoreError: the first photo's patches are not there.
    """

    def __init__(
        self, folder: Path, keys: Sequence[str], sizes: Sequence[int], photo: tuple[int, int] = (480, 640)
    ) -> None:
        self.folder, self.stems, self.photo = folder, _stems(keys), photo
        self._disk = DiskNames(folder)
        self.sizes, self.strides = tuple(sizes), (1,) * len(sizes)
        for size in self.sizes:
            if self.stems and not self._path(size, self.stems[0]).is_file():
                raise StoreError(
                    f"there is no {self._path(size, self.stems[0]).name!r} in {str(folder)!r}; are the list "
                    f"and the sizes {list(self.sizes)} those that were extracted?"
                )

    def __call__(self, row: int) -> list[PatchSet]:
        """The patches of a row.

        Raises:
            StoreError: a file is missing, damaged, or of another photo size.
        """
        patch_sets = []
        for size in self.sizes:
            path = self._path(size, self.stems[row])
            rows, columns = (side // VGG.stride - size + 1 for side in self.photo)
            try:
                columns_DP = read_npy(path)
            except (OSError, ValueError) as error:
                raise StoreError(f"cannot read the patches in {str(path)!r}: {error}") from error
            if columns_DP.ndim != 2 or columns_DP.shape[1] != rows * columns:
                raise StoreError(
                    f"{str(path)!r} holds {list(columns_DP.shape)}; a photo of "
                    f"{self.photo[0]}x{self.photo[1]} has {rows * columns} patches of {size}x{size}: tell "
                    "the size that photos had (--resize HxW)"
                )
            rows_PD = torch.from_numpy(np.array(columns_DP.T, np.float32, order="C"))
            grid = rows, columns
            patch_sets.append(
                PatchSet(rows_PD, patch_centres(grid, size, 1, VGG), grid, size, float(VGG.stride))
            )
        return patch_sets

    def _path(self, size: int, stem: str) -> Path:
        name = f"patchfeats_psize{size}_{stem}.npy"
        return self.folder / (name if name.isascii() else self._disk.find(name) or name)


def read_patchfeats(
    folder: str | Path, sizes: Sequence[int] = (), *, photo: tuple[int, int] = (480, 640)
) -> tuple[DescriptorStore, PatchFeats]:
    """Descriptors and patches of a folder that the original, or `write_patchfeats`, wrote.

    Args:
        folder: with ``globalfeats.npy``, the patches, and ``images.txt``: the list that was extracted.
        sizes: which sizes to read; all that are there, ascending, unless given.
        photo: (height, width) to which photos were brought before the network.

    Raises:
        StoreError: something is missing, damaged or does not fit.
        InputError: two photos have one stem.
    """
    folder = Path(folder)
    if not (folder / "globalfeats.npy").is_file():
        raise StoreError(f"there is no globalfeats.npy in {str(folder)!r}")
    if not (folder / "images.txt").is_file():
        raise StoreError(
            f"{str(folder)!r} does not tell its photos; put the list that was extracted beside its files as "
            "images.txt, a name a line"
        )
    try:
        lines = lines_of(read_text(folder / "images.txt"))
        names = [line.strip().replace("\\", "/") for line in lines if line.strip()]
        rows_ND = map_npy(folder / "globalfeats.npy")
    except (OSError, ValueError) as error:
        raise StoreError(f"the files of {str(folder)!r} cannot be read: {error}") from error
    if rows_ND.ndim != 2 or len(rows_ND) != len(names):
        raise StoreError(
            f"{str(folder)!r}: images.txt tells {len(names)} photos, globalfeats.npy {list(rows_ND.shape)}"
        )
    sizes_on_disk = {
        int(path.name[len("patchfeats_psize") :].split("_")[0])
        for path in folder.glob("patchfeats_psize*_*.npy")
    }
    store = DescriptorStore.from_arrays(rows_ND, names, model="Patch-NetVLAD's files", path=folder)
    return store, PatchFeats(folder, names, tuple(sizes) or tuple(sorted(sizes_on_disk)), photo)


def _stems(keys: Sequence[str]) -> list[str]:
    stems = [PurePosixPath(key).stem for key in keys]
    first: dict[str, str] = {}
    for key, stem in zip(keys, stems, strict=True):
        if first.setdefault(stem, key) != key:
            raise InputError(
                f"{first[stem]!r} and {key!r} have one stem, and would overwrite each other's patches in the "
                "original's files; give photos whose names differ"
            )
    return stems
