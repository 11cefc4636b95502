"""Networks of kornia that make and match local features; the one place here that imports it.

XFeat (Potje et al., CVPR 2024), ALIKED (Zhao et al., TIM 2023), DISK (Tyszkiewicz et al., NeurIPS 2020) and
LightGlue (Lindenberger et al., ICCV 2023). Only their layers are kornia's: weights are read as data by
`weights`, and nothing is downloaded by it.

Shapes: N photos, P points, D numbers a descriptor, H x W pixels of prepared photos.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dejavlad.errors import MissingExtraError
from dejavlad.local.base import LONGEST, POINTS, Found
from dejavlad.local.weights import WEIGHTS, load_strictly, read_named
from dejavlad.progress import OnProgress, silent

DISK_ENTRY = "extractor"
"""The key under which DISK's released file holds the network's tensors."""
LEAST_SIDE = 32
"""Pixels of a prepared photo's shorter side below which no network finds anything."""


def kornia_installed() -> bool:
    """Whether kornia can be imported, without importing it."""
    return find_spec("kornia") is not None


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
        on_progress: told of downloads.

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
        features = _kornia(f"local features by {self.kind}")
        path = (
            Path(weights)
            if weights is not None
            else WEIGHTS[self.kind].fetched(offline=offline, on_progress=on_progress)
        )
        with torch.random.fork_rng(devices=[]):
            self.network = self._made(features, path).to(self.device).eval()
        if self.device.type == "cuda" if bf16 is None else bf16:
            self._to_bf16()

    def _made(self, features: Any, path: Path) -> nn.Module:
        """The network with its weights."""
        raise NotImplementedError

    def _to_bf16(self) -> None:
        """Let the convolutions compute in bfloat16."""

    def _points(self, images_NCHW: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Keypoints [P, 2] of the prepared photos, descriptors [P, D], scores [P]."""
        raise NotImplementedError

    def __call__(self, images_NCHW: NDArray[np.float32]) -> list[Found]:
        """The points of each photo; see `LocalExtractor`."""
        if min(images_NCHW.shape[2:]) < LEAST_SIDE:
            return [self._none() for _ in images_NCHW]
        with torch.inference_mode():
            photos = torch.from_numpy(np.ascontiguousarray(images_NCHW)).to(self.device)
            return [self._found(*of) for of in self._points(photos)]

    def _found(self, keypoints_P2: Tensor, descriptors_PD: Tensor, scores_P: Tensor) -> Found:
        good_P = torch.isfinite(descriptors_PD).all(dim=1) & torch.isfinite(scores_P)
        order_P = torch.argsort(scores_P, descending=True, stable=True)
        order_P = order_P[good_P[order_P]][: self.points]
        unit_PD = nn.functional.normalize(descriptors_PD[order_P].float(), dim=1)
        found = (keypoints_P2[order_P].float(), unit_PD, scores_P[order_P].float())
        return Found(*(of.cpu().numpy() for of in found))

    def _none(self) -> Found:
        empty = np.zeros(0, np.float32)
        return Found(empty.reshape(0, 2), empty.reshape(0, self.dims), empty)


class XFeat(KorniaExtractor):
    """XFeat: 64 numbers a point, quick on a processor. See `KorniaExtractor`."""

    kind = "xfeat"
    dims = 64

    def _made(self, features: Any, path: Path) -> nn.Module:
        made: nn.Module = features.XFeat(top_k=self.points)
        load_strictly(made.get_submodule("net"), read_named(path), path)
        return made

    def _to_bf16(self) -> None:
        self.network.net = _Bf16(self.network.get_submodule("net"))

    def _points(self, images_NCHW: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        height, width = images_NCHW.shape[2:]
        detect: Callable[[Tensor], list[dict[str, Tensor]]] = self.network.detectAndCompute  # type: ignore[assignment]
        # It makes sides multiples of 32 and scales points by first pixels' centres, not by borders.
        by = torch.tensor(
            [side / (max(LEAST_SIDE, side // 32 * 32)) for side in (width, height)], device=self.device
        )
        return [
            (of["keypoints"] + (by - 1) / 2, of["descriptors"], of["scores"]) for of in detect(images_NCHW)
        ]


class Aliked(KorniaExtractor):
    """ALIKED-N(16): 128 numbers a point, by deformable convolutions. See `KorniaExtractor`."""

    kind = "aliked"
    dims = 128

    def _made(self, features: Any, path: Path) -> nn.Module:
        made: nn.Module = features.ALIKED("aliked-n16", max_num_keypoints=self.points)
        load_strictly(made, read_named(path), path)
        return made

    def _points(self, images_NCHW: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [(of.keypoints, of.descriptors, of.keypoint_scores) for of in self.network(images_NCHW)]


class Disk(KorniaExtractor):
    """DISK, its model that learnt from depth: 128 numbers a point. See `KorniaExtractor`."""

    kind = "disk"
    dims = 128

    def _made(self, features: Any, path: Path) -> nn.Module:
        made: nn.Module = features.DISK()
        tensors = read_named(path, entry=DISK_ENTRY)
        load_strictly(made, tensors, path)
        return made

    def _points(self, images_NCHW: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        found = self.network(images_NCHW, n=self.points, pad_if_not_divisible=True)
        return [(of.keypoints, of.descriptors, of.detection_scores) for of in found]


class _Bf16(nn.Module):
    """A network under ``torch.autocast`` to bfloat16, whose answers are float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Its outputs in float32."""
        with torch.autocast(images_NCHW.device.type, dtype=torch.bfloat16):
            made = self.network(images_NCHW)
        return tuple(of.float() for of in made)


GLUED: Final = "lighterglue"


def lighterglue(
    weights: str | Path | None = None, *, offline: bool | None = None, on_progress: OnProgress = silent
) -> nn.Module:
    """LightGlue for XFeat (LighterGlue), with its weights.

    Args:
        weights: a file; default: the released ones.
        offline: never download; default: as configured.
        on_progress: told of downloads.

    Raises:
        MissingExtraError: kornia is not installed.
        CheckpointError: weights that do not fit.
        DownloadError: weights that are not here and cannot be fetched.
    """
    features = _kornia("matching by LightGlue")
    path = (
        Path(weights)
        if weights is not None
        else WEIGHTS[GLUED].fetched(offline=offline, on_progress=on_progress)
    )
    setting = {k: v for k, v in features.LightGlue.features["xfeat"].items() if k != "weights"}
    with torch.random.fork_rng(devices=[]):
        made: nn.Module = features.LightGlue(None, weights=None, **setting)
    # The file also holds XFeat itself; what follows from the setting alone is not among the weights.
    tensors = read_named(path, "matcher")
    tensors["confidence_thresholds"] = made.get_buffer("confidence_thresholds")
    load_strictly(made, tensors, path)
    return made.eval()
