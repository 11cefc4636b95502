"""What makes local features of photos, and the one loop from photos to their features.

Shapes: N photos, P points, D numbers a descriptor, H x W pixels of prepared photos.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import PhotoError
from dejavlad.images import Preprocess, load_batches, plan_batches, read_size
from dejavlad.local_features import LocalFeatures
from dejavlad.photo import Photo
from dejavlad.progress import OnProgress, Progress, silent

DESCRIBING = "finding local features"
"""The name of the task in reports of progress."""
LONGEST = 640
"""Pixels of the longer side of prepared photos, unless another number is given."""
POINTS = 1024
"""Points kept of a photo, unless another number is given."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DetectedPoints:
    """Points of one prepared photo."""

    keypoints: Floats
    """float32 [P, 2]: x and y in pixels of the prepared photo, (0, 0) the centre of its first pixel."""
    descriptors: Floats
    """float32 [P, D], of unit length."""
    scores: Floats
    """float32 [P]: how sure each point is, on a scale of the kind, descending."""


class LocalExtractor(Protocol):
    """Makes local features of prepared photos."""

    kind: str
    """Its name in `dejavlad.local.EXTRACTORS`."""
    dims: int
    """D, numbers in the descriptor of a point."""
    points: int
    """Points kept of a photo, at most."""
    longest: int
    """Pixels of the longer side of prepared photos."""

    def __call__(self, images_NCHW: Floats) -> list[DetectedPoints]:
        """The points of each photo.

        Args:
            images_NCHW: float32 [N, 3, H, W], RGB from 0 to 1, of any size.
        """
        ...


def describe_local(
    extractor: LocalExtractor,
    photos: Sequence[Photo],
    *,
    batch_size: int = 4,
    workers: int = 0,
    on_progress: OnProgress = silent,
) -> Iterator[tuple[int, LocalFeatures | PhotoError]]:
    """Local features of photos, batch by batch.

    Photos of one size go together; a photo that cannot be read comes with its reason, and the rest go on.

    Args:
        extractor: what makes them.
        photos: the list.
        batch_size: photos that go through a network together, at most.
        workers: threads that decode; what comes does not depend on it.
        on_progress: called with reports of each batch.

    Yields:
        A row of the list, and its features or why it has none; each row once.
    """
    preprocess = Preprocess(resize=f"longest:{extractor.longest}", reduce=True)
    full: list[tuple[int, int]] = []
    sizes: list[tuple[int, int] | None] = []
    done = 0
    for row, photo in enumerate(photos):
        try:
            full.append(read_size(photo))
            sizes.append(preprocess.output_size(*full[-1]))
        except PhotoError as error:
            full.append((1, 1))
            sizes.append(None)
            done += 1
            yield row, error
    plan = plan_batches(sizes, batch_size)
    loaded = load_batches(photos, plan, preprocess, workers=workers, sizes=sizes, keep_blank=True)
    for batch in loaded:  # of a photo that shows nothing come no features, and that says it
        detected = extractor(batch.images)
        for row, points in zip(batch.rows.tolist(), detected, strict=True):
            if row in batch.failed:
                yield row, batch.failed[row]
            else:
                yield row, _at_full_size(points, full[row], sizes[row] or full[row], extractor.kind)
        done += len(batch.rows)
        on_progress(Progress(DESCRIBING, done, len(photos)))


def local_features(
    extractor: LocalExtractor, photos: Sequence[Photo], *, batch_size: int = 4, workers: int = 0
) -> list[LocalFeatures]:
    """As `describe_local`, in the order of the list.

    Raises:
        PhotoError: a photo cannot be read.
    """
    features_by_row: dict[int, LocalFeatures] = {}
    for row, features in describe_local(extractor, photos, batch_size=batch_size, workers=workers):
        if isinstance(features, PhotoError):
            raise features
        features_by_row[row] = features
    return [features_by_row[row] for row in range(len(photos))]


def _at_full_size(
    points: DetectedPoints, full: tuple[int, int], prepared: tuple[int, int], kind: str
) -> LocalFeatures:
    """Points in pixels of the photo: borders lie on each other, not the first pixels' centres."""
    by = np.array([full[1] / prepared[1], full[0] / prepared[0]], np.float32)
    keypoints = (points.keypoints + 0.5) * by - 0.5
    return LocalFeatures(keypoints, points.descriptors, points.scores, full, kind)
