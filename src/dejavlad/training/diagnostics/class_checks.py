"""The doctor on classes: whether most photos are in one, and whether panoramas are taken for photos."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from dejavlad.errors import PhotoError
from dejavlad.ground_truth import PlaceDataset
from dejavlad.images import read_size
from dejavlad.photo import Photo
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.diagnostics.finding import Finding
from dejavlad.training.sampling.classes import Grouping, group_classes

LOOKED_AT = 8
"""Photos of which the size is read, to find out whether they are panoramas."""
MOST = 0.5
"""Share of the photos in no class, above which that is told."""


def check_classes(dataset: PlaceDataset, config: TrainConfig) -> list[Finding]:
    """How many photos are in no class, where classes are learnt.

    Raises:
        InputError: there are not enough classes.
    """
    if config.mining != "classes":
        return []
    photos = [*dataset.queries, *dataset.database]
    return look_at_classes(photos, group_classes(photos, config, dataset.name), config)


def look_at_classes(photos: Sequence[Photo], grouping: Grouping | None, config: TrainConfig) -> list[Finding]:
    """As `check_classes`, of classes that are made already; `grouping` is None where none are learnt."""
    if grouping is None:
        return []
    return [*_whole_panoramas(photos, config), *_in_no_class(grouping, config)]


def _whole_panoramas(photos: Sequence[Photo], config: TrainConfig) -> list[Finding]:
    if config.classes != "focal" or config.focal_views != "choose":
        return []
    sizes = []
    for row in range(0, len(photos), max(1, -(-len(photos) // LOOKED_AT))):
        with contextlib.suppress(PhotoError):
            sizes.append(read_size(photos[row]))
    if not sizes or not all(width >= 2 * height for height, width in sizes):
        return []
    height, width = sizes[0]
    return [
        Finding(
            "panoramas as they are",
            f"photos are twice as wide as high or wider (as {width}x{height}), and taken as they are",
            "a panorama looks everywhere, at any focal point",
            "If they are panoramas, have views cut of them: --set focal_views=cut",
        )
    ]


def _in_no_class(grouping: Grouping, config: TrainConfig) -> list[Finding]:
    if sum(grouping.left_out.values()) <= MOST * grouping.n_photos:
        return []
    counts = ", ".join(f"{count} {why}" for why, count in grouping.left_out.items())
    return [
        Finding(
            "photos in no class",
            f"of {grouping.n_photos} photos, {counts}",
            "they teach nothing",
            f"Larger squares (--set place_size={2 * config.place_size:g}) or smaller classes (--set "
            f"class_photos={max(2, config.class_photos // 2)}) take in more",
        )
    ]
