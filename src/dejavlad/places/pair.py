"""Two photos compared patch by patch: how well they match, and where (Patch-NetVLAD, CVPR 2021).

Shapes: S patch sizes, M matches of one size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.fitting import fit, learn_patch_whitening
from dejavlad.images import blank_reason, read_size
from dejavlad.model import PatchSetting, PlaceModel
from dejavlad.patches import PatchSet
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.photo import as_photo
from dejavlad.progress import OnProgress, silent
from dejavlad.rerank import FUSIONS, PatchMatch, Reranker

WEIGHTS: Final[Mapping[tuple[int, ...], tuple[float, ...]]] = {(2, 5, 8): (0.45, 0.15, 0.4)}
"""Patch sizes -> what each counts, where the original says so; others count alike."""

PATCH_DIMS = 256
"""Dimensions of a patch that are kept where they are learnt from a few photos."""

Image = Photo | Path | str | NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PairSetting:
    """How two photos are compared.

    Raises:
        InputError: another number of weights than of sizes.
    """

    patches: PatchSetting = PatchSetting()
    """Which patches are made."""
    matcher: str = "ransac"
    """A name in `dejavlad.rerank.MATCHERS`."""
    weights: tuple[float, ...] = ()
    """What each size counts; none given is as `WEIGHTS` has it, or all alike with sum 1."""

    def __post_init__(self) -> None:
        sizes = self.patches.sizes
        weights = tuple(self.weights) or WEIGHTS.get(sizes, (1 / len(sizes),) * len(sizes))
        if len(weights) != len(sizes) or not np.isfinite(weights).all():
            raise InputError(
                f"patches of {len(sizes)} sizes need as many finite weights; given sizes {list(sizes)} and "
                f"weights {list(weights)}"
            )
        object.__setattr__(self, "weights", weights)


@dataclass(frozen=True, slots=True, eq=False)
class Patched:
    """A photo with its patches."""

    photo: Photo
    patches: list[PatchSet]
    """One set a size."""
    size: tuple[int, int]
    """Height and width of the prepared photo, in whose pixels patches lie."""
    blank: str = ""
    """What there is to see, where the photo shows nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class PairMatch:
    """How well two photos match, and where. The first plays the query."""

    query: Photo
    candidate: Photo
    score: float
    """Larger is better: minus the weighted sum of the scores of all sizes."""
    best: float
    """What the query would score with itself, were all its patches distinct."""
    matches: list[PatchMatch]
    """[S], points in pixels of the prepared photos."""
    sizes: tuple[int, ...]
    """[S] sides of the patches, in cells of the feature map."""
    sides: tuple[float, ...]
    """[S] the same in pixels of the prepared photos."""
    counts: tuple[int, ...]
    """[S] patches of the query."""
    query_size: tuple[int, int]
    """Height and width of the query, prepared."""
    candidate_size: tuple[int, int]
    """Height and width of the candidate, prepared."""
    blank: Mapping[str, str] = field(default_factory=dict)
    """Key -> reason, of those of the two that show nothing: what their patches match then tells nothing."""

    @property
    def inliers(self) -> tuple[int, ...]:
        """[S] patches of the query that match."""
        return tuple(len(match.query_points) for match in self.matches)

    @property
    def agreement(self) -> float:
        """`score` over `best`: 1 for a photo and itself, whatever the matcher."""
        return self.score / self.best if self.best > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = zip(self.sizes, self.counts, self.inliers, self.matches, strict=True)
        return {
            "query": self.query.key,
            "candidate": self.candidate.key,
            "score": self.score,
            "agreement": self.agreement,
            "blank": dict(self.blank),
            "sizes": [
                {
                    "size": size,
                    "patches": count,
                    "inliers": inliers,
                    "score": 0.0 - match.score,
                    "homography": None if match.homography is None else match.homography.tolist(),
                }
                for size, count, inliers, match in rows
            ],
        }


class PairMatcher:
    """Compares photos two by two with one model.

    Args:
        model: fitted, with clusters (NetVLAD).

    Raises:
        InputError: no such matcher.
    """

    def __init__(self, model: PlaceModel, setting: PairSetting = PairSetting()) -> None:
        self.model, self.setting = model, setting
        self._reranker = Reranker(setting.matcher, weights=setting.weights, fusion="sum")

    def look(self, images: Sequence[Image], *, batch_size: int = 2) -> list[Patched]:
        """Photos with their patches; also of those that show nothing (`Patched.blank`).

        Raises:
            PhotoError: a photo cannot be read.
            InputError: it has too few cells for a patch, or the model has no clusters.
        """
        photos = [as_photo(image, row) for row, image in enumerate(images)]
        wanted, preprocess = self.setting.patches, self.model.preprocess
        patches = self.model.encode_patches(
            photos,
            sizes=wanted.sizes,
            strides=wanted.strides,
            dims=wanted.dims,
            batch_size=batch_size,
            keep_blank=True,
        )
        sizes = [preprocess.output_size(*read_size(photo, rotate=preprocess.rotate)) for photo in photos]
        blank = [blank_reason(photo, rotate=preprocess.rotate) for photo in photos]
        return [Patched(*values) for values in zip(photos, patches, sizes, blank, strict=True)]

    def compare(self, query: Patched, candidate: Patched) -> PairMatch:
        """How well two photos match.

        Equivalent to ``match_two`` of match_two.py (Patch-NetVLAD), where the first image plays the query.

        Raises:
            InputError: their patches do not fit each other.
        """
        (matches,) = self._reranker.match(query.patches, [candidate.patches])
        scores_1S = np.array([[match.score for match in matches]])
        best_1S = np.array([[-self._most(patch_set) for patch_set in query.patches]])
        fuse, weights = FUSIONS["sum"], self.setting.weights
        strides = self.setting.patches.strides
        return PairMatch(
            query.photo,
            candidate.photo,
            0.0 - float(fuse(scores_1S, weights)[0]),
            0.0 - float(fuse(best_1S, weights)[0]),
            matches,
            self.setting.patches.sizes,
            tuple(
                patch_set.size * patch_set.step / stride
                for patch_set, stride in zip(query.patches, strides, strict=True)
            ),
            tuple(map(len, query.patches)),
            query.size,
            candidate.size,
            {patched.photo.key: patched.blank for patched in (query, candidate) if patched.blank},
        )

    def _most(self, patch_set: PatchSet) -> float:
        """The score of a photo and itself, larger being better."""
        height, width = patch_set.grid
        return 1.0 if self.setting.matcher == "ransac" else float((height - 1) ** 2 + (width - 1) ** 2)


def match_pair(
    model: PlaceModel, query: Image, candidate: Image, setting: PairSetting = PairSetting()
) -> PairMatch:
    """Two photos, of any size and aspect, compared patch by patch.

    Args:
        model: fitted, with clusters; see `learnt_from`.

    Raises:
        PhotoError: a photo cannot be read.
        InputError: a photo has too few cells for a patch, or the model has no clusters.
    """
    matcher = PairMatcher(model, setting)
    return matcher.compare(*matcher.look([query, candidate]))


def learnt_from(
    model: PlaceModel,
    images: Sequence[Image],
    setting: PatchSetting = PatchSetting(),
    *,
    seed: int = 0,
    workers: int = 0,
    on_progress: OnProgress = silent,
) -> PlaceModel:
    """The model with what it lacks, learnt from these few photos: clusters, and a whitening of the patches.

    What so few photos teach is good for comparing them alone.

    Args:
        model: fitted or not; one that has all is given back as it is.
        setting: the patches that are to be compared; of ``dims`` dimensions where those are learnt,
            `PATCH_DIMS` unless told.

    Raises:
        InputError: nothing can be learnt from the photos, or they have too few cells for a patch.
    """
    photos = [as_photo(image, row) for row, image in enumerate(images)]
    listed = PhotoList({photo.key: photo for photo in photos}.values())
    if not model.fitted:
        model = fit(model, listed, seed=seed, workers=workers, on_progress=on_progress, whiten=False)
    if model.whitening is not None or model.patch_whitening is not None:
        return model
    wanted = replace(setting, dims=setting.dims or PATCH_DIMS)
    return learn_patch_whitening(model.with_dims(None), listed, wanted, on_progress=on_progress)
