"""Networks of kornia that make and match local features; the one place here that imports it.

XFeat (Potje et al., CVPR 2024), ALIKED (Zhao et al., TIM 2023), DISK (Tyszkiewicz et al., NeurIPS 2020) and
LightGlue (Lindenberger et al., ICCV 2023). Only their layers are kornia's: weights are read as data by
`weights`, and nothing is downloaded by it.

Shapes: N photos, P points, D numbers a descriptor, H x W pixels of prepared photos.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dejavlad.errors import MissingExtraError
from dejavlad.local.base import LONGEST, POINTS, DetectedPoints
from dejavlad.local.weights import WEIGHTS, load_strictly, read_named
from dejavlad.local.xfeat_network import XFeatDetector, XFeatNetwork
from dejavlad.progress import OnProgress, silent

LEAST_SIDE = 32
"""Pixels of a prepared photo's shorter side below which no network finds anything."""


def _kornia(what: str) -> Any:
    try:
        import kornia.feature
    except ImportError:
        raise MissingExtraError(what, "local") from None
    return kornia.feature


class KorniaExtractor:
    """Local features by a network of kornia.

    Args:
        weights: a file; default: the released ones (see `weights.LocalWeights.fetched`).
        points: kept of a photo, at most.
        longest: pixels of the longer side of prepared photos.
        device: where it computes.
        bf16: the convolutions compute in bfloat16; default: on CUDA, where that is faster.
        offline: never download; default: as configured.
        on_progress: called with reports of downloads.

    Raises:
        MissingExtraError: kornia is not installed.
        CheckpointError: weights that do not fit.
        DownloadError: weights that are not here and cannot be fetched.
    """

    kind: str
    dims: int

    def __init__(
        self,
        *,
        weights: str | Path | None = None,
        points: int = POINTS,
        longest: int = LONGEST,
        device: torch.device | str = "cpu",
        bf16: bool | None = None,
        offline: bool | None = None,
        on_progress: OnProgress = silent,
    ) -> None:
        self.points, self.longest = points, longest
        self.device = torch.device(device)
        features = self._layers()
        path = WEIGHTS[self.kind].fetched(weights, offline=offline, on_progress=on_progress)
        with torch.random.fork_rng(devices=[]):
            self.network = self._made(features, path).to(self.device).eval()
        if self.device.type == "cuda" if bf16 is None else bf16:
            self._to_bf16()

    def _layers(self) -> Any:
        """Where the layers come from."""
        return _kornia(f"local features by {self.kind}")

    def _made(self, features: Any, path: Path) -> nn.Module:
        """The network with its weights."""
        raise NotImplementedError

    def _to_bf16(self) -> None:
        """Let the convolutions compute in bfloat16."""

    def _points(self, images_NCHW: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Keypoints [P, 2] of the prepared photos, descriptors [P, D], scores [P]."""
        raise NotImplementedError

    def __call__(self, images_NCHW: NDArray[np.float32]) -> list[DetectedPoints]:
        """The points of each photo; see `LocalExtractor`."""
        if min(images_NCHW.shape[2:]) < LEAST_SIDE:
            return [self._none() for _ in images_NCHW]
        with torch.inference_mode():
            photos = torch.from_numpy(np.ascontiguousarray(images_NCHW)).to(self.device)
            return [self._best_points(*points) for points in self._points(photos)]

    def _best_points(self, keypoints_P2: Tensor, descriptors_PD: Tensor, scores_P: Tensor) -> DetectedPoints:
        good_P = torch.isfinite(descriptors_PD).all(dim=1) & torch.isfinite(scores_P)
        order_P = torch.argsort(scores_P, descending=True, stable=True)
        order_P = order_P[good_P[order_P]][: self.points]
        unit_PD = nn.functional.normalize(descriptors_PD[order_P].float(), dim=1)
        tensors = (keypoints_P2[order_P].float(), unit_PD, scores_P[order_P].float())
        return DetectedPoints(*(tensor.cpu().numpy() for tensor in tensors))

    def _none(self) -> DetectedPoints:
        empty = np.zeros(0, np.float32)
        return DetectedPoints(empty.reshape(0, 2), empty.reshape(0, self.dims), empty)


class XFeat(KorniaExtractor):
    """XFeat (CVPR 2024), its layers our own: 64 numbers a point, quick; else as `KorniaExtractor`."""

    kind = "xfeat"
    dims = 64
    network: XFeatDetector

    def _layers(self) -> Any:
        return None

    def _made(self, features: Any, path: Path) -> nn.Module:
        network = XFeatNetwork()
        load_strictly(network, read_named(path), path)
        return XFeatDetector(network.folded())

    def _to_bf16(self) -> None:
        self.network.net = _Bf16(self.network.net)

    def _points(self, images_NCHW: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        made: list[tuple[Tensor, Tensor, Tensor]] = self.network(images_NCHW, self.points)
        return made


class Aliked(KorniaExtractor):
    """ALIKED-N(16) (2023): 128 numbers a point, by deformable convolutions; else as `KorniaExtractor`."""

    kind = "aliked"
    dims = 128

    def _made(self, features: Any, path: Path) -> nn.Module:
        made: nn.Module = features.ALIKED("aliked-n16", max_num_keypoints=self.points)
        load_strictly(made, read_named(path), path)
        return made

    def _points(self, images_NCHW: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [
            (points.keypoints, points.descriptors, points.keypoint_scores)
            for points in self.network(images_NCHW)
        ]


class Disk(KorniaExtractor):
    """DISK (NeurIPS 2020) as learnt from depth: 128 numbers a point; else as `KorniaExtractor`."""

    kind = "disk"
    dims = 128

    def _made(self, features: Any, path: Path) -> nn.Module:
        made: nn.Module = features.DISK()
        load_strictly(made, read_named(path), path)
        return made

    def _points(self, images_NCHW: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        detected = self.network(images_NCHW, n=self.points, pad_if_not_divisible=True)
        return [(points.keypoints, points.descriptors, points.detection_scores) for points in detected]


class _Bf16(nn.Module):
    """A network under ``torch.autocast`` to bfloat16, whose answers are float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Its outputs in float32."""
        with torch.autocast(images_NCHW.device.type, dtype=torch.bfloat16):
            made = self.network(images_NCHW)
        return tuple(output.float() for output in made)


def lighterglue(
    weights: str | Path | None = None, *, offline: bool | None = None, on_progress: OnProgress = silent
) -> nn.Module:
    """LightGlue for XFeat (LighterGlue), with its weights.

    Args:
        weights: a file; default: the released ones.
        offline: never download; default: as configured.
        on_progress: called with reports of downloads.

    Raises:
        MissingExtraError: kornia is not installed.
        CheckpointError: weights that do not fit.
        DownloadError: weights that are not here and cannot be fetched.
    """
    features = _kornia("matching by LightGlue")
    path = WEIGHTS["lighterglue"].fetched(weights, offline=offline, on_progress=on_progress)
    setting = {k: v for k, v in features.LightGlue.features["xfeat"].items() if k != "weights"}
    with torch.random.fork_rng(devices=[]):
        made: nn.Module = features.LightGlue(None, weights=None, **setting)
    # The file also holds XFeat itself; what follows from the setting alone is not among the weights.
    tensors = read_named(path, "matcher")
    tensors["confidence_thresholds"] = made.get_buffer("confidence_thresholds")
    load_strictly(made, tensors, path)
    return made.eval()
